//! Threads that waited of late, by the numbers that they have in their containers: a span may name one that ended before
//! anybody read the threads of its process. Pure.

use std::collections::{HashMap, VecDeque};

use crate::model::{ContainerKey, ProcessKey, TaskKey};

/// Threads remembered; of more, those seen first are forgotten.
const MOST: usize = 4_096;

/// One thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) task: TaskKey,
    pub(super) process: ProcessKey,
    /// Its start, nanoseconds of `CLOCK_BOOTTIME`.
    pub(super) started_ns: u64,
}

/// Those who had a number in a container, the last one of each number.
#[derive(Debug, Default)]
pub(super) struct Past {
    by_number: HashMap<(ContainerKey, u32), Seen>,
    order: VecDeque<(ContainerKey, u32)>,
}

impl Past {
    /// A thread waited. A number that it had from another stands for it now.
    pub(super) fn note(&mut self, container: ContainerKey, own_tid: u32, seen: Seen) {
        let key = (container, own_tid);
        // Nobody has the number 0: it was not known.
        if own_tid == 0 || self.by_number.insert(key, seen).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_number.remove(&oldest);
        }
    }

    /// Who had this number there.
    pub(super) fn find(&self, container: ContainerKey, own_tid: u32) -> Option<Seen> {
        self.by_number.get(&(container, own_tid)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(tid: u32) -> Seen {
        Seen { task: TaskKey { tid, start_ticks: 1 }, process: ProcessKey { pid: 1, start_ticks: 1 }, started_ns: 7 }
    }

    #[test]
    fn the_last_who_had_a_number_is_found_and_the_oldest_are_forgotten() {
        let (mut past, here) = (Past::default(), ContainerKey(1));
        past.note(here, 7, seen(100));
        past.note(here, 7, seen(101));
        past.note(here, 0, seen(102));
        assert_eq!((past.find(here, 7), past.find(here, 0), past.find(ContainerKey(2), 7)), (Some(seen(101)), None, None));
        for number in 8..8 + u32::try_from(MOST).unwrap() {
            past.note(here, number, seen(number));
        }
        assert_eq!((past.find(here, 7), past.find(here, 8)), (None, Some(seen(8))));
        assert_eq!((past.by_number.len(), past.order.len()), (MOST, MOST));
    }
}
