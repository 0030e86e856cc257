//! Work that would keep a worker of the runtime for milliseconds, for which all other requests would wait: inflating,
//! compressing, transcoding large bodies, going through very many spans. It is done on threads of its own, few at a time of one
//! kind (so that decoders' windows stay few too), and, where it is for long, behind those who wait for a CPU with little to do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{ThreadId, available_parallelism};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::tasks::{NO_PAUSE, Pause, TaskFailed, Tasks};

/// Most at a time of one [`Heavy`].
const AT_A_TIME: usize = 2;
/// A thread without work ends after so long. Not at once: a new one begins before it can be made nicer, on the CPU of who
/// started it.
const REST: Duration = Duration::from_secs(5);

/// Where such work is done.
#[derive(Clone, Debug)]
pub struct Heavy {
    tasks: Tasks,
    name: &'static str,
    /// What a thread does first …
    begin: fn(),
    /// … and while it works.
    pause: Pause,
    permits: Arc<Semaphore>,
    idle: Arc<Idle>,
}

/// Threads without work, each with where its next is to be put. It ends when that is dropped.
#[derive(Debug, Default)]
struct Idle(Mutex<Vec<(ThreadId, SyncSender<Job>)>>);

struct Job {
    work: Box<dyn FnOnce() + Send>,
    permit: OwnedSemaphorePermit,
}

impl Heavy {
    /// Nothing is worked on yet. `name`: of its threads.
    #[must_use]
    pub fn new(tasks: Tasks, name: &'static str) -> Self {
        let begin = tasks.manners().long;
        Self::beginning(tasks, name, begin)
    }

    /// For work of usual requests, some milliseconds of it: somebody's large ones are not in its way, here or on a CPU.
    #[must_use]
    pub fn brief(tasks: Tasks, name: &'static str) -> Self {
        let begin = tasks.manners().brief;
        Self::beginning(tasks, name, begin)
    }

    fn beginning(tasks: Tasks, name: &'static str, begin: fn()) -> Self {
        // On few CPUs one kind of work leaves one of them to the others.
        let at_a_time = available_parallelism().map_or(1, |cpus| cpus.get().saturating_sub(1).clamp(1, AT_A_TIME));
        let pause = tasks.manners().pause;
        Self { tasks, name, begin, pause, permits: Arc::new(Semaphore::new(at_a_time)), idle: Arc::default() }
    }

    /// Does `work`, which is told how to pause: at once and here, or, where it is `large`, once it is its turn. What has begun goes on to its end, with all
    /// that it owns, also where nobody waits for it any more; what it does not own is not held for it.
    ///
    /// # Errors
    /// It was large and panicked.
    pub async fn run<T, W>(&self, large: bool, work: W) -> Result<T, TaskFailed>
    where
        T: Send + 'static,
        W: FnOnce(Pause) -> T + Send + 'static,
    {
        if !large {
            return Ok(work(NO_PAUSE));
        }
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| TaskFailed)?;
        let (tell, told) = oneshot::channel();
        let pause = self.pause;
        // Nobody may wait for it any more.
        let work = Box::new(move || drop(tell.send(work(pause))));
        self.hand_over(Job { work, permit });
        told.await.map_err(|_| TaskFailed)
    }

    fn hand_over(&self, mut job: Job) {
        while let Some(worker) = self.idle.last() {
            match worker.send(job) {
                Ok(()) => return,
                Err(back) => job = back.0,
            }
        }
        let ((give, first), begin, idle) = (sync_channel(1), self.begin, Arc::downgrade(&self.idle));
        let begun = self.tasks.thread(self.name, move || {
            begin();
            work_on(first.recv().ok(), &idle);
        });
        // That it ended already, or panicked, is told by what it drops.
        let _told = match begun {
            Ok(_) => give.send(job).is_ok(),
            // The system has no thread to give: slow for all is better than not at all.
            Err(_) => catch_unwind(AssertUnwindSafe(job.work)).is_ok(),
        };
    }
}

