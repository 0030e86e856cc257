//! One answer out of both: single waits where they were seen, polled totals for everything else.

use smallvec::SmallVec;

use super::chunk::Cut;
use super::sight::{Seen, Sight};
use super::slice::share;
use super::tally::{Blames, Measured, Picks};
use super::waits::{Found, KINDS, Waits};
use crate::model::{DelayKind, EventFields, Evidence, Subject, Window};

/// Of a window, one part in this many must have been seen, or it is judged by what was polled.
const LEAST_SEEN_PART: u64 = 2;

/// As many subjects are looked at together without memory from the heap: hardly a pod has more containers.
pub(super) const USUAL_VIEWS: usize = 8;

/// Least coverage with which polled kinds stand beside seen ones. Below, they are absent rather than far too small.
const LEAST_POLLED: f64 = 0.5;

/// What is known of one subject in one window, not yet added up.
pub(super) struct View<'a> {
    polled: Option<Window>,
    events: Option<Events<'a>>,
}

/// Where single waits answer.
pub(super) struct Events<'a> {
    /// `None`: it never waited.
    waits: Option<&'a Waits>,
    cut: Cut,
    length: u64,
    seen: Seen,
    fields: EventFields,
}

impl<'a> View<'a> {
    /// `polled`: what the readings say. `known_from`: before it, single waits were forgotten.
    /// `sight`: when waits were seen, and the container of which something lost was lost of this subject.
    pub(super) fn new(
        mut polled: Option<Window>,
        waits: Option<&'a Waits>,
        sight: (&Sight, Option<Subject>),
        known_from: u64,
        cut: Cut,
    ) -> Self {
        let events = Events::of(polled.as_mut(), waits, sight, known_from, cut);
        Self { polled, events }
    }

    /// Whether single waits answer.
    pub(super) fn has_events(&self) -> bool {
        self.events.is_some()
    }

    /// The window but for stalls and culprit: `picks` has the former, [`View::blame`] tells the latter. To be asked once.
    pub(super) fn window(&mut self, picks: &mut Picks<'_>) -> Window {
        match &self.events {
            None => self.polled.take().unwrap_or_default(),
            Some(events) => {
                let polled = self.polled.take();
                let (known, mut window) = (polled.is_some(), polled.unwrap_or_default());
                events.onto(&mut window, known, picks);
                window
            }
        }
    }

    /// Adds who ran while it waited for a CPU.
    pub(super) fn blame(&self, blames: &mut Blames<'_>) {
        if let Some(events) = &self.events {
            events.blame(blames);
        }
    }

    /// The parts of its waits for a CPU, by begin, those in progress as one.
    pub(super) fn parts(&self) -> impl Iterator<Item = (u64, u64)> {
        let of = self.events.as_ref().and_then(|events| events.waits.map(|waits| (waits, events.cut)));
        let open = of.and_then(|(waits, cut)| waits.open_part(cut)).map(|open| (open.start, open.end));
        let ended = of.map(|(waits, cut)| waits.cpu().parts(cut)).into_iter().flatten();
        in_order(ended, open)
    }
}

/// `one` among `many`, by begin.
fn in_order(many: impl Iterator<Item = (u64, u64)>, one: Option<(u64, u64)>) -> impl Iterator<Item = (u64, u64)> {
    let (mut many, mut one) = (many.peekable(), one);
    std::iter::from_fn(move || match (many.peek(), one) {
        (Some(next), Some(other)) if other.0 < next.0 => one.take(),
        (Some(_), _) => many.next(),
        (None, _) => one.take(),
    })
}

impl<'a> Events<'a> {
    /// What single waits answer; `None`: the readings do. The coverage of these is lowered where single waits were lost.
    pub(super) fn of(
        polled: Option<&mut Window>,
        waits: Option<&'a Waits>,
        (sight, container): (&Sight, Option<Subject>),
        known_from: u64,
        cut: Cut,
    ) -> Option<Self> {
        let length = cut.end - cut.start;
        let seen = sight.seen(cut, known_from, container);
        let enough = if length == 0 { seen.instant } else { seen.ns > 0 && seen.ns >= length / LEAST_SEEN_PART };
        let any = if length == 0 { seen.instant } else { seen.ns > 0 };
        // Readings go on where single waits were lost: such time counts half, so that whoever looks at the span knows.
        let lost = sight.lost(cut, known_from, container);
        let none_polled = polled.is_none();
        if let (Some(polled), 1..) = (polled, lost) {
            polled.coverage = polled.coverage.min(1.0 - share(lost, length) / 2.0);
        }
        let cut = Cut { start: cut.start.max(known_from).min(cut.end), end: cut.end };
        (enough || any && none_polled).then(|| Self { waits, cut, length, seen, fields: sight.fields() })
    }

