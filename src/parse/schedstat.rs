//! `/proc/PID/schedstat` and `/proc/PID/task/TID/schedstat` (`proc_pid_schedstat`, fs/proc/base.c):
//! `<sum_exec_runtime ns> <run_delay ns> <pcount>`.

use super::text::{number, words};

/// One task's scheduling totals since it was born.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedstat {
    /// Nanoseconds on a CPU.
    pub run_ns: u64,
    /// Nanoseconds runnable without running; a wait in progress is not in it.
    pub delay_ns: u64,
    /// Times it was given a CPU.
    pub timeslices: u64,
}

/// Why a text is no schedstat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchedstatError {
    /// Fewer than three fields.
    #[error("schedstat has no field {0}")]
    Missing(&'static str),
    /// A field that is no number, or too large.
    #[error("schedstat field {0} is not a number of 64 bits")]
    NotANumber(&'static str),
}

/// Reads the three numbers. Further fields are passed over.
pub fn schedstat(text: &[u8]) -> Result<Schedstat, SchedstatError> {
    let mut words = words(text);
    let mut next = |name| {
        let word = words.next().ok_or(SchedstatError::Missing(name))?;
        number(word).ok_or(SchedstatError::NotANumber(name))
    };
    Ok(Schedstat { run_ns: next("sum_exec_runtime")?, delay_ns: next("run_delay")?, timeslices: next("pcount")? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_three_numbers_or_says_which_is_missing() {
        fn check(text: &str, expected: Result<(u64, u64, u64), SchedstatError>) {
            let got = schedstat(text.as_bytes()).map(|s| (s.run_ns, s.delay_ns, s.timeslices));
            assert_eq!(got, expected, "{text:?}");
        }
        check("1044983 62114 7\n", Ok((1_044_983, 62_114, 7)));
        check("1 2 3", Ok((1, 2, 3)));
        check("1 2 3 4 5\n", Ok((1, 2, 3)));
        check("18446744073709551615 0 0\n", Ok((u64::MAX, 0, 0)));
        check("", Err(SchedstatError::Missing("sum_exec_runtime")));
        check("1 2\n", Err(SchedstatError::Missing("pcount")));
        check("18446744073709551616 0 0\n", Err(SchedstatError::NotANumber("sum_exec_runtime")));
        check("1 -2 3\n", Err(SchedstatError::NotANumber("run_delay")));
    }

    proptest! {
        #[test]
        fn never_panics(text in proptest::collection::vec(prop_oneof![Just(b' '), Just(b'\n'), b'0'..=b'9', any::<u8>()], 0..80)) {
            let _ = schedstat(&text);
        }

        #[test]
        fn what_the_kernel_prints_is_what_is_read(run in any::<u64>(), delay in any::<u64>(), slices in any::<u64>()) {
            let text = format!("{run} {delay} {slices}\n");
            prop_assert_eq!(schedstat(text.as_bytes()), Ok(Schedstat { run_ns: run, delay_ns: delay, timeslices: slices }));
        }
    }
}
