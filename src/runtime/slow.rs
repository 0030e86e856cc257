//! Requests of which hardly anything comes, while they hold bytes: whom to let go where there is no room for others.
//!
//! Only these are known here, and only while they are slow: a request that comes as fast as its sender can write is never
//! entered. Each has one place, so there are at most as many as streams of all connections.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::budget::Share;

/// How often a request that is still coming is looked at. Long beside what a sender and its network pause between two
/// packets (the shortest retransmission time-out of Linux is 200 ms, `TCP_RTO_MIN` in include/net/tcp.h), short beside the
/// seconds that senders wait before they try again.
pub const LOOK: Duration = Duration::from_millis(500);
/// Less than this since the look before is slow: one frame of HTTP/2's default size (RFC 9113 §6.5.2). At this rate a
/// message of 4 MiB would take two minutes, four times as long as messages may take, and a byte now and then is no progress.
pub const PROGRESS: usize = 16 * 1024;

/// All of them.
#[derive(Debug)]
pub(super) struct Slow {
    /// Most bytes let go that are there still, beyond those of one request.
    most_passing: usize,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    /// By the bytes they hold.
    by_size: BTreeMap<(usize, u64), Arc<Place>>,
    /// The bytes of all.
    held: usize,
    /// Bytes of those that were let go, until their tasks have dropped them.
    passing: usize,
    entered: u64,
}

/// The place of one request.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    share: Arc<Share>,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    let_go: bool,
    waker: Option<Waker>,
}

impl Slow {
    pub(super) fn new(most_passing: usize) -> Self {
        Self { most_passing, places: Mutex::default() }
    }

    /// Enters a request that holds `bytes` of `share`.
    pub(super) fn enter(&self, bytes: usize, share: &Arc<Share>) -> Arc<Place> {
        let mut places = self.places();
        places.entered = places.entered.wrapping_add(1);
        let place = Arc::new(Place { number: places.entered, share: Arc::clone(share), told: Mutex::default() });
        places.put(bytes, Arc::clone(&place));
        place
    }

    /// Enters one again that was taken out.
    pub(super) fn enter_again(&self, bytes: usize, place: &Arc<Place>) {
        self.places().put(bytes, Arc::clone(place));
    }

    /// Takes one out that holds `bytes`. Whether it was still there.
    pub(super) fn take_out(&self, bytes: usize, place: &Place) -> bool {
        self.places().remove((bytes, place.number)).is_some()
    }

    /// Lets those go that hold most, as many as hold what is `missing`; nobody, where all together hold less. Nor does anybody
    /// go while too much is there still of those that went before: their memory would be used twice. Whether there may be
    /// room now.
    pub(super) fn make_room(&self, missing: impl FnOnce() -> usize) -> bool {
        let mut places = self.places();
        // Asked for in here: what another has just made room for is not missing any more.
        let missing = missing();
        if missing == 0 {
            return true;
        }
        let (largest, bytes) = places.largest(missing);
        let passing = places.passing.saturating_add(bytes);
        if bytes < missing || (places.passing > 0 && passing > self.most_passing) {
            return false;
        }
        places.passing = passing;
        let gone: Vec<(usize, Arc<Place>)> = largest.into_iter().filter_map(|key| Some((key.0, places.remove(key)?))).collect();
        for (bytes, place) in &gone {
            place.share.give_back(*bytes);
        }
        drop(places);
        gone.iter().for_each(|(_, place)| place.tell());
        true
    }

