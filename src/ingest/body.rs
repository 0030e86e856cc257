//! Collecting a request's body: within its size, its ticket and its time.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use tokio::time::{Instant, timeout_at};

use super::budget::{OverBudget, Ticket};
use super::problem::Problem;
use crate::runtime::Standing;
use crate::runtime::clock::{instant_now, later};
use crate::runtime::slow::LOOK;

/// Room made at the second piece of a body, where its length is not known.
const FIRST_ROOM: usize = 64 * 1024;

/// Time to read what has come already.
const SOON: Duration = Duration::from_millis(20);

/// Reads a whole HTTP body of at most `limit` bytes. `standing`: of its connection.
///
/// # Errors
/// Too large, no room in the budget or let go for others, too slow, or broken off.
pub async fn whole<B>(body: B, limit: usize, ticket: &mut Ticket, deadline: Instant, standing: &Standing) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let announced = body.size_hint().exact();
    if announced.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit)) {
        return Err(Problem::TooLarge { limit });
    }
    let mut pieces = Pieces::new(body, deadline, standing);
    let mut collected = Collected::default();
    while let Some(piece) = pieces.next(ticket).await? {
        if piece.len() > limit.saturating_sub(collected.len()) {
            return Err(Problem::TooLarge { limit });
        }
        ticket.grow(piece.len())?;
        let expected = announced.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        collected.add(piece, expected.min(limit));
    }
    ticket.keep()?;
    Ok(collected.into_bytes())
}

/// Data of a body, trailers skipped.
struct Pieces<'s, B> {
    body: B,
    deadline: Instant,
    look: Instant,
    standing: &'s Standing,
}

impl<'s, B: Body<Data = Bytes> + Unpin> Pieces<'s, B> {
    /// `deadline`: when the whole body must have arrived.
    fn new(body: B, deadline: Instant, standing: &'s Standing) -> Self {
        Self { body, deadline, look: later(instant_now(), LOOK), standing }
    }

    /// The next piece, `None` at the end. `ticket` holds those before it.
    async fn next(&mut self, ticket: &mut Ticket) -> Result<Option<Bytes>, Problem> {
        loop {
            let until = self.deadline.min(self.look);
            match timeout_at(until, poll_fn(|context| self.poll(context, ticket))).await {
                Err(_) if self.deadline <= self.look && self.standing.reads_on() => self.deadline = later(instant_now(), SOON),
                Err(_) if self.deadline <= self.look => return Err(Problem::Slow),
                Err(_) => {
                    ticket.look();
                    self.look = later(instant_now(), LOOK);
                }
                Ok(frame) => match frame?.map(Frame::into_data) {
                    None => return Ok(None),
                    Some(Ok(data)) => return Ok(Some(data)),
                    Some(Err(_trailers)) => {}
                },
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>, ticket: &Ticket) -> Poll<Result<Option<Frame<Bytes>>, Problem>> {
        if ticket.poll_let_go(context).is_ready() {
            return Poll::Ready(Err(OverBudget::LetGo.into()));
        }
        Pin::new(&mut self.body).poll_frame(context).map(|frame| frame.transpose().map_err(|_| Problem::Gone))
    }
}

/// Pieces put together. A body of one piece is never copied; room is made as bytes arrive, never ahead of them by
/// more than they are.
#[derive(Debug, Default)]
pub struct Collected {
    first: Bytes,
    more: Option<BytesMut>,
}

impl Collected {
    /// Adds a piece. `expected` is the length the whole will have, where known.
    pub fn add(&mut self, piece: Bytes, expected: usize) {
        if piece.is_empty() {
            return;
        }
        match &mut self.more {
            None if self.first.is_empty() => self.first = piece,
            None => {
                let mut more = BytesMut::with_capacity(room(self.first.len().saturating_add(piece.len()), expected));
                more.extend_from_slice(&self.first);
                more.extend_from_slice(&piece);
                self.first = Bytes::new();
                self.more = Some(more);
            }
            Some(more) => {
                let needed = more.len().saturating_add(piece.len());
                if needed > more.capacity() {
                    more.reserve(room(needed, expected).saturating_sub(more.len()));
                }
                more.extend_from_slice(&piece);
            }
        }
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.more.as_ref().map_or(self.first.len(), BytesMut::len)
    }

    /// The whole.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.more.map_or(self.first, BytesMut::freeze)
    }
}

/// Room for `needed` bytes of `expected`: at most twice what has arrived.
fn room(needed: usize, expected: usize) -> usize {
    let ahead = needed.saturating_mul(2).max(FIRST_ROOM);
    if expected >= needed { expected.min(ahead) } else { ahead }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::super::budget::{Budget, Share};
    use super::*;

    #[test]
    fn pieces_make_the_whole_whatever_was_expected() {
        for expected in [0, 5, 300_000, 10_000_000] {
            let mut collected = Collected::default();
            let mut plain = Vec::new();
            for piece in 0..20_u8 {
                let bytes = vec![piece; usize::from(piece) * 1500];
                plain.extend_from_slice(&bytes);
                collected.add(Bytes::from(bytes), expected);
                assert_eq!(collected.len(), plain.len());
                let capacity = collected.more.as_ref().map_or(0, BytesMut::capacity);
                assert!(capacity <= (plain.len() * 2).max(FIRST_ROOM) * 2, "{capacity} for {}", plain.len());
            }
            assert_eq!(collected.into_bytes(), plain);
        }
    }

    #[test]
    fn one_piece_is_not_copied() {
        let piece = Bytes::from(vec![1; 100]);
        let mut collected = Collected::default();
        collected.add(piece.clone(), 100);
        assert_eq!(collected.into_bytes().as_ptr(), piece.as_ptr());
    }

    #[tokio::test]
    async fn the_limit_counts_before_the_ticket() {
        let budget = Budget::new(1000);
        for (size, expected) in [(99, Ok(99)), (100, Ok(100)), (101, Err(Problem::TooLarge { limit: 100 }))] {
            let mut ticket = Share::new(&budget).ticket();
            let body = Full::new(Bytes::from(vec![0; size]));
            let deadline = Instant::now() + std::time::Duration::from_secs(5);
            let read = whole(body, 100, &mut ticket, deadline, &Standing::default()).await;
            assert_eq!(read.map(|body| body.len()), expected);
            assert_eq!(ticket.bytes(), expected.unwrap_or(0));
        }
    }
}
