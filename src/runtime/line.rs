//! Who has much to be read stands in line behind those who have little.
//!
//! One thread reads all connections. A peer that writes faster than it is read would keep that thread for as long as it has
//! something to send, and sixty of them so long that everybody else waits for a tenth of a second. So a connection reads a
//! bit at once, and for more it gets in line ([`InTurn`]): those in line read a [`TURN`] each, one after the other, each
//! after everything else that can be done and after sockets were looked at. Nobody is held up by one who is called and does
//! not read. Where few bytes make much work, fewer are read at a time.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::has_budget_remaining;
use tokio::time::Instant;

use super::clock::instant_now;
use super::tasks::Spawner;

/// Bytes that are read at once, about: more are rarely there where a peer sends no more than a request of usual size.
const AT_ONCE: usize = 128 * 1024;
/// … and for so long, with the work that what was read makes.
pub const LONG: Duration = Duration::from_micros(500);
/// Bytes that are read when it is one's turn: some ten microseconds.
const TURN: usize = 64 * 1024;
/// The least that is read at a time: a small request.
const LEAST: usize = 4 * 1024;
/// Bytes that are read past the line: what a stream's window lets a peer send ahead.
const PASS: usize = 1 << 20;

/// The line of all connections.
#[derive(Clone, Debug)]
pub struct Line(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    waiting: Mutex<Waiting>,
    caller: Spawner,
}

#[derive(Debug, Default)]
struct Waiting {
    places: VecDeque<Arc<Place>>,
    /// Somebody calls those who stand in line.
    called: bool,
}

/// Of one connection. Its waker is taken when it is called.
#[derive(Debug)]
struct Place(Mutex<Option<Waker>>);

impl Place {
    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Nobody stands in it. `caller` starts who calls them, while somebody does.
    #[must_use]
    pub fn new(caller: Spawner) -> Self {
        Self(Arc::new(Inner { waiting: Mutex::default(), caller }))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, waker: &Waker) -> Arc<Place> {
        let place = Arc::new(Place(Mutex::new(Some(waker.clone()))));
        let mut waiting = self.waiting();
        waiting.places.push_back(Arc::clone(&place));
        if !std::mem::replace(&mut waiting.called, true) {
            let line = self.clone();
            self.0.caller.spawn(async move { line.call_all().await });
        }
        place
    }

    fn leave(&self, place: &Arc<Place>) {
        self.waiting().places.retain(|other| !Arc::ptr_eq(other, place));
    }

    async fn call_all(&self) {
        // The runtime looks at sockets before it goes on here.
        tokio::task::yield_now().await;
        while let Some(place) = self.next() {
            let waker = place.waker().take();
            if let Some(waker) = waker {
                waker.wake();
            }
            tokio::task::yield_now().await;
        }
    }

    fn next(&self) -> Option<Arc<Place>> {
        let mut waiting = self.waiting();
        let next = waiting.places.pop_front();
        waiting.called = next.is_some();
        next
    }
}

/// What a connection's task and its reader know of each other.
#[derive(Clone, Debug, Default)]
pub struct Standing(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    /// How often the task was polled: only within one poll is the time between two reads work, and not waiting.
    polls: AtomicU64,
    in_line: AtomicBool,
    pass: AtomicU8,
}

/// Past the line, once: not asked for, given, used since there was nothing to be read.
const NO_PASS: u8 = 0;
const GIVEN: u8 = 1;
const USED: u8 = 2;

impl Standing {
    /// The whole of a connection's task, polls of which are counted.
    pub fn count<F: Future>(self, task: F) -> impl Future<Output = F::Output> {
        // Boxed, for a task that is moved once it is there has room for itself twice, and there may be thousands.
        let mut task = Box::pin(task);
        poll_fn(move |context| {
            self.0.polls.fetch_add(1, Ordering::Relaxed);
            task.as_mut().poll(context)
        })
    }

