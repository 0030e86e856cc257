//! Bytes of requests in flight: one sum for the whole server, and a share of it for each connection.
//!
//! A request holds a [`Ticket`] from its first byte until it is answered. The ticket grows with what has really
//! arrived, never with what was announced, so a lying length prefix holds nothing. Copies made of it on its way (with the
//! attributes, compressed) hold tickets of their own, taken from the request's [`Room`].
//!
//! Where the whole is used up, requests that hold bytes and of which hardly anything comes any more ([`Ticket::look`]) are
//! let go for those that come, the largest first. Their bytes count as free at once; the memory is free as soon as their own
//! task, which is woken, has dropped them, and so much that is free and still there is bounded too. One that has come whole
//! ([`Ticket::keep`]) is never let go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use super::slow::{PROGRESS, Place, Slow};
use crate::model::{Code, Refusal};

/// A connection may hold at most one part in this many of the whole.
const CONNECTION_PARTS: usize = 4;
/// One part in this many of the whole, or so many bytes, may be there still of requests that were let go, beside all others.
const PASSING_PARTS: usize = 8;
const LEAST_PASSING: usize = 8 << 20;
/// One part in this many of the whole is only for requests that hold no more than [`SMALL`]: a few large ones do not keep
/// the many of usual size out.
const SMALL_PARTS: usize = 8;
const SMALL: usize = 128 * 1024;
/// How long a sender refused for want of room is asked to wait.
const ROOM_DELAY: Duration = Duration::from_secs(1);

/// The whole.
#[derive(Debug)]
pub struct Budget {
    total: usize,
    used: AtomicUsize,
    slow: Slow,
}

impl Budget {
    /// At most `total` bytes at a time.
    #[must_use]
    pub fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { total, used: AtomicUsize::new(0), slow: Slow::new((total / PASSING_PARTS).max(LEAST_PASSING)) })
    }

    /// Bytes held now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    /// Takes `bytes` unless more than `limit` would be held then, also where all that are slow were let go.
    fn take(&self, bytes: usize, limit: usize) -> bool {
        let missing = || self.used().checked_add(bytes).map_or(usize::MAX, |wanted| wanted.saturating_sub(limit));
        while !take_below(&self.used, bytes, limit) {
            if !self.slow.make_room(missing) {
                return false;
            }
        }
        true
    }
}

/// What one connection holds of it.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    held: AtomicUsize,
}

/// There is no room now; there will be once others are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverBudget {
    /// The whole is used up.
    Whole,
    /// This connection has its part already.
    Connection,
    /// The whole is used up, and this request held bytes of it while hardly anything more of it came.
    LetGo,
}

impl From<OverBudget> for Refusal {
    fn from(which: OverBudget) -> Self {
        let whose = match which {
            OverBudget::Whole => "all requests in flight use limits.memory_mib up",
            OverBudget::Connection => "the requests in flight on this connection use its part of limits.memory_mib up",
            OverBudget::LetGo => {
                "too little of the request came while all requests in flight used limits.memory_mib up: it was let go for others"
            }
        };
        Self::new(Code::ResourceExhausted, whose).retry_after(ROOM_DELAY)
    }
}

impl Share {
    /// A connection that holds nothing yet.
    #[must_use]
    pub fn new(budget: &Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { budget: Arc::clone(budget), held: AtomicUsize::new(0) })
    }

    /// A ticket for nothing yet.
    #[must_use]
    pub fn ticket(self: &Arc<Self>) -> Ticket {
        Ticket::new(self)
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::SeqCst);
        self.budget.used.fetch_sub(bytes, Ordering::SeqCst);
    }
}

/// What a request that was let in holds, and where it takes room for its copies. Cloneable: its bytes are held until the last
/// clone is dropped. The default one holds nothing and has no bound.
#[derive(Clone, Debug, Default)]
pub struct Room {
    request: Option<Arc<Ticket>>,
    /// Bytes of its copies.
    beside: usize,
}

impl Room {
    /// Room for a copy of so many bytes.
    ///
    /// # Errors
    /// Where there is none beside what others hold. A request that nobody else is in the way of always has room: refusing
    /// it "for now" would refuse it for ever.
    pub fn copy(&self, bytes: usize) -> Result<Copy, OverBudget> {
        let Some(request) = &self.request else { return Ok(Copy::default()) };
        let mut ticket = Ticket::new(&request.share);
        (ticket.beside, ticket.copied) = (request.bytes.saturating_add(self.beside), Some(request.bytes));
        ticket.grow(bytes)?;
        Ok(Copy { ticket: Some(ticket), _of: Some(Arc::clone(request)) })
    }

    /// No room, for what is done with the request itself.
    #[must_use]
    pub fn hold(&self) -> Copy {
        Copy { ticket: None, _of: self.request.clone() }
    }

