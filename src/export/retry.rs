//! Trying again: what is worth it, after which pause, and until when.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::config::meaning::Retry;
use crate::model::{Answer, Code, Refusal};
use crate::runtime::Backoff;
use crate::runtime::clock::instant_now;

/// A request made ready, to be sent as often as it takes.
pub trait Attempt: Sync {
    /// Sends it once; to be over at `over`.
    fn attempt(&self, over: Instant) -> impl Future<Output = Answer> + Send;
}

/// Attempts until one is accepted, refused for good, or until the least of `deadline` and the policy's
/// `max_elapsed_time` leaves no time for another try; then the last refusal stands. Each attempt has to be
/// over `timeout` after its start, and at `deadline` at the latest. `again`: which refusals are worth another.
///
/// Dropping the future ends the attempt in progress, and no other follows.
///
/// # Errors
/// The last refusal.
pub async fn persist(
    policy: Retry,
    timeout: Duration,
    deadline: Instant,
    again: impl Fn(&Refusal) -> bool,
    request: impl Attempt,
) -> Answer {
    let mut now = instant_now();
    let end = last_start(policy, now, deadline);
    let mut backoff = Backoff::new(policy.initial_interval, policy.max_interval);
    let mut last: Option<Refusal> = None;
    loop {
        if now >= deadline {
            return Err(last.unwrap_or_else(|| Refusal::new(Code::DeadlineExceeded, "the deadline had passed before the first attempt")));
        }
        let over = now.checked_add(timeout).unwrap_or(deadline).min(deadline);
        let refusal = match tokio::time::timeout_at(over, request.attempt(over)).await {
            Ok(Ok(message)) => return Ok(message),
            Ok(Err(refusal)) => refusal,
            Err(_) => cut_off(now, over, over == deadline, last.take()),
        };
        if !policy.enabled || !again(&refusal) {
            return Err(refusal);
        }
        let pause = match refusal.retry_after {
            Some(asked) if !asked.is_zero() => asked,
            _ => backoff.pause(),
        };
        match instant_now().checked_add(pause) {
            Some(next) if next < end => sleep_until(next).await,
            _ => return Err(refusal),
        }
        last = Some(refusal);
        now = instant_now();
    }
}

/// No attempt begins at or after this.
fn last_start(policy: Retry, start: Instant, deadline: Instant) -> Instant {
    if policy.max_elapsed_time.is_zero() {
        return deadline;
    }
    start.checked_add(policy.max_elapsed_time).unwrap_or(deadline).min(deadline)
}

