//! A request as it came, for a downstream that finds it too large as it became: no span is lost for what was added to it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::model::{Code, Refusal};

/// A limit that was met is believed in for so long: whoever runs downstream may raise it.
const BELIEVED: Duration = Duration::from_secs(60);

/// What to send instead, and whether that was done.
#[derive(Debug)]
pub struct Spare {
    bytes: Bytes,
    taken: AtomicBool,
}

impl Spare {
    /// The request as it came.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes, taken: AtomicBool::new(false) }
    }

    /// Whether any exporter sent it.
    #[must_use]
    pub fn taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self) -> Bytes {
        self.taken.store(true, Ordering::Relaxed);
        self.bytes.clone()
    }
}

/// Whether downstream says so: `RESOURCE_EXHAUSTED` without a hint when to come again is how grpc-go and grpc-java do, and
/// what HTTP's 413 is read as; tonic says `OUT_OF_RANGE`, which by itself would be worth another try.
pub(super) fn too_large(refusal: &Refusal) -> bool {
    match refusal.code {
        Code::ResourceExhausted => refusal.retry_after.is_none(),
        Code::OutOfRange => refusal.message.contains("too large"),
        _ => false,
    }
}

/// What an exporter learned of its downstream's limit, so that not every large request is sent twice.
#[derive(Debug, Default)]
pub(super) struct Limit {
    refused: Mutex<Option<(usize, Instant)>>,
}

impl Limit {
    /// So many bytes were too many, and less were taken.
    pub(super) fn met(&self, length: usize, now: Instant) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let least = refused.filter(|(_, since)| now.duration_since(*since) < BELIEVED).map_or(length, |(least, _)| least.min(length));
        *refused = Some((least, now));
    }

    /// Whether so many bytes are known to be too many.
    pub(super) fn holds_for(&self, length: usize, now: impl FnOnce() -> Instant) -> bool {
        let refused = *self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.is_some_and(|(least, since)| length >= least && now().duration_since(since) < BELIEVED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_too_large_is_too_large() {
        let hinted = Refusal::new(Code::ResourceExhausted, "full").retry_after(Duration::from_secs(1));
        for (refusal, expected) in [
            (Refusal::new(Code::ResourceExhausted, "any words"), true),
            (hinted, false),
            (Refusal::new(Code::OutOfRange, "Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes"), true),
            (Refusal::new(Code::OutOfRange, "page 9 of 3"), false),
            (Refusal::new(Code::InvalidArgument, "too large"), false),
        ] {
            assert_eq!(too_large(&refusal), expected, "{refusal:?}");
        }
    }

    #[test]
    fn the_least_that_was_too_much_is_remembered_for_a_while() {
        let (limit, start) = (Limit::default(), Instant::now());
        assert!(!limit.holds_for(usize::MAX, || start));
        limit.met(500, start);
        limit.met(900, start);
        assert!(limit.holds_for(500, || start) && limit.holds_for(900, || start) && !limit.holds_for(499, || start));
        assert!(!limit.holds_for(900, || start + BELIEVED));
        limit.met(900, start + BELIEVED);
        assert!(!limit.holds_for(899, || start + BELIEVED), "the limit may have been raised");
    }
}
