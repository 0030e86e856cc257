//! A connection's socket that is read a bit at a time.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::has_budget_remaining;
use tokio::time::Instant;

use super::clock::instant_now;
use super::line::{LONG, Standing};

/// Bytes that are read at once, about: more are rarely there where a peer sends no more than a request of usual size.
const AT_ONCE: usize = 128 * 1024;
/// Bytes that are read when it is one's turn: some ten microseconds.
const TURN: usize = 64 * 1024;
/// The least that is read at a time: a small request.
const LEAST: usize = 4 * 1024;
/// Bytes that are read past the line: what a stream's window lets a peer send ahead.
const PASS: usize = 1 << 20;

/// A connection that reads a bit at once, for so long as the work that it makes is little, and then holds until it is its turn
/// ([`Standing::take_turns`]). Where few bytes make much work, fewer are read at a time.
#[derive(Debug)]
pub struct InTurn<I> {
    io: I,
    standing: Standing,
    /// Of which poll the instants below are.
    poll: u64,
    /// Bytes that may be read before it gets in line …
    left: usize,
    /// … and since when it has been reading and working.
    since: Option<Instant>,
    /// When it read last, if what that brought is being worked on.
    read_at: Option<Instant>,
    /// Most that is read at a time.
    most: usize,
    /// Less came than there was room for: that was probably all.
    came_short: bool,
    /// It may still look, in this poll, whether that was all, however long it has worked.
    looks_again: bool,
}

impl<I> InTurn<I> {
    /// A new connection.
    pub const fn new(io: I, standing: Standing) -> Self {
        Self { io, standing, poll: 0, left: AT_ONCE, since: None, read_at: None, most: TURN, came_short: false, looks_again: true }
    }

    /// What was worked on, and since when, is of this poll.
    fn follow_polls(&mut self) {
        let poll = self.standing.polls();
        if std::mem::replace(&mut self.poll, poll) != poll {
            self.forget_work();
        }
    }

    /// What comes next is not measured by what was before.
    fn forget_work(&mut self) {
        (self.since, self.read_at) = (None, None);
        (self.came_short, self.looks_again) = (false, true);
    }

    /// Fewer bytes at a time where what was read last made much work, more again where it did not.
    fn adapt(&mut self, now: Instant) {
        let Some(read_at) = self.read_at.take() else { return };
        let worked = now.saturating_duration_since(read_at);
        if worked > LONG * 2 {
            self.most = (self.most / 2).max(LEAST);
        } else if worked < LONG {
            self.most = (self.most * 2).min(TURN);
        }
    }

    /// Ready when it may read.
    fn poll_turn(&mut self, now: Instant, context: &Context<'_>) -> Poll<()> {
        if self.standing.takes_call() {
            (self.left, self.since) = (if self.standing.passes() { self.left } else { TURN }, Some(now));
        }
        if self.standing.takes_pass() {
            self.left = PASS;
        }
        let since = *self.since.get_or_insert(now);
        let in_time = self.standing.passes() || now.saturating_duration_since(since) < LONG;
        // Who took long over all that it was sent, or was not let onto the CPU, is not one with more to do.
        if self.left > 0 && (in_time || self.came_short && std::mem::take(&mut self.looks_again)) {
            return Poll::Ready(());
        }
        self.left = 0;
        self.standing.hold();
        // The task is polled when its turn has come; so is then what of it reads, which may have a waker of its own.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Begins anew: there was nothing more to be read.
    fn rest(&mut self) {
        self.left = AT_ONCE;
        self.forget_work();
        self.standing.read(false);
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for InTurn<I> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let now = instant_now();
        self.follow_polls();
        self.adapt(now);
        ready!(self.poll_turn(now, context));
        let (before, room) = (into.filled().len(), into.remaining().min(self.most));
        let Poll::Ready(read) = read_at_most(self.most, &mut self.io, context, into) else {
            // A task that has done its part for now is told so too (tokio::task::coop), though there is more.
            if has_budget_remaining() {
                self.rest();
            }
            return Poll::Pending;
        };
        let came = into.filled().len().saturating_sub(before);
        self.came_short = came < room;
        self.left = self.left.saturating_sub(came);
        self.read_at = Some(now);
        self.standing.read(true);
        Poll::Ready(read)
    }
}

fn read_at_most(most: usize, io: &mut (impl AsyncRead + Unpin), context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    if into.remaining() <= most {
        return Pin::new(io).poll_read(context, into);
    }
    // A part of the caller's own buffer; what of it was never written to is set to zero first.
    let mut part = ReadBuf::new(into.initialize_unfilled_to(most));
    let read = ready!(Pin::new(io).poll_read(context, &mut part));
    let came = part.filled().len();
    into.advance(came);
    Poll::Ready(read)
}

impl<I: AsyncWrite + Unpin> AsyncWrite for InTurn<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::AsyncReadExt;

    use super::super::line::Line;
    use super::super::tasks::Tasks;
    use super::*;

    fn line() -> Line {
        Line::new(Tasks::new().named("line"))
    }

    /// Reads until it is held, as a task does that is polled once.
    fn at_once(io: &mut InTurn<impl AsyncRead + Unpin>) -> usize {
        let mut context = Context::from_waker(Waker::noop());
        let (mut some, mut all) = (vec![0; TURN], 0);
        while Pin::new(&mut *io).poll_read(&mut context, &mut ReadBuf::new(&mut some)).is_ready() {
            all += TURN;
        }
        all
    }

