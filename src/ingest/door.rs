//! What a connection's requests share, and the last step of every one of them: the handler.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use super::budget::{Budget, Share, Ticket};
use super::counters::Counters;
use super::problem::Problem;
use super::{Handler, Request};
use crate::model::{Peer, Refusal, Signal};
use crate::runtime::clock::instant_now;
use crate::runtime::{Buffers, Heavy, Line, Standing, Stop};

/// A sender's own deadline is met this much early, so that the answer gets there in time; at most a tenth of it.
const REPLY_MARGIN: Duration = Duration::from_millis(100);
/// How long past its deadline a handler may run before it is cut off.
const OVERSTAY: Duration = Duration::from_millis(500);

/// What all connections share.
pub struct House {
    /// Takes the requests.
    pub handler: Arc<dyn Handler>,
    /// Bytes in flight.
    pub budget: Arc<Budget>,
    /// No new work.
    pub stop: Stop,
    /// Requests in flight are answered now.
    pub cut: Stop,
    /// Connections end now.
    pub end: Stop,
    /// Longest time a sender is kept waiting.
    pub max_wait: Duration,
    /// Where large bodies are worked on.
    pub heavy: Heavy,
    /// What happened so far.
    pub counters: Arc<Counters>,
    /// Messages are put together in these.
    pub buffers: Buffers,
    /// Where connections stand that make much work.
    pub line: Line,
}

/// One connection, as its requests see it.
pub struct Door {
    /// What all connections share.
    pub house: Arc<House>,
    /// Its part of the budget.
    pub share: Arc<Share>,
    /// The other end.
    pub peer: Peer,
    /// Whether what it sends is being read, and how many calls run.
    pub standing: Standing,
}

/// Why a request was not taken.
#[derive(Debug)]
pub enum Refused {
    /// At the door.
    Here(Problem),
    /// By the handler.
    Behind(Refusal),
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::Here(problem)
    }
}

impl Door {
    /// When a request that arrived at `arrival` must be answered. `timeout`: what its sender asks for.
    pub fn deadline(&self, arrival: Instant, timeout: Option<Duration>) -> Instant {
        let own = timeout.map_or(self.house.max_wait, |timeout| timeout.saturating_sub(REPLY_MARGIN.min(timeout / 10)));
        let wait = own.min(self.house.max_wait);
        arrival.checked_add(wait).unwrap_or(arrival)
    }

    /// Refuses new work while stopping.
    ///
    /// # Errors
    /// Where no new work is taken.
    pub fn open(&self) -> Result<(), Problem> {
        if self.house.stop.requested() { Err(Problem::Stopping) } else { Ok(()) }
    }

    /// Until when the answer to a request of this deadline is waited for.
    pub fn overstayed(deadline: Instant) -> Instant {
        deadline.checked_add(OVERSTAY).unwrap_or(deadline)
    }

    /// Waits for `work` on a request of this deadline, for as long as its answer is waited for.
    ///
    /// # Errors
    /// Those of `work`, or that it was not done in time.
    pub async fn in_time<T, E: Into<Refused>>(&self, deadline: Instant, work: impl Future<Output = Result<T, E>>) -> Result<T, Refused> {
        tokio::select! {
            biased;
            done = work => done.map_err(Into::into),
            () = self.house.cut.wait() => Err(Problem::Stopping.into()),
            () = sleep_until(Self::overstayed(deadline)) => Err(Problem::TimedOut.into()),
        }
    }

    /// Hands a request over and waits for its answer, for as long as that is waited for. The ticket is held until then.
    ///
    /// # Errors
    /// The handler's refusal, or one for a handler that could not answer in time.
    pub async fn hand_over(&self, signal: Signal, body: Bytes, deadline: Instant, ticket: Ticket) -> Result<Bytes, Refused> {
        self.in_time(deadline, self.deliver(signal, body, deadline, ticket)).await
    }

    /// Hands a request over and waits for its answer; the caller sees to it that this does not last for ever.
    ///
    /// # Errors
    /// The handler's refusal, or that the deadline has passed already.
    pub async fn deliver(&self, signal: Signal, body: Bytes, deadline: Instant, ticket: Ticket) -> Result<Bytes, Refused> {
        if deadline <= instant_now() {
            // Nobody waits for it any more; its sender will bring it again.
            return Err(Problem::TimedOut.into());
        }
        self.house.counters.handled.add_one();
        let room = ticket.room();
        let request = Request { signal, body, deadline, peer: self.peer, room: room.clone() };
        let answer = self.house.handler.handle(request).await.map_err(Refused::Behind);
        drop(room);
        answer
    }

    /// Counts a refusal and says what the sender is told.
    pub fn told(&self, refused: Refused) -> (Refusal, Option<http::StatusCode>) {
        match refused {
            Refused::Behind(refusal) => (refusal, None),
            Refused::Here(problem) => {
                self.house.counters.count(&problem);
                (problem.refusal(), problem.http_status())
            }
        }
    }
}
