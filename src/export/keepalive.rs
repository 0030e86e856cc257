//! Signs of life asked of downstream over HTTP/2, where the configuration wants that.

use std::pin::Pin;
use std::task::Context;
#[cfg(test)]
use std::task::Poll;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::config::meaning::ClientKeepalive;
use crate::runtime::clock::instant_now;
use crate::runtime::pulse::{Beat, Pulse};

/// Of one connection.
#[derive(Debug)]
pub struct Keepalive {
    pulse: Pulse,
    /// Also while nothing is asked of downstream.
    always: bool,
    /// Nothing was asked of it at the last look.
    resting: bool,
    timer: Pin<Box<Sleep>>,
}

impl Keepalive {
    /// Of a connection made now.
    #[must_use]
    pub fn new(rules: ClientKeepalive, now: Instant) -> Self {
        let pulse = Pulse::new(rules.time, rules.timeout, now);
        Self { pulse, always: rules.permit_without_stream, resting: true, timer: Box::pin(sleep_until(now)) }
    }

    /// Bytes came.
    pub fn heard(&mut self, now: Instant) {
        self.pulse.heard(now);
    }

    /// What is due; the context's task is woken when something is. `calls`: whether answers are waited for.
    pub fn poll(&mut self, context: &mut Context<'_>, calls: bool) -> Beat {
        if !calls && !self.always {
            self.resting = true;
            return Beat::Alive;
        }
        if std::mem::take(&mut self.resting) {
            // What was not asked for did not fail to come.
            self.pulse.heard(instant_now());
        }
        while let Some(due) = self.pulse.due() {
            if self.timer.deadline() != due {
                self.timer.as_mut().reset(due);
            }
            if self.timer.as_mut().poll(context).is_pending() {
                break;
            }
            match self.pulse.look(instant_now()) {
                Beat::Alive => {}
                beat => return beat,
            }
        }
        Beat::Alive
    }

    /// As a future, for who has nothing else to wait for.
    #[cfg(test)]
    pub async fn beat(&mut self, calls: bool) -> Beat {
        std::future::poll_fn(|context| match self.poll(context, calls) {
            Beat::Alive => Poll::Pending,
            beat => Poll::Ready(beat),
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{advance, timeout};

    use super::*;

    const RULES: ClientKeepalive =
        ClientKeepalive { time: Duration::from_secs(10), timeout: Duration::from_secs(5), permit_without_stream: false };

    #[tokio::test(start_paused = true)]
    async fn downstream_is_asked_while_something_is_asked_of_it() {
        let mut keepalive = Keepalive::new(RULES, instant_now());
        assert!(timeout(Duration::from_secs(3600), keepalive.beat(false)).await.is_err(), "not while it has nothing to do");
        let begun = instant_now();
        assert_eq!((keepalive.beat(true).await, begun.elapsed()), (Beat::Ask, RULES.time));
        keepalive.heard(instant_now());
        assert_eq!((keepalive.beat(true).await, begun.elapsed()), (Beat::Ask, RULES.time * 2));
        assert_eq!((keepalive.beat(true).await, begun.elapsed()), (Beat::Dead, RULES.time * 2 + RULES.timeout));
    }

    #[tokio::test(start_paused = true)]
    async fn or_always_where_that_is_permitted() {
        let mut keepalive = Keepalive::new(ClientKeepalive { permit_without_stream: true, ..RULES }, instant_now());
        advance(Duration::from_secs(1)).await;
        assert_eq!(keepalive.beat(false).await, Beat::Ask);
    }
}
