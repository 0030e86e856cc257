//! What a span asks: the window of one subject, or of several as one.

use super::chunk::Cut;
use super::merge::merge;
use super::overlay::{View, union};
use super::slice::{between, share};
use super::store::Store;
use super::tally::{Blames, Picks};
use crate::model::{Culprit, DelayKind, Mono, Stall, Subject, Wall, Window};

/// Of all waiting, a culprit that is named has at least this share.
const LEAST_SHARE: f64 = 0.1;

impl Store {
    /// What happened to a subject between two instants of the wall clock. Missing (zero) or reversed times, a subject
    /// that was never read, and times outside of what is known answer with coverage 0 and nothing known.
    #[must_use]
    pub fn window(&self, subject: Subject, start: Wall, end: Wall) -> Window {
        self.window_of(&[subject], start, end)
    }

    /// The same of several subjects as one, the containers of a pod: what one's waiting has to do with another's
    /// running is taken into account, which [`merge`] cannot.
    #[must_use]
    pub fn window_of(&self, subjects: &[Subject], start: Wall, end: Wall) -> Window {
        if start.0 == 0 || end < start {
            return Window::default();
        }
        match (self.to_mono(start), self.to_mono(end)) {
            (Some(start), Some(end)) => self.window_of_mono(subjects, start, end),
            _ => Window::default(),
        }
    }

    /// [`Store::window`] between two instants of the readings' own clock.
    #[must_use]
    pub fn window_mono(&self, subject: Subject, start: Mono, end: Mono) -> Window {
        self.window_of_mono(&[subject], start, end)
    }

    /// [`Store::window_of`] between two instants of the readings' own clock.
    #[must_use]
    pub fn window_of_mono(&self, subjects: &[Subject], start: Mono, end: Mono) -> Window {
        if start > end {
            return Window::default();
        }
        match subjects {
            [only] => self.one(*only, start, end),
            several => self.several(several, start, end),
        }
    }

    fn one(&self, subject: Subject, start: Mono, end: Mono) -> Window {
        let Some(view) = self.view(subject, start, end) else { return Window::default() };
        let mut picks = Picks::new(self.stalls.most, self.stalls.least_ns, &[]);
        let mut window = view.window(&mut picks);
        if view.has_events() {
            self.blame(&mut window, std::slice::from_ref(&view), &[]);
            window.stalls = self.stalls_of(&picks);
        }
        window
    }

    fn several(&self, subjects: &[Subject], start: Mono, end: Mono) -> Window {
        let views: Vec<Option<View<'_>>> = subjects.iter().map(|subject| self.view(*subject, start, end)).collect();
        let own = self.names.keys_of(subjects);
        let mut picks = Picks::new(self.stalls.most, self.stalls.least_ns, &own);
        let mut window_of = |view: &Option<View<'_>>| view.as_ref().map(|view| view.window(&mut picks)).unwrap_or_default();
        let mut merged = merge(views.iter().map(&mut window_of).collect());
        let seen: Vec<View<'_>> = views.into_iter().flatten().filter(View::has_events).collect();
        if !seen.is_empty() && seen.len() == subjects.len() {
            merged.stalled_ns = Some(union(seen.iter().map(View::parts).collect()));
            self.blame(&mut merged, &seen, &own);
            merged.stalls = self.stalls_of(&picks);
        }
        merged
    }

    /// What is known of a subject. A task of which nothing is known never waited, where all waits are seen.
    fn view(&self, subject: Subject, start: Mono, end: Mono) -> Option<View<'_>> {
        let entry = self.entries.get(&subject);
        if entry.is_none() && !matches!(subject, Subject::Task(_)) {
            return None;
        }
        let cut = Cut { start: start.0, end: end.0 };
        let polled = entry.and_then(|entry| {
            entry.series.note_asked(self.now);
            between(&entry.series, start, end)
        });
        let waits = entry.and_then(|entry| entry.single_waits());
        let unseen = entry.is_none_or(|entry| entry.known_from(self.forgotten, self.some_subjects).is_none()) && self.some_subjects;
        let known_from = if unseen { u64::MAX } else { waits.map_or(self.forgotten, |waits| waits.known_from()) };
        Some(View::new(polled, waits, &self.sight, known_from, cut))
    }

    /// Names the culprit, and counts as own what ran in the scope itself.
    fn blame(&self, window: &mut Window, views: &[View<'_>], own: &[u32]) {
        let waited = window.delay_ns.get(DelayKind::Cpu).unwrap_or(0);
        if waited == 0 {
            return;
        }
        let mut blames = Blames::new(own);
        views.iter().for_each(|view| view.blame(&mut blames));
        if blames.recount() {
            views.iter().for_each(|view| view.blame(&mut blames));
        }
        let moved = blames.own_ns.min(window.neighbor_ns.unwrap_or(0));
        window.neighbor_ns = window.neighbor_ns.map(|ns| ns.saturating_sub(moved));
        window.self_ns = window.self_ns.map(|ns| ns.saturating_add(moved));
        let Some((key, ns)) = blames.largest() else { return };
        let share = share(ns, waited);
        if share >= LEAST_SHARE {
            window.culprit = self.names.name(key).map(|name| Culprit { name: name.to_owned(), share });
        }
    }

    fn stalls_of(&self, picks: &Picks<'_>) -> Vec<Stall> {
        let name = |key: Option<u32>| key.and_then(|key| self.names.name(key)).map(str::to_owned);
        let picks = picks.as_slice().iter();
        picks
            .map(|pick| Stall { begin: Mono(pick.begin), duration_ns: pick.duration, kind: pick.kind, culprit: name(pick.culprit) })
            .collect()
    }
}