/// An attempt that the deadline cut short says nothing about downstream that an earlier refusal did not say better.
fn cut_off(began: Instant, over: Instant, by_deadline: bool, last: Option<Refusal>) -> Refusal {
    match last {
        Some(refusal) if by_deadline => refusal,
        _ => {
            let waited = over.duration_since(began).as_secs_f64();
            Refusal::new(Code::DeadlineExceeded, format!("downstream did not answer within {waited:.3} s"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;

    use super::*;
    use crate::otlp::status;

    fn policy(initial: u64, max_elapsed: u64) -> Retry {
        Retry {
            enabled: true,
            initial_interval: Duration::from_secs(initial),
            max_interval: Duration::from_secs(30),
            max_elapsed_time: Duration::from_secs(max_elapsed),
        }
    }

    /// Answers in turn, the last for ever; `None` is none at all.
    struct Script {
        attempts: AtomicUsize,
        answers: Vec<Option<Answer>>,
    }

    impl Attempt for &Script {
        async fn attempt(&self, over: Instant) -> Answer {
            assert!(over > Instant::now());
            let number = self.attempts.fetch_add(1, Ordering::SeqCst);
            match self.answers.get(number).or(self.answers.last()).cloned().flatten() {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        }
    }

    /// The answer, the number of attempts and the seconds it took.
    async fn run_within(policy: Retry, timeout: u64, deadline: u64, answers: &[Option<Answer>]) -> (Answer, usize, u64) {
        let start = Instant::now();
        let script = Script { attempts: AtomicUsize::new(0), answers: answers.to_vec() };
        let answer = persist(policy, Duration::from_secs(timeout), start + Duration::from_secs(deadline), status::retryable, &script).await;
        (answer, script.attempts.into_inner(), start.elapsed().as_secs())
    }

    async fn run(policy: Retry, deadline: u64, answers: &[Answer]) -> (Answer, usize, u64) {
        let answers: Vec<_> = answers.iter().cloned().map(Some).collect();
        run_within(policy, 5, deadline, &answers).await
    }

    fn refusal(code: Code) -> Answer {
        Err(Refusal::new(code, "no"))
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_may_pass_later_is_tried_again() {
        let ok = || Ok(Bytes::from_static(b"yes"));
        for (code, tried_again) in [
            (Code::Cancelled, true),
            (Code::Unknown, false),
            (Code::InvalidArgument, false),
            (Code::DeadlineExceeded, true),
            (Code::NotFound, false),
            (Code::AlreadyExists, false),
            (Code::PermissionDenied, false),
            (Code::ResourceExhausted, false),
            (Code::FailedPrecondition, false),
            (Code::Aborted, true),
            (Code::OutOfRange, true),
            (Code::Unimplemented, false),
            (Code::Internal, false),
            (Code::Unavailable, true),
            (Code::DataLoss, true),
            (Code::Unauthenticated, false),
        ] {
            let (answer, attempts, _) = run(policy(1, 300), 60, &[refusal(code), ok()]).await;
            assert_eq!((answer.is_ok(), attempts), (tried_again, if tried_again { 2 } else { 1 }), "{code:?}");
        }
        let hinted = Err(Refusal::new(Code::ResourceExhausted, "full").retry_after(Duration::from_secs(3)));
        let (answer, attempts, seconds) = run(policy(1, 300), 60, &[hinted, ok()]).await;
        assert_eq!((answer, attempts, seconds), (ok(), 2, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn it_stops_at_the_least_of_all_times() {
        for (initial, max_elapsed, deadline, at_most) in [(1, 300, 10, 10), (1, 4, 60, 4), (1, 0, 20, 20), (5, 300, 2, 0)] {
            let (answer, attempts, seconds) = run(policy(initial, max_elapsed), deadline, &[refusal(Code::Unavailable)]).await;
            assert_eq!(answer, refusal(Code::Unavailable));
            assert!(seconds <= at_most, "{seconds} s of {at_most}");
            assert!(attempts >= 1);
        }
        let off = Retry { enabled: false, ..policy(1, 300) };
        assert_eq!(run(off, 60, &[refusal(Code::Unavailable)]).await, (refusal(Code::Unavailable), 1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn past_the_deadline_nothing_is_sent() {
        let (answer, attempts, _) = run(policy(1, 300), 0, &[Ok(Bytes::new())]).await;
        assert_eq!((answer.unwrap_err().code, attempts), (Code::DeadlineExceeded, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hint_beyond_the_deadline_is_passed_on_at_once() {
        let hinted = Err(Refusal::new(Code::Unavailable, "later").retry_after(Duration::from_secs(3600)));
        assert_eq!(run(policy(1, 300), 10, std::slice::from_ref(&hinted)).await, (hinted, 1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_without_an_answer_is_over_after_its_timeout() {
        let (answer, attempts, seconds) = run_within(policy(1, 300), 2, 9, &[None]).await;
        assert_eq!(answer.unwrap_err().code, Code::DeadlineExceeded);
        assert!((2..=4).contains(&attempts) && seconds <= 9, "{attempts} in {seconds} s");
    }

    #[tokio::test(start_paused = true)]
    async fn the_refusal_before_stands_when_the_deadline_cuts_the_next_attempt() {
        let (answer, attempts, seconds) = run_within(policy(1, 300), 30, 5, &[Some(refusal(Code::Unavailable)), None]).await;
        assert_eq!((answer, attempts, seconds), (refusal(Code::Unavailable), 2, 5));
    }
}
