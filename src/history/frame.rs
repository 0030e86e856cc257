//! What is the same of all windows between two readings, where every wait was seen and nothing but the CPU wait moved. So it is of most spans of a request: only the CPU wait is asked for anew then.

use super::chunk::Cut;
use super::entry::Entry;
use super::overlay::Events;
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

/// What is the same.
#[derive(Debug)]
pub(super) struct Same<'s> {
    window: Window,
    waits: &'s Waits,
    sight: &'s Sight,
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
        let Around { starts, ends, only_cpu_moved } = around(&entry.series, start, end, near)?;
        let waits = entry.single_waits().filter(|_| only_cpu_moved && !entry.lacks_something());
        let inner = Cut { start: start.0, end: end.0 };
        let whole = Cut { start: starts.start, end: ends.end };
        let seen = waits.zip(sight.all_seen_around(inner, whole, known_from, container));
        let Some((waits, seen)) = seen.filter(|(waits, seen)| waits.only_cpu_in(*seen)) else {
            return Some(Self { starts, ends, same: None });
        };
        let window = Window { stalls: Vec::new(), culprit: None, ..window.clone() };
        Some(Self { starts: seen, ends: seen, same: Some(Same { window, waits, sight }) })
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
    /// Writes what is the same, and tells what answers the rest.
    #[inline]
    pub(super) fn onto(&self, window: &mut Window, cut: Cut) -> Events<'s> {
        window.clone_from(&self.window);
        Events::of_all(self.waits, self.sight, cut)
    }
}
