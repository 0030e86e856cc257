//! Work that would keep a worker of the runtime for milliseconds, for which all other requests would wait: inflating,
//! compressing, transcoding large bodies, going through very many spans. It is done on threads of its own, few at a time of one
//! kind (so that decoders' windows stay few too), and behind those who wait for a CPU with little to do.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

use tokio::sync::{Semaphore, oneshot};

use super::tasks::{TaskFailed, Tasks};

/// Most at a time of one [`Heavy`].
const AT_A_TIME: usize = 2;
/// Nicer than the rest of the agent by so much: a third of an ordinary task's weight (`sched_prio_to_weight`,
/// kernel/sched/core.c). Large requests of busy nodes have to come through, too.
const NICER: i32 = 5;

/// Where such work is done.
#[derive(Clone, Debug)]
pub struct Heavy {
    tasks: Tasks,
    permits: Arc<Semaphore>,
}

impl Heavy {
    /// Nothing is worked on yet.
    #[must_use]
    pub fn new(tasks: Tasks) -> Self {
        // On few CPUs one kind of work leaves one of them to the others.
        let at_a_time = available_parallelism().map_or(1, |cpus| cpus.get().saturating_sub(1).clamp(1, AT_A_TIME));
        Self { tasks, permits: Arc::new(Semaphore::new(at_a_time)) }
    }

    /// Does `work`: at once and here, or, where it is `large`, once it is its turn. What has begun goes on to its end, with all
    /// that it owns, also where nobody waits for it any more; what it does not own is not held for it.
    ///
    /// # Errors
    /// It was large and panicked.
    pub async fn run<T, W>(&self, name: &'static str, large: bool, work: W) -> Result<T, TaskFailed>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        if !large {
            return Ok(work());
        }
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| TaskFailed)?;
        let (tell, told) = oneshot::channel();
        let waiting = Arc::new(Mutex::new(Some((work, permit))));
        let taken = Arc::clone(&waiting);
        let take = move || taken.lock().unwrap_or_else(PoisonError::into_inner).take();
        let begun = self.tasks.thread(name, move || {
            be_nicer();
            if let Some((work, _permit)) = take() {
                // Nobody may wait for it any more.
                let _unheard = tell.send(work());
            }
        });
        if begun.is_err() {
            // The system has no thread to give: slow for all is better than not at all.
            let here = waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
            return here.map(|(work, _permit)| work()).ok_or(TaskFailed);
        }
        told.await.map_err(|_| TaskFailed)
    }
}

/// Priorities are of threads on Linux (sched(7)); being nicer is never refused.
fn be_nicer() {
    let nice = rustix::process::getpriority_process(None).unwrap_or(0);
    let _as_before = rustix::process::setpriority_process(None, nice.saturating_add(NICER).min(19));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn it_is_done_behind_others_and_a_panic_is_told() {
        let heavy = Heavy::new(Tasks::new());
        let nice = || rustix::process::getpriority_process(None).unwrap();
        assert_eq!(heavy.run("test", true, nice).await, Ok((nice() + NICER).min(19)));
        assert_eq!(heavy.run("test", true, || -> () { panic!("on purpose") }).await, Err(TaskFailed));
        assert_eq!(heavy.run("test", true, || 1).await, Ok(1), "the permit came back");
    }

    #[tokio::test]
    async fn few_are_done_at_a_time_and_also_those_that_nobody_waits_for() {
        let tasks = Tasks::new();
        let heavy = Heavy::new(tasks.clone());
        let at_a_time = heavy.permits.available_permits();
        assert!(at_a_time <= AT_A_TIME && (at_a_time == 1 || at_a_time < available_parallelism().unwrap().get()));
        let (gate, done) = (Arc::new(Mutex::new(())), Arc::new(AtomicUsize::new(0)));
        let held = gate.lock().unwrap();
        let work = || {
            let (gate, done) = (Arc::clone(&gate), Arc::clone(&done));
            move || {
                drop(gate.lock().unwrap());
                done.fetch_add(1, Ordering::SeqCst);
            }
        };
        let mut all: Vec<_> = (0..12).map(|_| Box::pin(heavy.run("test", true, work()))).collect();
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
        tasks.all_ended().await;
        assert_eq!(done.load(Ordering::SeqCst), 12);
    }
}
