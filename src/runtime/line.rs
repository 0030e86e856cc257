//! Who makes much work stands in line behind those who make little.
//!
//! One thread serves all connections. A peer that writes faster than it is read would keep that thread for as long as it has
//! something to send, and sixty of them so long that everybody else waits for a tenth of a second; and a request waits for
//! its turn at each of its steps. So a connection reads a bit at once and works for a bit at a time, and for more it gets in
//! line ([`InTurn`](super::InTurn), [`Standing::take_turns`]): those in line go on one after the other, each after everything
//! else that can be done and after sockets were looked at. So does whoever is new, until a request of theirs has come whole and
//! there was little else: many who begin at once would go before everybody. Nobody is held up by one who is called and does
//! nothing. Where all make much work and are few, nobody needs to stand anywhere.
//!
//! Others' requests may be with other threads of the agent, which compress or inflate them. Where a CPU is short these are
//! woken on that of the runtime, and the kernel lets whoever works go on until its clock ticks: four milliseconds where it
//! does so 250 times a second. So the runtime's thread offers its CPU while it calls those in line (sched_yield(2)).

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::clock::instant_now;
use super::tasks::Spawner;

/// Work of one connection before it is others' turn, about.
pub const LONG: Duration = Duration::from_micros(500);
/// So long a connection that is not new works before it gets in line: a request or two. What counts is the work since it had
/// been read to its end, with few calls running: who has sent no more than these is not behind others, however long they take …
const CREDIT: Duration = Duration::from_millis(1);
/// … and so many are few.
const FEW_CALLS: u32 = 16;
/// Whoever makes little work is expected to come again for so long.
const LATELY: Duration = Duration::from_millis(50);
/// More than so many that make much work take turns, whoever else is there: somebody may come.
const FEW: usize = 8;
/// The CPU is offered to other threads after so long. Not with each call: whoever does so gives away, where others want the CPU,
/// the rest of a turn that the kernel has given already, up to 0.1 ms for a thread with short ones (`yield_task_fair`,
/// kernel/sched/fair.c, from 6.18 on).
const OFFERED_AFTER: Duration = Duration::from_micros(200);

/// The line of all connections.
#[derive(Clone, Debug)]
pub struct Line(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    waiting: Mutex<Waiting>,
    caller: Spawner,
    since: Instant,
    /// When somebody was served who makes little work, ns after `since`; 0: never.
    served: AtomicU64,
    /// Connections that have worked for more than their share.
    indebted: AtomicUsize,
    /// Lets another thread onto the CPU that wants it …
    offer: fn(),
    /// … as happened last, ns after `since`.
    offered: AtomicU64,
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

    /// Whether it was called; where not, it will wake the context's task.
    fn was_called(&self, context: &Context<'_>) -> bool {
        let mut waker = self.waker();
        if let Some(before) = &mut *waker {
            before.clone_from(context.waker());
        }
        waker.is_none()
    }
}

impl Line {
    /// Nobody stands in it. `caller` starts who calls them, while somebody does.
    #[must_use]
    pub fn new(caller: Spawner) -> Self {
        Self::offering(std::thread::yield_now, caller)
    }

