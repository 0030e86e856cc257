//! How the asynchronous rooms ask the sampler's thread for something.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::Node;
use super::sampler::{SWEEP_EVERY, nanoseconds};
use super::watch::Name;
use crate::model::{Mono, Subject, TaskKey};
use crate::runtime::clock::mono_now;

/// Most requests waiting for the sampler; one more is answered "no" at once.
const MAX_WAITING: usize = 8_192;

/// A request for readings newer than an instant.
#[derive(Debug)]
pub(super) struct Cover {
    pub(super) subjects: Vec<Subject>,
    /// Threads that spans name, by their own numbers.
    pub(super) threads: Vec<Name>,
    pub(super) until: Mono,
    pub(super) done: oneshot::Sender<()>,
}

/// What waits for the sampler.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) covers: VecDeque<Cover>,
    pub(super) rescans: Vec<oneshot::Sender<()>>,
    pub(super) collects: Vec<oneshot::Sender<()>>,
    pub(super) stop: bool,
    /// Much has come that nobody asked for.
    knocked: bool,
    /// The sampler is gone: nobody will answer.
    closed: bool,
}

impl Inbox {
    fn has_work(&self) -> bool {
        self.stop || self.knocked || !self.covers.is_empty() || !self.rescans.is_empty() || !self.collects.is_empty()
    }
}

/// The box both sides share.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    inbox: Mutex<Inbox>,
    filled: Condvar,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is asked or `patience` is over, and takes all there is.
    pub(super) fn take(&self, patience: Duration) -> Inbox {
        let (mut inbox, _) =
            self.filled.wait_timeout_while(self.lock(), patience, |inbox| !inbox.has_work()).unwrap_or_else(PoisonError::into_inner);
        Inbox {
            covers: std::mem::take(&mut inbox.covers),
            rescans: std::mem::take(&mut inbox.rescans),
            collects: std::mem::take(&mut inbox.collects),
            stop: inbox.stop,
            knocked: std::mem::take(&mut inbox.knocked),
            closed: false,
        }
    }

    /// Has the sampler look at what came.
    pub(super) fn knock(&self) {
        self.lock().knocked = true;
        self.filled.notify_one();
    }

    /// The sampler ends: everybody who waits, and who will ask, is answered "no".
    pub(super) fn close(&self) {
        let mut inbox = self.lock();
        *inbox = Inbox { closed: true, ..Inbox::default() };
    }

    fn ask(&self, put: impl FnOnce(&mut Inbox)) -> bool {
        let mut inbox = self.lock();
        if inbox.closed || inbox.covers.len() + inbox.rescans.len() + inbox.collects.len() >= MAX_WAITING {
            return false;
        }
        let asleep = !inbox.has_work();
        put(&mut inbox);
        drop(inbox);
        if asleep {
            self.filled.notify_one();
        }
        true
    }
}

/// Asks the sampler. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SamplerHandle {
    mailbox: Arc<Mailbox>,
    node: Arc<Node>,
}

impl SamplerHandle {
    pub(super) fn new(mailbox: Arc<Mailbox>, node: Arc<Node>) -> Self {
        Self { mailbox, node }
    }

    /// Waits until every subject has a reading not older than `until` (or than now, where `until` lies in the future).
    /// Answers at once where it has already; otherwise the sampler reads these subjects now, once for all who ask.
    /// False where that did not happen by `deadline`; whether a window is covered is for its `coverage` to say.
    ///
    /// A subject nobody asked for of late is told to the sampler in any case: it is read often from now on, not from the
    /// next sweep on, so that a container which ends soon after its first span leaves readings.
    pub fn cover(&self, subjects: &[Subject], until: Mono, deadline: Instant) -> impl Future<Output = bool> + Send + use<> {
        self.cover_threads(subjects, &[], until, deadline)
    }

