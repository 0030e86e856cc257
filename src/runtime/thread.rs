//! Threads of our own. A panic in one is counted and told, never silent.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Starts a thread. The name shows in `/proc/PID/task/TID/comm`, which holds 15 bytes.
///
/// # Errors
/// Where the system has no thread left.
pub fn spawn(name: &'static str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(body)) {
            PANICS.fetch_add(1, Ordering::Relaxed);
            tracing::error!(thread = name, reason = reason(payload.as_ref()), "a thread panicked and is gone");
        }
    })
}

/// How many threads panicked since the start.
#[must_use]
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

fn reason(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&'static str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_counted_and_does_not_spread() {
        let before = panics();
        spawn("ss-test-panic", || panic!("on purpose")).unwrap().join().unwrap();
        assert_eq!(panics(), before + 1);
    }

    #[test]
    fn the_message_of_a_panic_is_found() {
        let check = |payload: Box<dyn Any + Send>, expected: &str| assert_eq!(reason(payload.as_ref()), expected);
        check(Box::new("text"), "text");
        check(Box::new(String::from("owned")), "owned");
        check(Box::new(7), "no message");
    }
}
