//! The only spawner. Every task and thread has a name, is counted while it lives, and a panic in it is counted
//! instead of vanishing with its join handle.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Cloneable; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    inner: Arc<Inner>,
}

/// What a thread does before its first work, so that it has a CPU as soon as that work needs one.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// For work of which others wait for every piece.
    pub brief: fn(),
    /// For work that takes so long that others are to go first.
    pub long: fn(),
    /// What it does every now and then while it works.
    pub pause: Pause,
}

/// To be called by work that may take milliseconds, after each tenth of one: others may have a CPU then.
pub type Pause = fn();

/// Of work that is short.
pub const NO_PAUSE: Pause = || ();

impl Default for Manners {
    /// All threads are alike.
    fn default() -> Self {
        Self { brief: || (), long: || (), pause: NO_PAUSE }
    }
}

#[derive(Debug, Default)]
struct Inner {
    manners: Manners,
    kinds: Mutex<BTreeMap<&'static str, Arc<Kind>>>,
    open: AtomicUsize,
    panics: AtomicU64,
    ended: Notify,
}

/// Counts of the tasks of one name.
#[derive(Debug, Default)]
struct Kind {
    open: AtomicUsize,
    started: AtomicU64,
    panics: AtomicU64,
}

/// One line of [`Tasks::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskCount {
    /// The name given at the start.
    pub name: &'static str,
    /// How many live.
    pub open: usize,
    /// How many were ever started.
    pub started: u64,
    /// How many ended in a panic.
    pub panics: u64,
}

/// The task did not return: it panicked or was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("task ended without a result")]
pub struct TaskFailed;

impl Tasks {
    /// Counts nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts nothing yet. `manners`: of threads that [`Heavy`](super::Heavy) starts.
    #[must_use]
    pub fn with(manners: Manners) -> Self {
        Self { inner: Arc::new(Inner { manners, ..Inner::default() }) }
    }

    /// What threads do first.
    #[must_use]
    pub fn manners(&self) -> Manners {
        self.inner.manners
    }

    /// Starts a task on the current tokio runtime.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.named(name).spawn(future)
    }

    /// A spawner of many tasks of one name: spares the look-up of the name.
    #[must_use]
    pub fn named(&self, name: &'static str) -> Spawner {
        let mut kinds = self.inner.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = Arc::clone(kinds.entry(name).or_default());
        Spawner { tasks: self.clone(), kind }
    }

    /// Starts an OS thread, for work that blocks.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub fn thread<F>(&self, name: &'static str, work: F) -> io::Result<std::thread::JoinHandle<()>>
    where
        F: FnOnce() + Send + 'static,
    {
        let alive = Alive::new(self.named(name));
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _alive = alive;
            work();
        })
    }

    /// Runs work that may block on the runtime's threads for it. It runs to its end even if nobody waits for it.
    #[expect(clippy::disallowed_methods, reason = "this is the place that counts and joins")]
    pub fn blocking<F, T>(&self, name: &'static str, work: F) -> Task<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let alive = Alive::new(self.named(name));
        Task {
            handle: tokio::task::spawn_blocking(move || {
                let _alive = alive;
                work()
            }),
        }
    }

    /// How many tasks and threads live.
    #[must_use]
    pub fn open(&self) -> usize {
        self.inner.open.load(Ordering::SeqCst)
    }

    /// How many ended in a panic, ever.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.inner.panics.load(Ordering::SeqCst)
    }

    /// All names with their counts, sorted.
    #[must_use]
    pub fn list(&self) -> Vec<TaskCount> {
        let kinds = self.inner.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds
            .iter()
            .map(|(name, kind)| TaskCount {
                name,
                open: kind.open.load(Ordering::SeqCst),
                started: kind.started.load(Ordering::SeqCst),
                panics: kind.panics.load(Ordering::SeqCst),
            })
            .collect()
    }

    /// Returns once none lives.
    pub async fn all_ended(&self) {
        loop {
            let ended = self.inner.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.open() == 0 {
                return;
            }
            ended.await;
        }
    }
}

/// Starts tasks of one name.
#[derive(Clone, Debug)]
pub struct Spawner {
    tasks: Tasks,
    kind: Arc<Kind>,
}

impl Spawner {
    /// Starts a task on the current tokio runtime.
    #[expect(clippy::disallowed_methods, reason = "this is the place that counts and joins")]
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let alive = Alive::new(self.clone());
        Task {
            handle: tokio::spawn(async move {
                let _alive = alive;
                future.await
            }),
        }
    }
}

/// Counts a task from its start to its end, however it ends.
struct Alive {
    spawner: Spawner,
}

impl Alive {
    fn new(spawner: Spawner) -> Self {
        spawner.tasks.inner.open.fetch_add(1, Ordering::SeqCst);
        spawner.kind.open.fetch_add(1, Ordering::SeqCst);
        spawner.kind.started.fetch_add(1, Ordering::SeqCst);
        Self { spawner }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        let inner = &self.spawner.tasks.inner;
        if std::thread::panicking() {
            inner.panics.fetch_add(1, Ordering::SeqCst);
            self.spawner.kind.panics.fetch_add(1, Ordering::SeqCst);
        }
        self.spawner.kind.open.fetch_sub(1, Ordering::SeqCst);
        inner.open.fetch_sub(1, Ordering::SeqCst);
        inner.ended.notify_waiters();
    }
}

/// A started task. Dropping it lets the task run on.
#[derive(Debug)]
pub struct Task<T> {
    handle: JoinHandle<T>,
}

impl<T> Task<T> {
    /// Cuts the task off at its next await.
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, TaskFailed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.handle).poll(context).map(|end| end.map_err(|_| TaskFailed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn counts_what_lives_and_what_panicked() {
        let tasks = Tasks::new();
        assert_eq!(tasks.spawn("adds", async { 1 + 1 }).await, Ok(2));
        assert_eq!(tasks.spawn("panics", async { panic!("on purpose") }).await, Err::<(), _>(TaskFailed));
        let waiting = tasks.spawn("waits", std::future::pending::<()>());
        assert_eq!(tasks.open(), 1);
        waiting.abort();
        assert_eq!(waiting.await, Err(TaskFailed));
        tasks.all_ended().await;
        assert_eq!((tasks.open(), tasks.panics()), (0, 1));
        let list: Vec<_> = tasks.list().into_iter().map(|count| (count.name, count.open, count.started, count.panics)).collect();
        assert_eq!(list, [("adds", 0, 1, 0), ("panics", 0, 1, 1), ("waits", 0, 1, 0)]);
    }

    #[tokio::test]
    async fn threads_are_counted_too() {
        let tasks = Tasks::new();
        tasks.thread("works", || ()).unwrap().join().unwrap();
        tasks.all_ended().await;
        assert!(tasks.thread("panics", || panic!("on purpose")).unwrap().join().is_err());
        assert_eq!((tasks.open(), tasks.panics()), (0, 1));
    }
}
