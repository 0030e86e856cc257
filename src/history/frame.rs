//! What is the same of all windows between two readings, where nothing but the CPU wait moved, and where every wait was seen or
//! none ever is. So it is of most spans of a request: only the CPU wait is asked for anew then.

use super::chunk::Cut;
use super::entry::Entry;
use super::overlay::Events;
use super::series::Series;
use super::sight::Sight;
use super::slice::{Around, Near, around};
use super::waits::Waits;
use crate::model::{Mono, Subject, Window};

/// Some windows, and what is the same of them.
#[derive(Debug)]
pub(super) struct Frame<'s> {
    /// Where they begin, both ends inclusive.
    starts: Cut,
    /// And end.
    ends: Cut,
    /// `None`: more than the CPU wait differs.
    same: Option<Same<'s>>,
}

/// What is the same, and what answers the rest.
#[derive(Debug)]
pub(super) struct Same<'s> {
    window: Window,
    answers: Answers<'s>,
}

#[derive(Debug)]
enum Answers<'s> {
    Waits(&'s Waits, &'s Sight),
    Readings(&'s Series, Around),
}

impl<'s> Frame<'s> {
    /// The windows like one of which `window` tells; `None` where it does not lie between readings. `sight` and `known_from`: as
    /// [`Events::of`] is told.
    pub(super) fn around(
        window: &Window,
        entry: &'s Entry,
        (sight, container): (&'s Sight, Option<Subject>),
        known_from: u64,
        (start, end): (Mono, Mono),
        near: &mut Near,
    ) -> Option<Self> {
        let around = around(&entry.series, start, end, near)?;
        let (mut starts, mut ends) = (around.starts, around.ends);
        let whole = Cut { start: starts.start, end: ends.end };
        let answers = if !around.only_cpu_moved || entry.lacks_something() {
            None
        } else if sight.is_blind() {
            Some(Answers::Readings(&entry.series, around))
        } else {
            let seen = sight.all_seen_around(Cut { start: start.0, end: end.0 }, whole, known_from, container);
            let waits = entry.single_waits().zip(seen).filter(|(waits, seen)| waits.only_cpu_in(*seen));
            waits.map(|(waits, seen)| {
                (starts, ends) = (seen, seen);
                Answers::Waits(waits, sight)
            })
        };
        let same = answers.map(|answers| Same { window: Window { stalls: Vec::new(), culprit: None, ..window.clone() }, answers });
        Some(Self { starts, ends, same })
    }

    /// Whether this is one of the windows.
    #[inline]
    pub(super) fn holds(&self, start: Mono, end: Mono) -> bool {
        (self.starts.start..=self.starts.end).contains(&start.0) && (self.ends.start..=self.ends.end).contains(&end.0)
    }

    /// What is the same of all of them.
    pub(super) fn same(&self) -> Option<&Same<'s>> {
        self.same.as_ref()
    }
}

impl<'s> Same<'s> {
    /// Writes what is the same and what readings answer; tells what answers the rest.
    #[inline]
    pub(super) fn onto(&self, window: &mut Window, start: Mono, end: Mono) -> Option<Events<'s>> {
        window.become_like(&self.window);
        match &self.answers {
            Answers::Waits(waits, sight) => Some(Events::of_all(waits, sight, Cut { start: start.0, end: end.0 })),
            Answers::Readings(series, around) => {
                around.cpu_onto(window, series, start, end);
                None
            }
        }
    }
}