    /// What single waits answer where all of them were seen.
    #[inline]
    pub(super) fn of_all(waits: &'a Waits, sight: &Sight, cut: Cut) -> Self {
        let length = cut.end - cut.start;
        Self { waits: Some(waits), cut, length, seen: Seen { ns: length, hole: 0, instant: true }, fields: sight.fields() }
    }

    /// Writes the waits for a CPU, and nothing else.
    #[inline]
    pub(super) fn cpu_onto(&self, window: &mut Window, picks: &mut Picks<'_>) {
        let (cpu, rest) = self.waits.map(|waits| waits.find_cpu(self.cut, picks)).unwrap_or_default();
        let throttled = window.throttled_ns.take();
        self.cpu(window, cpu, rest, throttled);
    }

    /// Writes onto what the readings say, where they say anything, what single waits do; stalls and culprit are left to others.
    pub(super) fn onto(&self, window: &mut Window, polled: bool, picks: &mut Picks<'_>) {
        let polled = polled && window.coverage >= LEAST_POLLED;
        if !polled {
            window.clear();
        }
        let seen = if self.length == 0 { 1.0 } else { share(self.seen.ns, self.length) };
        let found = self.waits.map(|waits| waits.find(self.cut, picks)).unwrap_or_default();
        let throttled = window.throttled_ns.take();
        window.run_ns = None;
        window.coverage = if polled { window.coverage.min(seen) } else { seen };
        window.resolution_ns = self.resolution(polled.then_some(window.resolution_ns));
        window.evidence = Some(Evidence::Bpf);
        self.memory(window, &found);
        let ([cpu, ..], [rest, ..]) = (found.measured, found.rest);
        self.cpu(window, cpu, rest, throttled);
    }

    /// Adds who ran while it waited for a CPU.
    pub(super) fn blame(&self, blames: &mut Blames<'_>) {
        if let Self { waits: Some(waits), cut, fields: EventFields { culprits: true, .. }, .. } = self {
            waits.blame(*cut, blames);
        }
    }

    fn memory(&self, window: &mut Window, found: &Found) {
        if self.fields.memory {
            for ((kind, measured), rest) in KINDS.into_iter().zip(found.measured).zip(found.rest).skip(1) {
                window.delay_ns.set(kind, Some(waited(measured, rest)));
            }
        }
    }

    /// `polled`: the throttled part as the readings tell it.
    fn cpu(&self, window: &mut Window, cpu: Measured, rest: Option<u64>, polled: Option<u64>) {
        window.delay_ns.set(DelayKind::Cpu, Some(waited(cpu, rest)));
        window.stalled_ns = Some(cpu.stalled);
        window.longest_wait_ns = Some(cpu.longest);
        if self.fields.throttled {
            window.throttled_ns = Some(cpu.sums.throttled);
        } else {
            let waited = window.delay_ns.get(DelayKind::Cpu);
            window.throttled_ns = polled.map(|ns| ns.min(waited.unwrap_or(ns)));
        }
        if self.fields.culprits {
            window.neighbor_ns = Some(cpu.sums.neighbor);
            window.self_ns = Some(cpu.sums.own);
        }
    }

    /// 0 where all was seen, else what else there is to go by: the readings, or how long nothing was seen.
    fn resolution(&self, polled: Option<u64>) -> u64 {
        match polled {
            _ if self.seen.hole == 0 => 0,
            Some(polled) => polled,
            None => self.seen.hole,
        }
    }
}

fn waited(measured: Measured, rest: Option<u64>) -> u64 {
    measured.sums.waited.saturating_add(rest.unwrap_or(0))
}

/// Time in which any of several waits: `parts` of each by begin.
pub(super) fn union(parts: impl Iterator<Item: Iterator<Item = (u64, u64)>>) -> u64 {
    let mut parts: SmallVec<[_; USUAL_VIEWS]> = parts.collect();
    let mut heads: SmallVec<[Option<(u64, u64)>; USUAL_VIEWS]> = parts.iter_mut().map(Iterator::next).collect();
    let (mut stalled, mut until) = (0, 0);
    let next = |heads: &[Option<(u64, u64)>]| heads.iter().enumerate().filter_map(|(place, head)| Some(((*head)?, place))).min();
    while let Some(((begin, end), place)) = next(&heads) {
        stalled += end.saturating_sub(begin.max(until));
        until = until.max(end);
        if let (Some(head), Some(parts)) = (heads.get_mut(place), parts.get_mut(place)) {
            *head = parts.next();
        }
    }
    stalled
}