    #[tokio::test]
    async fn what_is_read_is_what_was_sent_a_bit_at_a_time() {
        for bytes in [0, 1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 1 << 20] {
            let standing = Standing::default();
            let mut io = InTurn::new(tokio::io::repeat(7).take(bytes.try_into().unwrap()), standing.clone());
            let mut all = Vec::new();
            let read = standing.clone().take_turns(line(), async {
                io.read_to_end(&mut all).await.unwrap();
            });
            read.await;
            assert!(all.len() == bytes && all.iter().all(|byte| *byte == 7));
            assert!(standing.polls() >= u64::try_from(bytes.saturating_sub(AT_ONCE) / TURN).unwrap(), "{bytes}: {}", standing.polls());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_little_makes_much_work_less_is_read_at_a_time() {
        let standing = Standing::default();
        let mut io = InTurn::new(tokio::io::repeat(7), standing.clone());
        let mut some = vec![0; 2 * TURN];
        let mut read = Vec::new();
        for work in [LONG * 3, LONG * 3, LONG * 3, LONG * 3, LONG * 3, LONG * 3, LONG / 2, LONG / 2, LONG / 2, LONG / 2, LONG / 2, LONG / 2]
        {
            standing.call();
            read.push(io.read(&mut some).await.unwrap());
            tokio::time::advance(work).await;
        }
        let kib = |many: usize| many * 1024;
        assert_eq!(read, [64, 32, 16, 8, 4, 4, 4, 8, 16, 32, 64, 64].map(kib));
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_between_two_polls_is_no_work() {
        let standing = Standing::default();
        let mut io = InTurn::new(tokio::io::repeat(7), standing.clone());
        let mut some = vec![0; 2 * TURN];
        let reads = standing.clone().take_turns(line(), async {
            let first = io.read(&mut some).await.unwrap();
            tokio::time::sleep(LONG * 10).await;
            (first, io.read(&mut some).await.unwrap())
        });
        assert_eq!(reads.await, (TURN, TURN));
        assert_eq!(standing.polls(), 2, "it was not told to wait");
    }

    #[tokio::test]
    async fn before_somebody_in_line_is_called_late_what_it_sent_is_read() {
        let standing = Standing::default();
        let mut io = InTurn::new(tokio::io::repeat(7).take(1 << 30), standing.clone());
        assert!(!standing.reads_on(), "nothing keeps it from reading");
        assert!(at_once(&mut io) <= AT_ONCE);
        assert!(standing.reads_on());
        assert_eq!(at_once(&mut io), PASS);
        assert!(!standing.reads_on(), "once");
        assert_eq!(at_once(&mut io), 0);
        standing.call();
        assert_eq!(at_once(&mut io), TURN, "it was called");
        io.rest();
        assert!(at_once(&mut io) <= AT_ONCE);
        assert!(standing.reads_on(), "it is another time");
    }

    #[tokio::test]
    async fn whether_more_may_come_is_known() {
        let (mut peer, io) = tokio::io::duplex(64);
        let standing = Standing::default();
        let mut io = InTurn::new(io, standing.clone());
        tokio::io::AsyncWriteExt::write_all(&mut peer, &[7; 10]).await.unwrap();
        io.read_exact(&mut [0; 10]).await.unwrap();
        assert!(standing.is_behind());
        assert_eq!(at_once(&mut io), 0);
        assert!(!standing.is_behind());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_lasts_however_long_what_was_read_is_worked_on() {
        let standing = Standing::default();
        let mut io = InTurn::new(tokio::io::repeat(7), standing.clone());
        at_once(&mut io);
        assert!(standing.reads_on());
        let came = io.read(&mut vec![0; TURN]).await.unwrap();
        tokio::time::advance(LONG * 2).await;
        assert_eq!(came + at_once(&mut io), PASS);
    }

    #[tokio::test(start_paused = true)]
    async fn who_worked_for_long_on_all_that_came_is_not_held() {
        let (mut peer, io) = tokio::io::duplex(64);
        let standing = Standing::default();
        let mut io = InTurn::new(io, standing.clone());
        let mut context = Context::from_waker(Waker::noop());
        let mut poll = |io: &mut InTurn<_>| Pin::new(io).poll_read(&mut context, &mut ReadBuf::new(&mut [0; 20])).is_ready();
        tokio::io::AsyncWriteExt::write_all(&mut peer, &[7; 10]).await.unwrap();
        assert!(poll(&mut io));
        tokio::time::advance(LONG).await;
        assert!(!poll(&mut io) && !standing.is_behind(), "there was no more");
        // Once: who sends little by little is not read from for ever.
        for held in [false, false, true] {
            tokio::io::AsyncWriteExt::write_all(&mut peer, &[7; 10]).await.unwrap();
            assert_eq!(poll(&mut io), !held);
            tokio::time::advance(LONG).await;
        }
        assert!(standing.is_behind());
    }

    #[tokio::test(start_paused = true)]
    async fn who_worked_for_long_is_held_however_little_was_read() {
        let mut io = InTurn::new(tokio::io::repeat(7), Standing::default());
        let mut context = Context::from_waker(Waker::noop());
        let mut poll = |io: &mut InTurn<_>| Pin::new(io).poll_read(&mut context, &mut ReadBuf::new(&mut [0])).is_ready();
        assert!(poll(&mut io) && poll(&mut io));
        tokio::time::advance(LONG).await;
        assert!(!poll(&mut io));
    }
}