    /// To be asked before a peer is called late: where it stands in line, what it has sent is to be read first, up to
    /// [`PASS`] bytes and once. Whether that is so.
    #[must_use]
    pub fn reads_on(&self) -> bool {
        let Known { in_line, pass, .. } = &*self.0;
        in_line.load(Ordering::Relaxed) && pass.compare_exchange(NO_PASS, GIVEN, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// A connection that gets in line.
#[derive(Debug)]
pub struct InTurn<I> {
    io: I,
    line: Line,
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
    /// Reads past the line.
    passing: bool,
    place: Option<Arc<Place>>,
}

impl<I> InTurn<I> {
    /// A new connection.
    pub const fn new(io: I, line: Line, standing: Standing) -> Self {
        Self { io, line, standing, poll: 0, left: AT_ONCE, since: None, read_at: None, most: TURN, passing: false, place: None }
    }

    /// What was worked on, and since when, is of this poll.
    fn follow_polls(&mut self) {
        let poll = self.standing.0.polls.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.poll, poll) != poll {
            (self.since, self.read_at) = (None, None);
        }
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
        let known = &self.standing.0;
        if known.pass.compare_exchange(GIVEN, USED, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            (self.left, self.passing) = (PASS, true);
            known.in_line.store(false, Ordering::Relaxed);
            if let Some(place) = self.place.take() {
                self.line.leave(&place);
            }
        }
        let since = *self.since.get_or_insert(now);
        if self.left > 0 && (self.passing || now.saturating_duration_since(since) < LONG) {
            return Poll::Ready(());
        }
        (self.left, self.passing) = (0, false);
        known.in_line.store(true, Ordering::Relaxed);
        let place = self.place.get_or_insert_with(|| self.line.enter(context.waker()));
        {
            let mut waker = place.waker();
            if let Some(before) = &mut *waker {
                before.clone_from(context.waker());
                return Poll::Pending;
            }
        }
        (self.left, self.since, self.place) = (TURN, Some(now), None);
        known.in_line.store(false, Ordering::Relaxed);
        Poll::Ready(())
    }

    /// Begins anew: there was nothing more to be read.
    fn rest(&mut self) {
        (self.left, self.since, self.read_at, self.passing) = (AT_ONCE, None, None, false);
        self.standing.0.pass.store(NO_PASS, Ordering::Relaxed);
    }
}

impl<I> Drop for InTurn<I> {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            self.line.leave(place);
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for InTurn<I> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let now = instant_now();
        self.follow_polls();
        self.adapt(now);
        ready!(self.poll_turn(now, context));
        let before = into.filled().len();
        let Poll::Ready(read) = read_at_most(self.most, &mut self.io, context, into) else {
            // A task that has done its part for now is told so too (tokio::task::coop), though there is more.
            if has_budget_remaining() {
                self.rest();
            }
            return Poll::Pending;
        };
        self.left = self.left.saturating_sub(into.filled().len().saturating_sub(before));
        self.read_at = Some(now);
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
    use std::sync::atomic::AtomicUsize;

    use tokio::io::AsyncReadExt;

    use super::super::tasks::Tasks;
    use super::*;

    fn line() -> Line {
        Line::new(Tasks::new().named("line"))
    }

    /// Reads all of `bytes` as a connection does that finds them there, and tells after each read how much it has by then.
    async fn read_all(line: Line, bytes: usize, mut read: impl FnMut(usize)) {
        let mut io = InTurn::new(tokio::io::repeat(7).take(bytes.try_into().unwrap()), line, Standing::default());
        let (mut some, mut all) = (vec![0; 32 * 1024], 0);
        loop {
            match io.read(&mut some).await.unwrap() {
                0 => break,
                came => all += came,
            }
            read(all);
        }
        assert_eq!(all, bytes);
    }

    #[tokio::test]
    async fn what_is_read_is_what_was_sent_and_the_line_ends_empty() {
        let line = line();
        for bytes in [0, 1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 1 << 20] {
            read_all(line.clone(), bytes, |_| ()).await;
        }
        tokio::task::yield_now().await;
        let waiting = line.waiting();
        assert!(waiting.places.is_empty() && !waiting.called);
    }

    #[tokio::test]
    async fn those_in_line_take_turns_and_others_go_first() {
        const MANY: usize = 20;
        let line = line();
        let turns = Arc::new(AtomicUsize::new(0));
        let mut all = tokio::task::JoinSet::new();
        let most = Arc::new(Mutex::new(vec![0; MANY]));
        for one in 0..MANY {
            let (line, turns, most) = (line.clone(), Arc::clone(&turns), Arc::clone(&most));
            all.spawn(async move {
                read_all(line, 2 << 20, |read| {
                    turns.fetch_add(1, Ordering::SeqCst);
                    let mut most = most.lock().unwrap();
                    most[one] = read;
                    let least = most.iter().min().unwrap();
                    assert!(read - least <= AT_ONCE.max(2 * TURN), "{one} is {} bytes ahead", read - least);
                })
                .await;
            });
        }
        // Somebody with little to do: between two of its looks no more than one has its turn, once all stand in line.
        let little = async {
            let mut longest = 0;
            loop {
                let before = turns.load(Ordering::SeqCst);
                tokio::task::yield_now().await;
                let after = turns.load(Ordering::SeqCst);
                if after == before {
                    break longest;
                }
                if before > MANY * AT_ONCE / TURN * 2 {
                    longest = longest.max(after - before);
                }
            }
        };
        let longest = little.await;
        assert!((1..=TURN / (32 * 1024)).contains(&longest), "{longest} reads without a break");
        while let Some(done) = all.join_next().await {
            done.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_little_makes_much_work_less_is_read_at_a_time() {
        let mut io = InTurn::new(tokio::io::repeat(7), line(), Standing::default());
        let mut some = vec![0; 2 * TURN];
        let mut read = Vec::new();
        for work in [LONG * 3, LONG * 3, LONG * 3, LONG * 3, LONG * 3, LONG * 3, LONG / 2, LONG / 2, LONG / 2, LONG / 2, LONG / 2, LONG / 2]
        {
            read.push(io.read(&mut some).await.unwrap());
            tokio::time::advance(work).await;
        }
        let kib = |many: usize| many * 1024;
        assert_eq!(read, [64, 32, 16, 8, 4, 4, 4, 8, 16, 32, 64, 64].map(kib));
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_between_two_polls_is_no_work() {
        let standing = Standing::default();
        let mut io = InTurn::new(tokio::io::repeat(7), line(), standing.clone());
        let mut some = vec![0; 2 * TURN];
        let reads = standing.count(async {
            let first = io.read(&mut some).await.unwrap();
            tokio::time::sleep(LONG * 10).await;
            (first, io.read(&mut some).await.unwrap(), io.place.is_some())
        });
        assert_eq!(reads.await, (TURN, TURN, false));
    }

    #[tokio::test]
    async fn before_somebody_in_line_is_called_late_what_it_sent_is_read() {
        let standing = Standing::default();
        let mut io = InTurn::new(tokio::io::repeat(7).take(1 << 30), line(), standing.clone());
        let mut context = Context::from_waker(Waker::noop());
        let mut some = vec![0; TURN];
        let mut at_once = |io: &mut InTurn<_>| {
            let mut all = 0;
            while Pin::new(&mut *io).poll_read(&mut context, &mut ReadBuf::new(&mut some)).is_ready() {
                all += TURN;
            }
            all
        };
        assert!(!standing.reads_on(), "nothing keeps it from reading");
        assert!(at_once(&mut io) <= AT_ONCE);
        assert!(standing.reads_on());
        assert_eq!(at_once(&mut io), PASS);
        assert!(!standing.reads_on(), "once");
        assert_eq!(at_once(&mut io), 0);
        io.rest();
        assert!(at_once(&mut io) <= AT_ONCE);
        assert!(standing.reads_on(), "it is another time");
    }

    #[tokio::test(start_paused = true)]
    async fn who_worked_for_long_gets_in_line_however_little_was_read() {
        let mut io = InTurn::new(tokio::io::repeat(7), line(), Standing::default());
        let mut context = Context::from_waker(Waker::noop());
        let mut poll = |io: &mut InTurn<_>| Pin::new(io).poll_read(&mut context, &mut ReadBuf::new(&mut [0])).is_ready();
        assert!(poll(&mut io) && poll(&mut io));
        tokio::time::advance(LONG).await;
        assert!(!poll(&mut io));
    }

    #[tokio::test]
    async fn who_is_called_and_does_not_read_or_has_gone_holds_nobody_up() {
        let line = line();
        let mut context = Context::from_waker(Waker::noop());
        let mut still: Vec<_> = (0..3).map(|_| InTurn::new(tokio::io::repeat(7), line.clone(), Standing::default())).collect();
        for io in &mut still {
            io.left = 0;
            let mut some = [0; 8];
            assert!(Pin::new(io).poll_read(&mut context, &mut ReadBuf::new(&mut some)).is_pending());
        }
        drop(still.pop());
        assert_eq!(line.waiting().places.len(), 2);
        read_all(line.clone(), 1 << 20, |_| ()).await;
    }
}
