//! A stop signal that many may wait for and anyone may give, once and for all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Cloneable; all clones are one signal.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    requested: AtomicBool,
    waiters: Notify,
}

impl Stop {
    /// A signal not yet given.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the signal. Giving it again changes nothing.
    pub fn request(&self) {
        self.inner.requested.store(true, Ordering::SeqCst);
        self.inner.waiters.notify_waiters();
    }

    /// Whether it was given.
    #[must_use]
    pub fn requested(&self) -> bool {
        self.inner.requested.load(Ordering::SeqCst)
    }

    /// Returns once it is given; at once if it was.
    pub async fn wait(&self) {
        let waiter = self.inner.waiters.notified();
        tokio::pin!(waiter);
        // Enlisted before the flag is read, so that a signal between the two is not missed.
        waiter.as_mut().enable();
        if !self.requested() {
            waiter.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wakes_those_who_wait_and_those_who_come_late() {
        let stop = Stop::new();
        let waiting = tokio::spawn({
            let stop = stop.clone();
            async move { stop.wait().await }
        });
        assert!(!stop.requested());
        stop.request();
        waiting.await.unwrap();
        stop.wait().await;
        assert!(stop.clone().requested());
    }
}