/// One piece of work after the other.
fn work_on(mut next: Option<Job>, idle: &Weak<Idle>) {
    while let Some(Job { work, permit }) = next {
        work();
        next = Idle::wait(idle, permit);
    }
}

impl Idle {
    fn list(&self) -> MutexGuard<'_, Vec<(ThreadId, SyncSender<Job>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self) -> Option<SyncSender<Job>> {
        self.list().pop().map(|(_, worker)| worker)
    }

    /// The next work of this thread, which holds the permit of the last; `None`: it is not needed any more.
    fn wait(idle: &Weak<Self>, permit: OwnedSemaphorePermit) -> Option<Job> {
        let (this, (give, next)) = (std::thread::current().id(), sync_channel(1));
        idle.upgrade()?.list().push((this, give));
        // Whoever gets it finds this thread idle.
        drop(permit);
        match next.recv_timeout(REST) {
            Err(RecvTimeoutError::Timeout) => Self::leave(idle, this, &next),
            told => told.ok(),
        }
    }

    /// Rests no longer. What it was given at the last moment is done.
    fn leave(idle: &Weak<Self>, this: ThreadId, next: &Receiver<Job>) -> Option<Job> {
        if let Some(idle) = idle.upgrade() {
            idle.list().retain(|(thread, _)| *thread != this);
        }
        next.recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Waker};

    use super::super::tasks::Manners;
    use super::*;

    #[tokio::test]
    async fn it_is_done_behind_others_and_a_panic_is_told() {
        thread_local!(static MANNER: std::cell::Cell<&'static str> = const { std::cell::Cell::new("none") });
        let manners = Manners { brief: || MANNER.set("brief"), long: || MANNER.set("long"), pause: || MANNER.set("paused") };
        let heavy = Heavy::new(Tasks::with(manners), "test");
        assert_eq!(heavy.run(true, |_| MANNER.get()).await, Ok("long"));
        assert_eq!(Heavy::brief(Tasks::with(manners), "test").run(true, |_| MANNER.get()).await, Ok("brief"));
        let paused = |pause: Pause| {
            pause();
            MANNER.get()
        };
        assert_eq!(heavy.run(true, paused).await, Ok("paused"));
        assert_eq!(heavy.run(false, paused).await, Ok("none"), "who works here pauses nowhere");
        assert_eq!(heavy.run(true, |_| -> () { panic!("on purpose") }).await, Err(TaskFailed));
        assert_eq!(heavy.run(true, |_| 1).await, Ok(1), "the permit came back");
    }

    #[tokio::test]
    async fn few_are_done_at_a_time_and_also_those_that_nobody_waits_for() {
        let tasks = Tasks::new();
        let heavy = Heavy::new(tasks.clone(), "test");
        let at_a_time = heavy.permits.available_permits();
        assert!(at_a_time <= AT_A_TIME && (at_a_time == 1 || at_a_time < available_parallelism().unwrap().get()));
        let (gate, done) = (Arc::new(Mutex::new(())), Arc::new(AtomicUsize::new(0)));
        let held = gate.lock().unwrap();
        let work = || {
            let (gate, done) = (Arc::clone(&gate), Arc::clone(&done));
            move |_: Pause| {
                drop(gate.lock().unwrap());
                done.fetch_add(1, Ordering::SeqCst);
            }
        };
        let mut all: Vec<_> = (0..12).map(|_| Box::pin(heavy.run(true, work()))).collect();
        for one in &mut all {
            assert!(one.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert_eq!(tasks.open(), at_a_time, "the rest waits for its turn");
        // Begun, and given up.
        drop(all.remove(0));
        drop(held);
        for one in all {
            one.await.unwrap();
        }
        // No more threads than there is work for at a time, and none once nobody can have work for them.
        assert!((1..=at_a_time).contains(&tasks.open()));
        drop(heavy);
        tasks.all_ended().await;
        assert_eq!(done.load(Ordering::SeqCst), 12);
    }
}