    /// One that was let go has dropped its bytes.
    pub(super) fn passed(&self, bytes: usize) {
        let mut places = self.places();
        places.passing = places.passing.saturating_sub(bytes);
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn put(&mut self, bytes: usize, place: Arc<Place>) {
        self.held = self.held.saturating_add(bytes);
        self.by_size.insert((bytes, place.number), place);
    }

    /// Those that hold most, as many as hold so much, and what they hold: less, if all do.
    fn largest(&self, enough: usize) -> (Vec<(usize, u64)>, usize) {
        let (mut keys, mut bytes) = (Vec::new(), 0_usize);
        if self.held < enough {
            return (keys, self.held);
        }
        for key in self.by_size.keys().rev() {
            bytes = bytes.saturating_add(key.0);
            keys.push(*key);
            if bytes >= enough {
                break;
            }
        }
        (keys, bytes)
    }

    fn remove(&mut self, key: (usize, u64)) -> Option<Arc<Place>> {
        let place = self.by_size.remove(&key)?;
        self.held = self.held.saturating_sub(key.0);
        Some(place)
    }
}

impl Place {
    /// Tells the request that it was let go.
    fn tell(&self) {
        let waker = {
            let mut told = self.told();
            told.let_go = true;
            told.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ready once it was let go.
    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let mut told = self.told();
        if told.let_go {
            return Poll::Ready(());
        }
        if told.waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
            told.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use proptest::prelude::*;

    use super::super::budget::{Budget, OverBudget, Ticket};
    use super::*;

    const KIB: usize = 1024;
    const TOTAL: usize = 200 * KIB;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn was_let_go(ticket: &Ticket) -> bool {
        ticket.poll_let_go(&Context::from_waker(Waker::noop())).is_ready()
    }

    /// Of a connection of its own, holding so much and slow.
    fn slow(budget: &Arc<Budget>, bytes: usize) -> Ticket {
        let mut ticket = Share::new(budget).ticket();
        ticket.grow(bytes).unwrap();
        assert!(!ticket.look(), "looked at for the first time");
        assert!(ticket.look());
        ticket
    }

    #[test]
    fn the_largest_slow_one_goes_and_its_task_is_woken_once() {
        let budget = Budget::new(TOTAL);
        let (small, mut large) = (slow(&budget, 50 * KIB), slow(&budget, 90 * KIB));
        let mut whole = Share::new(&budget).ticket();
        whole.grow(60 * KIB).unwrap();
        whole.keep().unwrap();
        let (before, woken) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        for waker in [&before, &woken] {
            let waker = Waker::from(Arc::clone(waker));
            assert!(large.poll_let_go(&Context::from_waker(&waker)).is_pending());
        }
        let mut newcomer = Share::new(&budget).ticket();
        newcomer.grow(KIB).unwrap();
        assert_eq!(budget.used(), 111 * KIB);
        assert_eq!((before.0.load(Ordering::SeqCst), woken.0.load(Ordering::SeqCst)), (0, 1), "who asked last is told");
        assert!(was_let_go(&large) && !was_let_go(&small) && !was_let_go(&whole));
        assert_eq!((large.grow(1), large.keep()), (Err(OverBudget::LetGo), Err(OverBudget::LetGo)));
        assert_eq!(large.bytes(), 0);
        drop((large, small, whole, newcomer));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn nobody_goes_in_vain_nor_for_itself() {
        let budget = Budget::new(TOTAL);
        let mut whole = Share::new(&budget).ticket();
        whole.grow(100 * KIB).unwrap();
        let (mut one, two) = (slow(&budget, 40 * KIB), slow(&budget, 60 * KIB));
        let mut newcomer = Share::new(&budget).ticket();
        assert_eq!(newcomer.grow(101 * KIB), Err(OverBudget::Whole));
        assert_eq!(newcomer.grow(usize::MAX), Err(OverBudget::Whole));
        assert_eq!(one.grow(61 * KIB), Err(OverBudget::Whole));
        assert!(!was_let_go(&one) && !was_let_go(&two));
        newcomer.grow(100 * KIB).unwrap();
        assert!(was_let_go(&one) && was_let_go(&two));
        assert_eq!(budget.used(), TOTAL);
    }

    #[test]
    fn progress_makes_it_safe_again_and_so_does_the_end() {
        let budget = Budget::new(TOTAL);
        for (came, safe) in [(0, false), (PROGRESS - 1, false), (PROGRESS, true)] {
            let mut ticket = slow(&budget, 50 * KIB);
            for _ in 0..came {
                ticket.grow(1).unwrap();
            }
            assert_eq!(ticket.look(), !safe, "{came}");
            let mut newcomer = Share::new(&budget).ticket();
            assert_eq!(newcomer.grow(TOTAL - 10 * KIB).is_err(), safe, "{came}");
            assert_eq!(ticket.keep().is_ok(), safe, "{came}");
        }
        let mut whole = slow(&budget, 50 * KIB);
        whole.keep().unwrap();
        assert_eq!(Share::new(&budget).ticket().grow(TOTAL), Err(OverBudget::Whole));
        assert!(!was_let_go(&whole));
    }

    #[test]
    fn no_more_go_than_may_be_there_still_beside_all_others() {
        const MIB: usize = 1 << 20;
        let budget = Budget::new(64 * MIB);
        let mut slow: Vec<Ticket> = (0..14).map(|_| slow(&budget, 4 * MIB)).collect();
        let newcomer = || {
            let mut ticket = Share::new(&budget).ticket();
            ticket.grow(4 * MIB).map(|()| ticket)
        };
        let newcomers: Vec<Ticket> = (0..2).map(|_| newcomer().unwrap()).collect();
        assert_eq!(newcomer().unwrap_err(), OverBudget::Whole, "an eighth of all is there twice");
        assert_eq!(slow.iter().filter(|ticket| was_let_go(ticket)).count(), 2);
        // One of them knows, and has its bytes still; then it drops them.
        let gone = slow.iter().position(was_let_go).unwrap();
        assert_eq!(slow[gone].grow(1), Err(OverBudget::LetGo));
        assert_eq!(newcomer().unwrap_err(), OverBudget::Whole);
        drop(slow.swap_remove(gone));
        let third = newcomer().unwrap();
        assert_eq!(budget.used(), 56 * MIB, "the rest is for small ones");
        // For one that needs more, as many go as it needs, or nobody.
        let in_one = |bytes| Share::new(&budget).ticket().grow(bytes);
        let gone = |slow: &[Ticket]| slow.iter().filter(|ticket| was_let_go(ticket)).count();
        assert_eq!((in_one(12 * MIB), gone(&slow)), (Err(OverBudget::Whole), 2));
        slow.retain(|ticket| !was_let_go(ticket));
        assert_eq!((in_one(12 * MIB), gone(&slow)), (Ok(()), 3));
        drop((slow, newcomers, third));
        assert_eq!(budget.used(), 0);
        let again = self::slow(&budget, 40 * MIB);
        Share::new(&budget).ticket().grow(60 * MIB).unwrap();
        assert!(was_let_go(&again), "one may be larger than that, if it is the only one");
    }

    /// What is expected of a ticket.
    #[derive(Clone, Copy, Debug, Default)]
    struct Model {
        bytes: usize,
        seen: Option<usize>,
        place: Option<u64>,
        whole: bool,
        let_go: bool,
    }

    /// Makes room as said: whether there is some for `bytes` more of the one at `own`.
    fn model_grow(models: &mut [Option<Model>], own: usize, bytes: usize) -> bool {
        loop {
            let used: usize = models.iter().flatten().map(|model| model.bytes).sum();
            let missing = (used + bytes).saturating_sub(TOTAL);
            if missing == 0 {
                return true;
            }
            let others = models.iter_mut().enumerate().filter(|(at, _)| *at != own).filter_map(|(_, model)| model.as_mut());
            let mut slow: Vec<&mut Model> = others.filter(|model| model.place.is_some()).collect();
            if slow.iter().map(|model| model.bytes).sum::<usize>() < missing {
                return false;
            }
            let largest = slow.iter_mut().max_by_key(|model| (model.bytes, model.place)).unwrap();
            **largest = Model { let_go: true, ..Model::default() };
        }
    }

    proptest! {
        /// Whatever comes in whatever order: exactly the largest slow ones go, exactly where they make room, and every byte is
        /// counted once.
        #[test]
        fn who_goes_is_as_said(steps in prop::collection::vec((0..12_u8, 0..5_usize, 0..90_usize), 0..150)) {
            let budget = Budget::new(TOTAL);
            let mut models: Vec<Option<Model>> = vec![None; 5];
            let mut tickets: Vec<Option<Ticket>> = (0..5).map(|_| None).collect();
            let mut entered = 0;
            for (step, at, kib) in steps {
                let (Some(ticket), Some(mut model)) = (&mut tickets[at], models[at]) else {
                    (tickets[at], models[at]) = (Some(Share::new(&budget).ticket()), Some(Model::default()));
                    continue;
                };
                match step {
                    0 => {
                        (tickets[at], models[at]) = (None, None);
                        continue;
                    }
                    1 => {
                        prop_assert_eq!(ticket.keep().is_ok(), !model.let_go);
                        (model.place, model.whole) = (None, true);
                    }
                    2..=5 if !model.whole => {
                        let slow = model.seen.is_some_and(|seen| model.bytes.saturating_sub(seen) < PROGRESS) && model.bytes > 0;
                        model.seen = Some(model.bytes);
                        if slow && model.place.is_none() {
                            entered += 1;
                            model.place = Some(entered);
                        } else if !slow {
                            model.place = None;
                        }
                        let may_go = ticket.look();
                        prop_assert!(model.let_go || may_go == slow);
                    }
                    6 => {
                        ticket.shrink_to(kib * KIB);
                        model.bytes = model.bytes.min(kib * KIB);
                        model.place = model.place.filter(|_| model.bytes > 0);
                    }
                    _ => {
                        let bytes = kib * KIB / 2;
                        let room = !model.let_go && model_grow(&mut models, at, bytes);
                        let grown = ticket.grow(bytes);
                        prop_assert_eq!(grown, if model.let_go { Err(OverBudget::LetGo) } else if room { Ok(()) } else { Err(OverBudget::Whole) });
                        model.bytes += if room { bytes } else { 0 };
                    }
                }
                models[at] = Some(model);
                for (ticket, model) in tickets.iter().flatten().zip(models.iter().flatten()) {
                    prop_assert_eq!(was_let_go(ticket), model.let_go);
                }
                prop_assert_eq!(budget.used(), models.iter().flatten().map(|model| model.bytes).sum::<usize>());
            }
            drop(tickets);
            prop_assert_eq!(budget.used(), 0);
            prop_assert_eq!(Arc::strong_count(&budget), 1, "nobody has a place any more");
        }
    }

    #[test]
    fn from_several_threads_every_byte_is_counted_and_who_has_come_whole_stays() {
        let budget = Budget::new(TOTAL);
        let (whole, gone) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4_usize {
                let (budget, whole, gone) = (&budget, &whole, &gone);
                scope.spawn(move || {
                    for round in 0..3000_usize {
                        let mut ticket = Share::new(budget).ticket();
                        let size = (thread * 31 + round * 17) % 60 + 20;
                        let grown = (0..3).try_for_each(|_| {
                            ticket.grow(size * KIB)?;
                            ticket.look();
                            ticket.look();
                            std::thread::yield_now();
                            Ok::<_, OverBudget>(())
                        });
                        match grown.and_then(|()| ticket.keep()) {
                            Ok(()) => {
                                assert_eq!(ticket.bytes(), 3 * size * KIB);
                                assert!(budget.used() >= ticket.bytes());
                                whole.fetch_add(1, Ordering::SeqCst);
                            }
                            Err(OverBudget::LetGo) => drop(gone.fetch_add(1, Ordering::SeqCst)),
                            Err(_) => {}
                        }
                        assert!(budget.used() <= TOTAL);
                    }
                });
            }
        });
        assert_eq!(budget.used(), 0);
        assert!(whole.load(Ordering::SeqCst) > 0, "{gone:?}");
    }
}