    fn offering(offer: fn(), caller: Spawner) -> Self {
        let (served, indebted, offered) = (AtomicU64::new(0), AtomicUsize::new(0), AtomicU64::new(0));
        Self(Arc::new(Inner { waiting: Mutex::default(), caller, since: instant_now(), served, indebted, offer, offered }))
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
            self.offer_cpu(instant_now());
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

    fn offer_cpu(&self, now: Instant) {
        let now = self.nanoseconds(now);
        let before = self.0.offered.load(Ordering::Relaxed);
        if u128::from(now.saturating_sub(before)) >= OFFERED_AFTER.as_nanos() {
            self.0.offered.store(now, Ordering::Relaxed);
            (self.0.offer)();
        }
    }

    /// Nanoseconds after its begin, never 0.
    fn nanoseconds(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.0.since).as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    /// Somebody is served who makes little work.
    fn serves(&self, at: Instant) {
        self.0.served.store(self.nanoseconds(at), Ordering::Relaxed);
    }

    /// Whether there is somebody to be served before those who make much work.
    fn is_needed(&self, now: Instant) -> bool {
        let served = self.0.served.load(Ordering::Relaxed);
        let lately = || u128::from(self.nanoseconds(now).saturating_sub(served)) < LATELY.as_nanos();
        served > 0 && lately() || self.0.indebted.load(Ordering::Relaxed) > FEW
    }
}

/// What a connection's task and its reader know of each other.
#[derive(Clone, Debug, Default)]
pub struct Standing(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    /// How often the task was polled: only within one poll is the time between two reads work, and not waiting.
    polls: AtomicU64,
    /// In this poll it was told to wait for its turn.
    refused: AtomicBool,
    /// It was told so, and has not read since.
    held: AtomicBool,
    /// It was called.
    called: AtomicBool,
    pass: AtomicU8,
    /// A whole message has come from it.
    asked: AtomicBool,
    /// More may lie in its socket.
    unread: AtomicBool,
    /// Calls that run.
    calls: AtomicU32,
    /// Where it stands in line.
    place: Mutex<Option<Arc<Place>>>,
}

/// Past the line, once: not asked for, given, being used, used since there was nothing to be read.
const NO_PASS: u8 = 0;
const GIVEN: u8 = 1;
const PASSING: u8 = 2;
const USED: u8 = 3;

impl Standing {
    /// The whole of a connection's task, which gets in line where it has made much work, or has much to read.
    pub fn take_turns<F: Future>(self, line: Line, task: F) -> impl Future<Output = F::Output> {
        // Boxed, for a task that is moved once it is there has room for itself twice, and there may be thousands.
        let mut task = Box::pin(task);
        let mut turns = Turns::new(self, line);
        poll_fn(move |context| {
            let begin = instant_now();
            if !turns.may_go_on(begin, context) {
                return Poll::Pending;
            }
            let polled = task.as_mut().poll(context);
            if polled.is_pending() {
                turns.worked(begin, instant_now(), context);
            }
            polled
        })
    }

