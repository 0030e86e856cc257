//! What the programs counted of one container, since it has a slot, in numbers that do not wrap. Pure.

use std::collections::BTreeMap;

use super::bpf::{BUCKET_SCALE, BUCKETS, Buckets, FIRST_BUCKET, MemoryTotals, Offer, SlotTotals, ThrottleClock};
use super::ledger::{Culprit, Ledger};
use crate::model::{Blamed, CulpritKind, DelayKind, Durations, SingleWaits, Totals, Wall};

/// Durations of one kind.
#[derive(Clone, Debug)]
struct Tally {
    last: Buckets,
    base_ns: u64,
    below: u64,
    counts: [u64; BUCKETS],
    sum_ns: u64,
}

impl Tally {
    const fn from(buckets: Buckets, ns: u64) -> Self {
        Self { last: buckets, base_ns: ns, below: 0, counts: [0; BUCKETS], sum_ns: 0 }
    }

    fn observe(&mut self, buckets: &Buckets, ns: u64) {
        let grown = buckets.since(&self.last);
        self.last = *buckets;
        self.below = self.below.saturating_add(u64::from(grown.below));
        for (sum, grown) in self.counts.iter_mut().zip(grown.counts) {
            *sum = sum.saturating_add(u64::from(grown));
        }
        self.sum_ns = ns.saturating_sub(self.base_ns).max(self.sum_ns);
    }

    fn told(&self) -> Durations {
        Durations { scale: BUCKET_SCALE, first: FIRST_BUCKET, below: self.below, counts: self.counts.to_vec(), sum_ns: self.sum_ns }
    }
}

/// One container's.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    since: Wall,
    base: SlotTotals,
    now: SlotTotals,
    cpu: Tally,
    memory: [Tally; 2],
    ledger: Ledger,
}

impl Counted {
    /// From here on. What the slot holds already is not this container's.
    pub(super) fn from(since: Wall, totals: SlotTotals, (reclaim, compaction): (MemoryTotals, MemoryTotals)) -> Self {
        Self {
            since,
            base: totals,
            now: totals,
            cpu: Tally::from(totals.buckets, totals.wait_ns),
            memory: [reclaim, compaction].map(|kind| Tally::from(kind.buckets, kind.ns)),
            ledger: Ledger::default(),
        }
    }

    /// Takes what the slot holds now.
    pub(super) fn observe(&mut self, totals: SlotTotals, (reclaim, compaction): (MemoryTotals, MemoryTotals)) {
        self.cpu.observe(&totals.buckets, totals.wait_ns);
        for (tally, kind) in self.memory.iter_mut().zip([reclaim, compaction]) {
            tally.observe(&kind.buckets, kind.ns);
        }
        self.now = totals;
    }

    /// Takes who ran while it waited, since the look at `before`.
    pub(super) fn blame(&mut self, before: Wall, grown: BTreeMap<Culprit, u64>) {
        self.ledger.take(before.max(self.since), grown);
    }

    /// All of it. `own`: what the container is called.
    pub(super) fn told(&self, own: &str, offer: &Offer, thresholds_ns: &[u64]) -> SingleWaits {
        let [reclaim, compaction] = &self.memory;
        let long = self.now.long_waits.iter().zip(self.base.long_waits).map(|(now, base)| now.saturating_sub(base));
        SingleWaits {
            since: self.since,
            cpu: self.cpu.told(),
            reclaim: offer.reclaim.then(|| reclaim.told()),
            compaction: offer.compaction.then(|| compaction.told()),
            long_waits: thresholds_ns.iter().copied().zip(long).collect(),
            blamed: self.ledger.told(self.since).chain(self.nobody_else(own, offer)).collect(),
        }
    }

    /// The parts that are no other's doing.
    fn nobody_else(&self, own: &str, offer: &Offer) -> impl Iterator<Item = Blamed> {
        let part =
            |name: &str, kind, now: u64, base: u64| Blamed { name: name.to_owned(), kind, since: self.since, ns: now.saturating_sub(base) };
        let throttled = part("throttled", CulpritKind::Throttled, self.now.throttled_ns, self.base.throttled_ns);
        [
            Some(part(own, CulpritKind::Own, self.now.self_ns, self.base.self_ns)),
            (offer.throttle != ThrottleClock::Absent).then_some(throttled),
            Some(part("idle", CulpritKind::Idle, self.now.idle_ns, self.base.idle_ns)),
        ]
        .into_iter()
        .flatten()
    }
}