    /// The same for all requests of a connection, while one is there; zero where there is none.
    #[must_use]
    pub fn whose(&self) -> usize {
        self.request.as_ref().map_or(0, |request| Arc::as_ptr(&request.share).addr())
    }

    /// The same for a request that holds so much more.
    #[must_use]
    pub fn beside(&self, bytes: usize) -> Self {
        Self { request: self.request.clone(), beside: self.beside.saturating_add(bytes) }
    }
}

/// Bytes held for a copy; given back when dropped. What it is a copy of is held as long.
#[derive(Debug, Default)]
pub struct Copy {
    ticket: Option<Ticket>,
    _of: Option<Arc<Ticket>>,
}

impl Copy {
    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.ticket.as_ref().map_or(0, Ticket::bytes)
    }

    /// The copy is made, and has so many bytes.
    pub fn settle(&mut self, bytes: usize) {
        let Some(ticket) = &mut self.ticket else { return };
        if let more @ 1.. = bytes.saturating_sub(ticket.bytes) {
            // It is there already: what it holds beyond what it asked for counts against those that come after.
            ticket.share.held.fetch_add(more, Ordering::SeqCst);
            ticket.share.budget.used.fetch_add(more, Ordering::SeqCst);
            ticket.bytes = bytes;
        }
        ticket.shrink_to(bytes);
    }
}

/// Bytes held for one request; given back when dropped.
#[derive(Debug)]
pub struct Ticket {
    share: Arc<Share>,
    bytes: usize,
    /// Of a copy: what its request and other copies hold already …
    beside: usize,
    /// … and what its request does.
    copied: Option<usize>,
    /// What it held at the last look.
    seen: Option<usize>,
    /// Where it is slow.
    place: Option<Arc<Place>>,
    let_go: bool,
    /// What it held when it was let go.
    passing: usize,
}

impl Ticket {
    fn new(share: &Arc<Share>) -> Self {
        Self { share: Arc::clone(share), bytes: 0, beside: 0, copied: None, seen: None, place: None, let_go: false, passing: 0 }
    }

    /// Takes `bytes` more.
    ///
    /// A request that is alone on its connection may exceed the connection's part: its size has a limit of its own,
    /// and refusing it "for now" would refuse it for ever.
    ///
    /// # Errors
    /// Where there is no room, not even once all slow requests were let go; the ticket is unchanged then. And where this
    /// request was itself let go.
    pub fn grow(&mut self, bytes: usize) -> Result<(), OverBudget> {
        // Not in its place meanwhile, so that it is not let go for itself.
        let place = self.leave_place()?;
        let taken = self.take(bytes);
        self.return_to(place);
        taken
    }

    fn take(&mut self, bytes: usize) -> Result<(), OverBudget> {
        let budget = &self.share.budget;
        let alone = self.beside.saturating_add(self.bytes).saturating_add(bytes);
        if !take_below(&self.share.held, bytes, (budget.total / CONNECTION_PARTS).max(alone)) {
            return Err(OverBudget::Connection);
        }
        let limit = match self.copied {
            None => self.limit(alone),
            // May always be made where nobody else is in the way.
            Some(request) => self.limit(request).max(alone),
        };
        if !budget.take(bytes, limit) {
            self.share.held.fetch_sub(bytes, Ordering::SeqCst);
            return Err(OverBudget::Whole);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }

    /// Most that may be held by all where a request holds so much.
    fn limit(&self, held: usize) -> usize {
        let budget = &self.share.budget;
        let kept = budget.total / SMALL_PARTS;
        // Room for less than a small one is of no use.
        if held <= SMALL || kept < SMALL {
            return budget.total;
        }
        // One that is alone may use all there is, for it is never let in otherwise.
        budget.total.saturating_sub(kept).max(held).min(budget.total)
    }

    /// All of the request is there: what it holds, with room for copies of it.
    #[must_use]
    pub fn room(self) -> Room {
        Room { request: Some(Arc::new(self)), beside: 0 }
    }

    /// Gives back what exceeds `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let Ok(place) = self.leave_place() else { return };
        self.share.give_back(self.bytes.saturating_sub(bytes));
        self.bytes = self.bytes.min(bytes);
        self.return_to(place);
    }

    /// To be called every [`super::slow::LOOK`] while more of the request is to come: where less than [`PROGRESS`] came since
    /// the last time, it may be let go from now on; otherwise, no longer. Whether it may.
    pub fn look(&mut self) -> bool {
        let came = self.seen.replace(self.bytes).map(|seen| self.bytes.saturating_sub(seen));
        if came.is_some_and(|came| came < PROGRESS) && self.bytes > 0 {
            if self.place.is_none() {
                self.place = Some(self.share.budget.slow.enter(self.bytes, &self.share));
            }
            return true;
        }
        self.leave_place().is_err()
    }

