//! Bytes of requests in flight: one sum for the whole server, and a share of it for each connection.
//!
//! A request holds a [`Ticket`] from its first byte until it is answered. The ticket grows with what has really
//! arrived, never with what was announced, so a lying length prefix holds nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A connection may hold at most one part in this many of the whole.
const CONNECTION_PARTS: usize = 4;

/// The whole.
#[derive(Debug)]
pub struct Budget {
    total: usize,
    used: AtomicUsize,
}

impl Budget {
    /// At most `total` bytes at a time.
    #[must_use]
    pub fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { total, used: AtomicUsize::new(0) })
    }

    /// Bytes held now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    fn take(&self, bytes: usize) -> bool {
        take_below(&self.used, bytes, self.total)
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
        Ticket { share: Arc::clone(self), bytes: 0 }
    }
}

/// Bytes held for one request; given back when dropped.
#[derive(Debug)]
pub struct Ticket {
    share: Arc<Share>,
    bytes: usize,
}

impl Ticket {
    /// Takes `bytes` more.
    ///
    /// A request that is alone on its connection may exceed the connection's part: its size has a limit of its own,
    /// and refusing it "for now" would refuse it for ever.
    ///
    /// # Errors
    /// Where there is no room; the ticket is unchanged then.
    pub fn grow(&mut self, bytes: usize) -> Result<(), OverBudget> {
        let part = self.share.budget.total / CONNECTION_PARTS;
        if !take_below(&self.share.held, bytes, part.max(self.bytes.saturating_add(bytes))) {
            return Err(OverBudget::Connection);
        }
        if !self.share.budget.take(bytes) {
            self.share.held.fetch_sub(bytes, Ordering::SeqCst);
            return Err(OverBudget::Whole);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }

    /// Gives back what exceeds `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let back = self.bytes.saturating_sub(bytes);
        self.share.held.fetch_sub(back, Ordering::SeqCst);
        self.share.budget.used.fetch_sub(back, Ordering::SeqCst);
        self.bytes = self.bytes.min(bytes);
    }

    /// Bytes held.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

/// Adds `bytes` to `sum` unless it would exceed `limit`.
fn take_below(sum: &AtomicUsize, bytes: usize, limit: usize) -> bool {
    sum.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |held| held.checked_add(bytes).filter(|&after| after <= limit)).is_ok()
}

#[cfg(test)]
mod tests {
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
    fn a_sum_that_overflows_is_no_room() {
        let budget = Budget::new(usize::MAX);
        let share = Share::new(&budget);
        let mut ticket = share.ticket();
        ticket.grow(10).unwrap();
        assert!(ticket.grow(usize::MAX).is_err());
        assert_eq!(ticket.bytes(), 10);
    }
}
