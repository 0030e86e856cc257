//! What must be remembered between collections.

use std::collections::HashMap;

use crate::model::{ContainerKey, Mono, Wall};
use crate::otlp::metric_names::Metric;

/// A container is forgotten when this many collections passed without it: one that is missing from a single snapshot keeps its
/// counters' floors.
const FORGET_AFTER: u64 = 6;

/// State of the encoder, kept by the caller from one collection to the next.
#[derive(Debug, Default)]
pub struct Memory {
    collection: u64,
    containers: HashMap<ContainerKey, ResourceMemory>,
    host: ResourceMemory,
    agent: ResourceMemory,
}

impl Memory {
    pub(super) fn begin(&mut self) {
        self.collection = self.collection.saturating_add(1);
        self.host.cursor = 0;
        self.agent.cursor = 0;
    }

    pub(super) fn container(&mut self, key: ContainerKey) -> &mut ResourceMemory {
        let resource = self.containers.entry(key).or_default();
        resource.seen = self.collection;
        resource.cursor = 0;
        resource
    }

    pub(super) fn host(&mut self) -> &mut ResourceMemory {
        &mut self.host
    }

    pub(super) fn agent(&mut self) -> &mut ResourceMemory {
        &mut self.agent
    }

    pub(super) fn end(&mut self) {
        let now = self.collection;
        self.containers.retain(|_, resource| now.saturating_sub(resource.seen) < FORGET_AFTER);
    }

    /// Containers remembered.
    #[must_use]
    pub fn containers(&self) -> usize {
        self.containers.len()
    }
}

/// What is remembered of one resource.
#[derive(Debug, Default)]
pub(super) struct ResourceMemory {
    seen: u64,
    /// Last values, in the order in which they were first sent, which is nearly always the order in which they are asked for.
    series: Vec<Series>,
    cursor: usize,
    /// When the CPU time was read last, and what it was.
    pub(super) cpu: Option<(Mono, u64)>,
}

/// One counter series.
#[derive(Clone, Copy, Debug)]
struct Series {
    metric: &'static Metric,
    point: u32,
    start: Wall,
    value: u64,
}

/// A counter as it may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) start: Wall,
    pub(super) value: u64,
    pub(super) held_back: bool,
}

impl ResourceMemory {
    /// The value that may be sent: never below the last one under the same start. A series keeps the start it was first sent
    /// with, so that consumers see no reset where there was none; a fall together with a later start is a new beginning.
    pub(super) fn hold(&mut self, metric: &'static Metric, point: u32, start: Wall, value: u64) -> Held {
        let known = self.find(metric, point);
        let Some(series) = known.and_then(|index| self.series.get_mut(index)) else {
            self.series.push(Series { metric, point, start, value });
            self.cursor = self.series.len();
            return Held { start, value, held_back: false };
        };
        let mut held_back = false;
        if value >= series.value {
            series.value = value;
        } else if start > series.start {
            *series = Series { start, value, ..*series };
        } else {
            held_back = true;
        }
        Held { start: series.start, value: series.value, held_back }
    }

    fn find(&mut self, metric: &'static Metric, point: u32) -> Option<usize> {
        let is_it = |series: &Series| std::ptr::eq(series.metric, metric) && series.point == point;
        let index = if self.series.get(self.cursor).is_some_and(is_it) { Some(self.cursor) } else { self.series.iter().position(is_it) };
        if let Some(index) = index {
            self.cursor = index.saturating_add(1);
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::otlp::metric_names::{CONTAINER_CPU_PERIODS, CONTAINER_DELAYS};

    #[track_caller]
    fn check(held: Held, start: u64, value: u64, held_back: bool) {
        assert_eq!(held, Held { start: Wall(start), value, held_back });
    }

    #[test]
    fn a_counter_that_falls_is_held_at_its_last_value() {
        let mut memory = ResourceMemory::default();
        check(memory.hold(&CONTAINER_CPU_PERIODS, 0, Wall(5), 10), 5, 10, false);
        check(memory.hold(&CONTAINER_CPU_PERIODS, 0, Wall(5), 7), 5, 10, true);
        check(memory.hold(&CONTAINER_CPU_PERIODS, 0, Wall(5), 11), 5, 11, false);
    }

    #[test]
    fn a_fall_with_a_later_start_is_a_new_life() {
        let mut memory = ResourceMemory::default();
        memory.hold(&CONTAINER_CPU_PERIODS, 0, Wall(5), 10);
        check(memory.hold(&CONTAINER_CPU_PERIODS, 0, Wall(9), 3), 9, 3, false);
    }

    #[test]
    fn a_start_that_wanders_is_kept_where_the_counter_did_not_fall() {
        let mut memory = ResourceMemory::default();
        memory.hold(&CONTAINER_CPU_PERIODS, 0, Wall(5), 10);
        check(memory.hold(&CONTAINER_CPU_PERIODS, 0, Wall(4), 12), 5, 12, false);
        check(memory.hold(&CONTAINER_CPU_PERIODS, 0, Wall(8), 12), 5, 12, false);
    }

    #[test]
    fn series_are_told_apart_by_metric_and_point_in_any_order() {
        let mut memory = ResourceMemory::default();
        memory.hold(&CONTAINER_DELAYS, 0, Wall(0), 1);
        memory.hold(&CONTAINER_DELAYS, 1, Wall(0), 2);
        memory.hold(&CONTAINER_CPU_PERIODS, 0, Wall(0), 3);
        memory.cursor = 0;
        check(memory.hold(&CONTAINER_CPU_PERIODS, 0, Wall(0), 0), 0, 3, true);
        check(memory.hold(&CONTAINER_DELAYS, 1, Wall(0), 0), 0, 2, true);
        check(memory.hold(&CONTAINER_DELAYS, 0, Wall(0), 0), 0, 1, true);
        assert_eq!(memory.series.len(), 3);
    }

    #[test]
    fn containers_are_forgotten_after_a_while_but_not_at_once() {
        let mut memory = Memory::default();
        memory.begin();
        memory.container(ContainerKey(1));
        memory.end();
        for _ in 0..FORGET_AFTER {
            assert_eq!(memory.containers(), 1);
            memory.begin();
            memory.end();
        }
        assert_eq!(memory.containers(), 0);
    }

    proptest! {
        /// Under one start nothing that is sent is ever below what was sent before.
        #[test]
        fn never_backwards_under_one_start(readings in prop::collection::vec((0u64..3, 0u64..20), 1..30)) {
            let mut memory = ResourceMemory::default();
            let mut last: Option<Held> = None;
            for (start, value) in readings {
                memory.cursor = 0;
                let held = memory.hold(&CONTAINER_CPU_PERIODS, 0, Wall(start), value);
                if let Some(last) = last {
                    prop_assert!(held.start > last.start || (held.start == last.start && held.value >= last.value));
                }
                last = Some(held);
            }
        }
    }
}