    /// Ready once it was let go; the context's task is woken then.
    pub fn poll_let_go(&self, context: &Context<'_>) -> Poll<()> {
        match &self.place {
            _ if self.let_go => Poll::Ready(()),
            Some(place) => place.poll(context),
            None => Poll::Pending,
        }
    }

    /// All of the request has come: it is not let go any more.
    ///
    /// # Errors
    /// It was.
    pub fn keep(&mut self) -> Result<(), OverBudget> {
        self.leave_place().map(|_| ())
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Leaves its place among the slow ones, if it has one.
    fn leave_place(&mut self) -> Result<Option<Arc<Place>>, OverBudget> {
        let place = self.place.take();
        if place.as_ref().is_some_and(|place| !self.share.budget.slow.take_out(self.bytes, place)) {
            // Whoever let it go gave its bytes back.
            (self.passing, self.bytes, self.let_go) = (self.bytes, 0, true);
        }
        if self.let_go { Err(OverBudget::LetGo) } else { Ok(place) }
    }

    /// Returns to the place it left, if it had one.
    fn return_to(&mut self, place: Option<Arc<Place>>) {
        self.place = place.filter(|_| self.bytes > 0);
        if let Some(place) = &self.place {
            self.share.budget.slow.enter_again(self.bytes, place);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shrink_to(0);
        if self.passing > 0 {
            self.share.budget.slow.passed(self.passing);
        }
    }
}

/// Adds `bytes` to `sum` unless it would exceed `limit`.
fn take_below(sum: &AtomicUsize, bytes: usize, limit: usize) -> bool {
    sum.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |held| held.checked_add(bytes).filter(|&after| after <= limit)).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_whole_and_the_part_are_exact() {
        let budget = Budget::new(1000);
        let (one, two) = (Share::new(&budget), Share::new(&budget));
        let (mut a, mut b) = (one.ticket(), one.ticket());
        a.grow(200).unwrap();
        assert_eq!(b.grow(51), Err(OverBudget::Connection));
        b.grow(50).unwrap();
        assert_eq!(b.grow(1), Err(OverBudget::Connection));
        let mut big = two.ticket();
        big.grow(750).unwrap();
        assert_eq!(big.grow(1), Err(OverBudget::Whole));
        assert_eq!(budget.used(), 1000);
        drop(a);
        big.grow(1).unwrap();
        assert_eq!(budget.used(), 801);
        drop((b, big));
        assert_eq!(budget.used(), 0);
        assert_eq!(one.held.load(Ordering::SeqCst) + two.held.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn large_requests_leave_room_for_small_ones_and_one_alone_may_have_it_all() {
        const TOTAL: usize = 8 << 20;
        let budget = Budget::new(TOTAL);
        let tickets = || Share::new(&budget).ticket();
        let mut alone = tickets();
        alone.grow(TOTAL).unwrap();
        drop(alone);
        let mut large: Vec<Ticket> = (0..4).map(|_| tickets()).collect();
        for ticket in &mut large {
            ticket.grow((TOTAL - TOTAL / SMALL_PARTS) / 4).unwrap();
        }
        assert_eq!(large[0].grow(1), Err(OverBudget::Whole));
        let whole = large.pop().map(Ticket::room).unwrap();
        assert_eq!(whole.copy(1).unwrap_err(), OverBudget::Whole, "nor for copies of large ones");
        let mut another = tickets();
        another.grow(SMALL).unwrap();
        assert_eq!(another.grow(SMALL), Err(OverBudget::Whole), "it is not small any more");
        let small = || {
            let mut ticket = tickets();
            ticket.grow(SMALL).map(|()| ticket.room())
        };
        let with_copy = small().unwrap();
        let copy = with_copy.copy(SMALL).unwrap();
        let smalls: Vec<Room> = std::iter::from_fn(|| small().ok()).collect();
        assert!(budget.used() > TOTAL - SMALL, "{}", budget.used());
        drop((large, smalls, another, whole, with_copy, copy));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn alone_a_request_may_exceed_the_part_but_no_second_beside_it() {
        let budget = Budget::new(1000);
        let share = Share::new(&budget);
        let mut big = share.ticket();
        big.grow(300).unwrap();
        big.grow(300).unwrap();
        assert_eq!(share.ticket().grow(1), Err(OverBudget::Connection));
        big.shrink_to(100);
        let mut small = share.ticket();
        small.grow(150).unwrap();
        assert_eq!(big.grow(151), Err(OverBudget::Connection));
        assert_eq!((budget.used(), big.bytes()), (250, 100));
    }

    #[test]
    fn copies_count_and_a_request_alone_may_always_make_them() {
        let budget = Budget::new(1000);
        let (one, two) = (Share::new(&budget), Share::new(&budget));
        let mut big = one.ticket();
        big.grow(900).unwrap();
        let big = big.room();
        let mut copy = big.copy(950).unwrap();
        assert_eq!(budget.used(), 1850, "past the whole, as nobody else is there");
        assert_eq!(two.ticket().grow(1), Err(OverBudget::Whole));
        copy.settle(20);
        let mut small = two.ticket();
        small.grow(50).unwrap();
        let small = small.room();
        assert_eq!(big.beside(20).copy(900).unwrap_err(), OverBudget::Whole, "somebody else is there");
        assert_eq!(small.copy(31).unwrap_err(), OverBudget::Whole);
        small.copy(30).unwrap();
        drop(copy);
        let mut beside = one.ticket();
        assert_eq!(beside.grow(1), Err(OverBudget::Connection));
        let working = big.clone();
        let made = big.copy(10).unwrap();
        drop((big, small));
        drop(working);
        assert_eq!(budget.used(), 910, "somebody is still at work on a copy of it");
        drop(made);
        assert_eq!(budget.used(), 0);
        Room::default().copy(usize::MAX).unwrap().settle(7);
    }

    #[test]
    fn a_sum_that_overflows_is_no_room() {
        let budget = Budget::new(usize::MAX);
        let share = Share::new(&budget);
        let mut ticket = share.ticket();
        ticket.grow(10).unwrap();
        assert!(ticket.grow(usize::MAX).is_err());
        assert_eq!(ticket.bytes(), 10);
    }

    proptest! {
        /// Whatever comes and goes in whatever order: every byte that is held is counted once, those of a connection in its
        /// part, and nobody gets past a bound beside others.
        #[test]
        fn what_is_held_is_counted(steps in prop::collection::vec((0..6_u8, 0..4_usize, 0..700_usize), 0..120)) {
            let budget = Budget::new(1000);
            let shares: Vec<_> = (0..2).map(|_| Share::new(&budget)).collect();
            /// One that comes, or one that is let in and its copies.
            enum One {
                Coming(Ticket),
                In(Room, Vec<Copy>),
            }
            impl One {
                fn bytes(&self) -> usize {
                    match self {
                        Self::Coming(ticket) => ticket.bytes(),
                        Self::In(room, copies) => {
                            room.request.as_ref().map_or(0, |ticket| ticket.bytes()) + copies.iter().map(Copy::bytes).sum::<usize>()
                        }
                    }
                }
            }
            let mut requests: Vec<Option<(usize, One)>> = vec![None, None, None, None];
            for (step, place, bytes) in steps {
                let before = (budget.used(), shares[place % 2].held.load(Ordering::SeqCst));
                let alone = |own: usize, held: usize| own == held;
                let slot = &mut requests[place];
                let own = slot.as_ref().map_or(0, |(_, one)| one.bytes());
                if let (2, Some((share, One::Coming(ticket)))) = (step, &mut *slot) {
                    let ticket = std::mem::replace(ticket, shares[0].ticket());
                    *slot = Some((*share, One::In(ticket.room(), Vec::new())));
                }
                match (step, slot) {
                    (0, slot) => *slot = Some((place % 2, One::Coming(shares[place % 2].ticket()))),
                    (1, Some((share, One::Coming(ticket)))) => {
                        let grown = ticket.grow(bytes).is_ok();
                        prop_assert!(!grown || budget.used() <= 1000);
                        prop_assert!(!grown || before.1 + bytes <= 250 || alone(own, before.1), "of connection {share}");
                    }
                    (2 | 3, Some((_, One::In(room, copies)))) => {
                        let copied = room.beside(copies.iter().map(Copy::bytes).sum()).copy(bytes);
                        let room = |held, bound| held + bytes <= bound || alone(own, held);
                        prop_assert_eq!(copied.is_ok(), room(before.0, 1000) && room(before.1, 250));
                        copies.extend(copied);
                    }
                    (4, Some((_, One::In(_, copies)))) => {
                        if let Some(copy) = copies.last_mut() {
                            copy.settle(bytes);
                        }
                    }
                    (5, slot) => *slot = None,
                    _ => {}
                }
                let held = |share: usize| -> usize {
                    requests.iter().flatten().filter(|(of, _)| *of == share).map(|(_, one)| one.bytes()).sum()
                };
                prop_assert_eq!(shares.iter().map(|share| share.held.load(Ordering::SeqCst)).collect::<Vec<_>>(), [held(0), held(1)]);
                prop_assert_eq!(budget.used(), held(0) + held(1));
            }
            drop(requests);
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