    /// To be asked before a peer is called late: where what it has sent may not all have been read, that is to be done first, past
    /// the line, up to a bound and once. Whether that is so.
    #[must_use]
    pub fn reads_on(&self) -> bool {
        let Known { held, unread, pass, .. } = &*self.0;
        let place = self.place().clone();
        let behind = held.load(Ordering::Relaxed) || unread.load(Ordering::Relaxed) || place.is_some();
        let given = behind && pass.compare_exchange(NO_PASS, GIVEN, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if given && let Some(task) = place.and_then(|place| place.waker().clone()) {
            task.wake();
        }
        given
    }

    fn place(&self) -> MutexGuard<'_, Option<Arc<Place>>> {
        self.0.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it goes past the line.
    pub(super) fn passes(&self) -> bool {
        matches!(self.0.pass.load(Ordering::Relaxed), GIVEN | PASSING)
    }

    /// As the line does.
    #[cfg(test)]
    pub(super) fn call(&self) {
        self.0.called.store(true, Ordering::Relaxed);
    }

    /// How often the task was polled.
    pub(super) fn polls(&self) -> u64 {
        self.0.polls.load(Ordering::Relaxed)
    }

    /// Whether a pass was given; taken with that.
    pub(super) fn takes_pass(&self) -> bool {
        let taken = self.0.pass.compare_exchange(GIVEN, PASSING, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if taken {
            self.0.held.store(false, Ordering::Relaxed);
            self.0.refused.store(false, Ordering::Relaxed);
        }
        taken
    }

    /// Whether it was called; told once.
    pub(super) fn takes_call(&self) -> bool {
        let called = self.0.called.load(Ordering::Relaxed);
        if called {
            self.0.called.store(false, Ordering::Relaxed);
            self.0.held.store(false, Ordering::Relaxed);
        }
        called
    }

    /// There is more to read than is read at once, or past the line.
    pub(super) fn hold(&self) {
        let _was_passing = self.0.pass.compare_exchange(PASSING, USED, Ordering::Relaxed, Ordering::Relaxed);
        self.0.held.store(true, Ordering::Relaxed);
        self.0.refused.store(true, Ordering::Relaxed);
    }

    /// Whether anything was read, or nothing was left.
    pub(super) fn read(&self, more: bool) {
        self.0.unread.store(more, Ordering::Relaxed);
        if !more {
            self.0.pass.store(NO_PASS, Ordering::Relaxed);
        }
    }

    /// A call runs, until what is returned is dropped.
    pub fn runs(&self) -> Runs {
        self.0.asked.store(true, Ordering::Relaxed);
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        Runs(Self::clone(self))
    }

    /// How many calls run.
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.0.calls.load(Ordering::Relaxed)
    }

    /// Whether there is more to do than what a few calls ask for.
    pub(super) fn is_behind(&self) -> bool {
        self.0.unread.load(Ordering::Relaxed) || self.calls() > FEW_CALLS
    }
}

/// A call that runs.
#[derive(Debug)]
pub struct Runs(Standing);

impl Drop for Runs {
    fn drop(&mut self) {
        self.0.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// When a connection's task goes on.
#[derive(Debug)]
struct Turns {
    standing: Standing,
    line: Line,
    /// How long it has worked since it was read to its end.
    worked: Duration,
    indebted: bool,
    /// It asked for something and was not behind then: who is new, perhaps one of many that come at once, has no credit.
    known: bool,
    /// How long it may work since it was called.
    left: Duration,
}

impl Turns {
    const fn new(standing: Standing, line: Line) -> Self {
        Self { standing, line, worked: Duration::ZERO, indebted: false, known: false, left: Duration::ZERO }
    }

    fn may_go_on(&mut self, now: Instant, context: &Context<'_>) -> bool {
        let place = self.standing.place().clone();
        if let Some(place) = place {
            if place.was_called(context) {
                self.left = LONG;
                self.standing.0.called.store(true, Ordering::Relaxed);
            } else if self.standing.passes() {
                self.line.leave(&place);
            } else {
                return false;
            }
            *self.standing.place() = None;
        } else if self.known && !self.indebted {
            self.line.serves(now);
        } else if self.left.is_zero() && !self.standing.passes() && self.line.is_needed(now) {
            self.enter(context);
            return false;
        }
        self.standing.0.polls.fetch_add(1, Ordering::Relaxed);
        self.standing.0.refused.store(false, Ordering::Relaxed);
        true
    }

    fn worked(&mut self, begin: Instant, end: Instant, context: &Context<'_>) {
        let long = end.saturating_duration_since(begin);
        let worked = self.worked.saturating_add(long);
        self.left = self.left.saturating_sub(long);
        let behind = self.standing.is_behind();
        self.known |= !behind && self.standing.0.asked.load(Ordering::Relaxed);
        self.set_worked(if behind { worked } else { Duration::ZERO });
        // Not because of what it was told before: it may not want to read now, for its peer does not read.
        if self.standing.0.refused.load(Ordering::Relaxed) {
            self.enter(context);
        }
    }

    fn enter(&mut self, context: &Context<'_>) {
        self.left = Duration::ZERO;
        *self.standing.place() = Some(self.line.enter(context.waker()));
    }

    fn set_worked(&mut self, worked: Duration) {
        self.worked = worked;
        let before = std::mem::replace(&mut self.indebted, worked > CREDIT);
        match (before, self.indebted) {
            (false, true) => self.line.0.indebted.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.line.0.indebted.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.set_worked(Duration::ZERO);
        if let Some(place) = &*self.standing.place() {
            self.line.leave(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::super::in_turn::InTurn;
    use super::super::tasks::Tasks;
    use super::*;

    fn line() -> Line {
        Line::new(Tasks::new().named("line"))
    }

    fn who_has_asked() -> Standing {
        let standing = Standing::default();
        drop(standing.runs());
        standing
    }

    /// Works for so long, as often, and lets others go on in between.
    async fn work(steps: usize, long: Duration, mut done: impl FnMut()) {
        for _ in 0..steps {
            let begin = std::time::Instant::now();
            while begin.elapsed() < long {
                std::hint::spin_loop();
            }
            done();
            let mut others = false;
            poll_fn(|context| {
                context.waker().wake_by_ref();
                if std::mem::replace(&mut others, true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
    }

    /// How many steps those with much work did between two of somebody with little, eight times of ten: a machine on which the
    /// thread has to wait makes anybody's work long.
    async fn steps_between_looks(line: &Line, many: usize) -> usize {
        let steps = Arc::new(AtomicUsize::new(0));
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..many {
            let steps = Arc::clone(&steps);
            let busy = work(1_000_000, LONG / 2, move || {
                steps.fetch_add(1, Ordering::Relaxed);
            });
            let standing = Standing::default();
            standing.read(true);
            all.spawn(standing.take_turns(line.clone(), busy));
        }
        let mut between = Vec::new();
        let looks = who_has_asked().take_turns(line.clone(), async {
            let mut before = 0;
            for look in 0..100 {
                tokio::task::yield_now().await;
                let now = steps.load(Ordering::Relaxed);
                // At first nobody is known to make much work.
                if look > 20 {
                    between.push(now - before);
                }
                before = now;
            }
        });
        looks.await;
        between.sort_unstable();
        between[between.len() / 10 * 8]
    }

    #[tokio::test]
    async fn who_makes_little_work_waits_for_one_of_those_who_make_much() {
        for many in [3, 50] {
            let line = line();
            let between = steps_between_looks(&line, many).await;
            // A turn is LONG.
            assert!(between <= 2, "{between} steps of {many}");
            tokio::task::yield_now().await;
            assert_eq!(line.0.indebted.load(Ordering::Relaxed), 0, "all have gone");
            assert!(line.waiting().places.is_empty());
        }
    }

    #[tokio::test]
    async fn where_a_few_make_much_work_and_nobody_little_nobody_stands_in_line() {
        let line = line();
        let begin = instant_now();
        let standing = Standing::default();
        standing.read(true);
        standing.take_turns(line.clone(), work(10, LONG, || ())).await;
        assert!(!line.is_needed(begin), "it made much work from the beginning");
        who_has_asked().take_turns(line.clone(), work(10, LONG, || ())).await;
        assert!(line.is_needed(begin) && !line.is_needed(begin + Duration::from_secs(60)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_new_stands_in_line_until_a_request_has_come_where_others_need_that() {
        let line = line();
        let context = Context::from_waker(Waker::noop());
        let new = || Turns::new(Standing::default(), line.clone());
        let now = instant_now();
        assert!(new().may_go_on(now, &context), "nobody else is there");
        line.serves(now);
        let mut turns = new();
        assert!(!turns.may_go_on(now, &context));
        line.next().unwrap().waker().take();
        assert!(turns.may_go_on(now, &context));
        turns.standing.read(true);
        turns.standing.read(false);
        turns.worked(now, now + LONG, &context);
        assert!(!turns.may_go_on(now, &context), "it was read to its end, but that was no request");
        line.next().unwrap().waker().take();
        assert!(turns.may_go_on(now, &context));
        drop(turns.standing.runs());
        turns.worked(now, now + LONG, &context);
        assert!((0..9).all(|_| turns.may_go_on(now, &context)));
    }

    #[tokio::test]
    async fn many_who_make_much_work_take_turns_before_anybody_else_comes() {
        let line = line();
        let mut all: Vec<_> = (0..=FEW).map(|_| Turns::new(Standing::default(), line.clone())).collect();
        all.iter_mut().for_each(|turns| turns.set_worked(CREDIT * 2));
        assert!(line.is_needed(instant_now()));
        drop(all.pop());
        assert!(!line.is_needed(instant_now()));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_was_read_to_the_end_and_runs_few_calls_makes_little_work() {
        let standing = Standing::default();
        let mut turns = Turns::new(standing.clone(), line());
        let context = Context::from_waker(Waker::noop());
        let begin = instant_now();
        let mut after = |work: Duration, more: bool, calls: u32| {
            standing.read(more);
            let _running: Vec<Runs> = (0..calls).map(|_| standing.runs()).collect();
            turns.worked(begin, begin + work, &context);
            turns.indebted
        };
        assert!(!after(CREDIT * 100, false, FEW_CALLS));
        assert!(!after(CREDIT, true, 1));
        assert!(after(Duration::from_nanos(1), true, 1));
        assert!(after(Duration::ZERO, false, FEW_CALLS + 1));
        assert!(!after(Duration::ZERO, false, FEW_CALLS));
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_called_works_for_its_turn_before_it_gets_in_line_again() {
        let (line, standing) = (line(), Standing::default());
        let mut turns = Turns::new(standing.clone(), line.clone());
        let context = Context::from_waker(Waker::noop());
        standing.read(true);
        line.serves(instant_now());
        let now = instant_now();
        turns.set_worked(CREDIT * 2);
        assert!(!turns.may_go_on(now, &context), "it is in debt");
        line.next().unwrap().waker().take();
        for _ in 0..2 {
            assert!(turns.may_go_on(now, &context));
            turns.worked(now, now + LONG / 2, &context);
        }
        assert!(!turns.may_go_on(now, &context), "its turn is over");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_given_a_pass_in_line_goes_on_at_once() {
        let (line, standing) = (line(), Standing::default());
        let mut turns = Turns::new(standing.clone(), line.clone());
        let woken = Arc::new(AtomicUsize::new(0));
        struct Counts(Arc<AtomicUsize>);
        impl std::task::Wake for Counts {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let waker = Waker::from(Arc::new(Counts(Arc::clone(&woken))));
        let context = Context::from_waker(&waker);
        line.serves(instant_now());
        turns.set_worked(CREDIT * 2);
        assert!(!turns.may_go_on(instant_now(), &context));
        assert!(standing.reads_on());
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        assert!(turns.may_go_on(instant_now(), &context) && line.waiting().places.is_empty());
        assert!(turns.may_go_on(instant_now(), &context), "until it has read");
        assert!(!standing.reads_on(), "once");
        assert!(standing.takes_pass());
        standing.hold();
        assert!(!turns.may_go_on(instant_now(), &context), "all that it may");
    }

    #[tokio::test]
    async fn those_in_line_take_turns_to_read_and_others_go_first() {
        const MANY: usize = 20;
        const MOST: usize = 128 * 1024;
        let line = line();
        let turns = Arc::new(AtomicUsize::new(0));
        let mut all = tokio::task::JoinSet::new();
        let most = Arc::new(Mutex::new(vec![0; MANY]));
        for one in 0..MANY {
            let (turns, most, standing) = (Arc::clone(&turns), Arc::clone(&most), Standing::default());
            let mut io = InTurn::new(tokio::io::repeat(7).take(2 << 20), standing.clone());
            all.spawn(standing.take_turns(line.clone(), async move {
                let (mut some, mut read) = (vec![0; 32 * 1024], 0);
                while let came @ 1.. = io.read(&mut some).await.unwrap() {
                    read += came;
                    turns.fetch_add(1, Ordering::SeqCst);
                    let mut most = most.lock().unwrap();
                    most[one] = read;
                    let least = most.iter().min().unwrap();
                    assert!(read - least <= MOST, "{one} is {} bytes ahead", read - least);
                }
                assert_eq!(read, 2 << 20);
            }));
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
                if before > MANY * 4 {
                    longest = longest.max(after - before);
                }
            }
        };
        let longest = little.await;
        assert!((1..=2).contains(&longest), "{longest} reads without a break");
        while let Some(done) = all.join_next().await {
            done.unwrap();
        }
        tokio::task::yield_now().await;
        let waiting = line.waiting();
        assert!(waiting.places.is_empty() && !waiting.called);
    }

    /// How often the CPU was offered while somebody in line had so many turns, each of which took so long.
    async fn offers(turns: u32, long: Duration) -> u32 {
        thread_local!(static OFFERS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) });
        OFFERS.set(0);
        let line = Line::offering(|| OFFERS.set(OFFERS.get() + 1), Tasks::new().named("line"));
        let standing = Standing::default();
        let mut taken = 0;
        let works = poll_fn(|_| {
            taken += 1;
            standing.hold();
            // As long as a clock that stands still lets it seem.
            let _done = std::pin::pin!(tokio::time::advance(long)).poll(&mut Context::from_waker(Waker::noop()));
            if taken > turns { Poll::Ready(()) } else { Poll::Pending }
        });
        standing.clone().take_turns(line, works).await;
        OFFERS.get()
    }

    #[tokio::test(start_paused = true)]
    async fn other_threads_are_offered_the_cpu_between_the_turns_of_those_in_line() {
        assert_eq!(offers(100, LONG).await, 100);
        assert_eq!(offers(100, OFFERED_AFTER / 10).await, 10, "not with each short one");
        assert_eq!(offers(0, LONG).await, 0, "nobody stands in line");
    }

    #[tokio::test]
    async fn who_is_called_and_does_nothing_or_has_gone_holds_nobody_up() {
        let line = line();
        let context = Context::from_waker(Waker::noop());
        let mut still: Vec<_> = (0..3).map(|_| Turns::new(Standing::default(), line.clone())).collect();
        for turns in &mut still {
            turns.standing.hold();
            turns.worked(instant_now(), instant_now(), &context);
            assert!(!turns.may_go_on(instant_now(), &context));
        }
        drop(still.pop());
        assert_eq!(line.waiting().places.len(), 2);
        let standing = Standing::default();
        let mut io = InTurn::new(tokio::io::repeat(7).take(1 << 20), standing.clone());
        let mut all = Vec::new();
        standing.take_turns(line.clone(), async { io.read_to_end(&mut all).await.map(drop) }).await.unwrap();
        assert_eq!(all.len(), 1 << 20);
        for turns in &mut still {
            assert!(turns.may_go_on(instant_now(), &context));
            turns.worked(instant_now(), instant_now(), &context);
            assert!(turns.standing.place().is_none(), "it did not want to read in this poll");
            assert!(turns.standing.reads_on(), "and has not read since it was told to wait");
        }
    }
}