/// Reclaim and compaction where delay accounting does not know them: the programs see every task's.
pub(super) fn complete(totals: &mut Totals, singles: &SingleWaits) {
    for (kind, seen) in [(DelayKind::Reclaim, &singles.reclaim), (DelayKind::Compaction, &singles.compaction)] {
        if let (None, Some(seen)) = (totals.delay_ns.get(kind), seen) {
            totals.delay_ns.set(kind, Some(seen.sum_ns));
            totals.delay_count.set(kind, Some(seen.count()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bpf::Form;
    use super::*;

    const OFFER: Offer = Offer {
        form: Form::Typed,
        throttle: ThrottleClock::Exact,
        moves: true,
        reclaim: true,
        memcg_reclaim: true,
        node_reclaim: true,
        compaction: false,
        waiting: true,
    };

    fn totals(wait_ns: u64, bucket: u32) -> SlotTotals {
        let mut totals = SlotTotals { wait_ns, long_waits: [wait_ns, wait_ns / 2, 0, 0], self_ns: wait_ns / 4, ..SlotTotals::NONE };
        totals.buckets.counts[3] = bucket;
        totals.buckets.below = bucket.wrapping_mul(2);
        totals
    }

    fn memory(ns: u64, count: u32) -> (MemoryTotals, MemoryTotals) {
        let mut buckets = Buckets { below: 0, counts: [0; BUCKETS] };
        buckets.counts[95] = count;
        let kind = MemoryTotals { ns, count: u64::from(count), buckets };
        (kind, kind)
    }

    #[test]
    fn what_was_there_before_is_not_counted_and_wrapping_is_undone() {
        let mut counted = Counted::from(Wall(5), totals(1_000, u32::MAX - 1), memory(10, 7));
        for (wait_ns, bucket) in [(1_100, u32::MAX), (1_200, 3)] {
            counted.observe(totals(wait_ns, bucket), memory(wait_ns, 9));
        }
        let told = counted.told("shop/cart/web", &OFFER, &[1, 2, 3, 4]);
        assert_eq!((told.since, told.cpu.sum_ns, told.cpu.counts[3], told.cpu.below), (Wall(5), 200, 5, 10));
        assert_eq!(told.cpu.count(), 15);
        assert_eq!(told.long_waits, [(1, 200), (2, 100), (3, 0), (4, 0)]);
        assert_eq!(told.reclaim.map(|reclaim| (reclaim.sum_ns, reclaim.counts[95])), Some((1_190, 2)));
        assert_eq!(told.compaction, None, "this kernel does not tell of it");
        let blamed: Vec<_> = told.blamed.iter().map(|one| (one.name.as_str(), one.kind.word(), one.ns)).collect();
        assert_eq!(blamed, [("shop/cart/web", "self", 50), ("throttled", "throttled", 0), ("idle", "idle", 0)]);
    }

    #[test]
    fn reclaim_comes_from_here_only_where_delay_accounting_does_not_know_it() {
        let mut counted = Counted::from(Wall(5), totals(0, 0), memory(0, 0));
        counted.observe(totals(0, 0), memory(300, 2));
        let singles = counted.told("a", &OFFER, &[]);
        let mut unknown = Totals::default();
        complete(&mut unknown, &singles);
        assert_eq!((unknown.delay_ns.get(DelayKind::Reclaim), unknown.delay_count.get(DelayKind::Reclaim)), (Some(300), Some(2)));
        assert_eq!((unknown.delay_ns.get(DelayKind::Compaction), unknown.delay_ns.get(DelayKind::Swapin)), (None, None));
        let mut known = Totals::default();
        known.delay_ns.set(DelayKind::Reclaim, Some(7));
        complete(&mut known, &singles);
        assert_eq!(known.delay_ns.get(DelayKind::Reclaim), Some(7));
    }
}
