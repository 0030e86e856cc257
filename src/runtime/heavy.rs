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

    /// Does `work` once it is its turn. What has begun goes on to its end, with all that it owns, also where nobody waits for
    /// it any more; what it does not own is not held for it.
    ///
    /// # Errors
    /// It panicked.
    pub async fn run<T, W>(&self, name: &'static str, work: W) -> Result<T, TaskFailed>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
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

    use super::*;

    #[tokio::test]
    async fn it_is_done_behind_others_and_a_panic_is_told() {
        let heavy = Heavy::new(Tasks::new());
        let nice = || rustix::process::getpriority_process(None).unwrap();
        assert_eq!(heavy.run("test", nice).await, Ok((nice() + NICER).min(19)));
        assert_eq!(heavy.run("test", || -> () { panic!("on purpose") }).await, Err(TaskFailed));
        assert_eq!(heavy.run("test", || 1).await, Ok(1), "the permit came back");
    }

    #[tokio::test]
    async fn few_are_done_at_a_time_and_also_those_that_nobody_waits_for() {
        let heavy = Heavy::new(Tasks::new());
        let (now, most, done) = <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let mut all = tokio::task::JoinSet::new();
        for number in 0..12 {
            let (heavy, now, most, done) = (heavy.clone(), Arc::clone(&now), Arc::clone(&most), Arc::clone(&done));
            let work = move || {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(5));
                now.fetch_sub(1, Ordering::SeqCst);
                done.fetch_add(1, Ordering::SeqCst);
            };
            all.spawn(async move {
                let mut running = std::pin::pin!(heavy.run("test", work));
                if number == 0 {
                    // Begun, and given up.
                    let _begun = std::future::poll_fn(|context| std::task::Poll::Ready(running.as_mut().poll(context))).await;
                } else {
                    running.await.unwrap();
                }
            });
        }
        all.join_all().await;
        assert_eq!(done.load(Ordering::SeqCst), 12);
        let cpus = available_parallelism().unwrap().get();
        assert!(most.load(Ordering::SeqCst) <= if cpus > 2 { AT_A_TIME } else { 1 });
    }
}