    /// The same, also for threads that spans name: the subject in which somebody has this number in the pid namespace of its
    /// container. Whoever is not known yet is looked for; from then on all threads of that process are read one by one.
    pub fn cover_threads(
        &self,
        subjects: &[Subject],
        threads: &[(Subject, u32)],
        until: Mono,
        deadline: Instant,
    ) -> impl Future<Output = bool> + Send + use<> {
        let now = mono_now();
        let until = until.min(now);
        let (told, stale) = {
            let history = self.node.history();
            let stale = |subject: &Subject| history.newest(*subject).is_none_or(|newest| newest < until);
            let idle = |subject: &Subject| history.asked(*subject).is_none_or(|asked| now.since(asked) > nanoseconds(SWEEP_EVERY));
            let told: Vec<Subject> = subjects.iter().copied().filter(|subject| stale(subject) || idle(subject)).collect();
            (told, subjects.iter().any(stale))
        };
        let threads = self.threads_to_read(threads, until, now);
        let stale = stale || !threads.is_empty();
        let answer = if told.is_empty() && threads.is_empty() {
            None
        } else {
            self.ask(|inbox, done| inbox.covers.push_back(Cover { subjects: told, threads, until, done }))
        };
        async move { !stale || answered(answer, deadline).await }
    }

    /// Of these threads those that are not known, or were not read since `until`.
    fn threads_to_read(&self, threads: &[Name], until: Mono, now: Mono) -> Vec<Name> {
        let known: Vec<(Name, Vec<TaskKey>)> = {
            let named = self.node.threads();
            let there = threads.iter().filter(|(within, own_tid)| !named.was_missed(*within, *own_tid, now));
            there.map(|name| (*name, named.lives(name.0, name.1).collect())).collect()
        };
        let history = self.node.history();
        let stale = |task: &TaskKey| history.newest(Subject::Task(*task)).is_none_or(|newest| newest < until);
        known.into_iter().filter(|(_, tasks)| tasks.is_empty() || tasks.iter().any(stale)).map(|(name, _)| name).collect()
    }

    /// Looks for new processes and containers now: somebody named one that is not known. Many requests make one look, and
    /// looks are at least [`super::RESCAN_SPACING`] apart. False where it was not done by `deadline`.
    pub fn rescan(&self, deadline: Instant) -> impl Future<Output = bool> + Send + use<> {
        answered(self.ask(|inbox, done| inbox.rescans.push(done)), deadline)
    }

    /// Makes a collection now, for the last export before the end. False where it was not done by `deadline`.
    pub fn collect(&self, deadline: Instant) -> impl Future<Output = bool> + Send + use<> {
        answered(self.ask(|inbox, done| inbox.collects.push(done)), deadline)
    }

    /// Ends the sampler after what it is doing.
    pub fn stop(&self) {
        self.mailbox.ask(|inbox| inbox.stop = true);
    }

    fn ask(&self, put: impl FnOnce(&mut Inbox, oneshot::Sender<()>)) -> Option<oneshot::Receiver<()>> {
        let (done, answer) = oneshot::channel();
        self.mailbox.ask(|inbox| put(inbox, done)).then_some(answer)
    }
}

async fn answered(answer: Option<oneshot::Receiver<()>>, deadline: Instant) -> bool {
    match answer {
        None => false,
        Some(answer) => matches!(timeout_at(deadline, answer).await, Ok(Ok(()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_taken_once_and_all_of_it() {
        let mailbox = Mailbox::default();
        for _ in 0..3 {
            let (done, _answer) = oneshot::channel();
            assert!(mailbox.ask(|inbox| inbox.rescans.push(done)));
        }
        assert_eq!(mailbox.take(Duration::from_secs(60)).rescans.len(), 3);
        assert_eq!(mailbox.take(Duration::ZERO).rescans.len(), 0);
    }

    #[test]
    fn a_full_box_takes_no_more() {
        let mailbox = Mailbox::default();
        let put = || {
            let (done, _answer) = oneshot::channel();
            mailbox.ask(|inbox| inbox.collects.push(done))
        };
        assert!((0..MAX_WAITING).all(|_| put()));
        assert!(!put());
    }

    #[test]
    fn a_closed_box_answers_no_at_once() {
        let mailbox = Mailbox::default();
        let (done, mut answer) = oneshot::channel();
        assert!(mailbox.ask(|inbox| inbox.rescans.push(done)));
        mailbox.close();
        assert!(answer.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
        assert!(!mailbox.ask(|_| ()));
    }
}
