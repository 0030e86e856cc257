//! The numbers, held against the kernel's own: a real agent, real cgroups, real load. The lane `numbers` runs them on this
//! host, the lane `guest` in a guest with cgroup v2. Needs root.
//!
//! Every check says `ok NAME` or `FAIL NAME why`. What a host cannot show at all is told as `absent NAME why`; with
//! `STALLSPAN_EVERY_CHECK=1`, as in the guest, that is a failure too. Arguments are the names of the checks to run; the first
//! argument `load` makes this program the load instead. `STALLSPAN_IDLE_SECONDS`: how long an idle container is watched;
//! `STALLSPAN_SHORT_LIVED`: how many short-lived processes there are; `STALLSPAN_WINDOWS`: how many spans are held against
//! their threads' own word; `STALLSPAN_OWN_CLOCK=1`: the clock of this machine may be changed.
//!
//! All of it holds on a machine that starves: what is told is compared with what the kernel told the load itself meanwhile,
//! and what is waited for has a long deadline and no length of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test: it drives processes and clocks of its own, prints, and a panic is how it fails"
)]

mod agent;
mod checks;
mod groups;
mod load;
mod points;
mod windows;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::process::ExitCode;
use std::time::{Duration, Instant};

thread_local! {
    static WHY: RefCell<String> = const { RefCell::new(String::new()) };
}

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "load") {
        load::main(&arguments[1..]);
        return ExitCode::SUCCESS;
    }
    if arguments.first().is_some_and(|first| first == checks::CONFINED) {
        checks::confined(&arguments[1..]);
    }
    // What cargo hands to every test.
    arguments.retain(|argument| !argument.starts_with('-'));
    set_hook(Box::new(|panic| {
        WHY.with_borrow_mut(|why| *why = panic.to_string().lines().collect::<Vec<_>>().join(" | "));
    }));
    let every = std::env::var_os("STALLSPAN_EVERY_CHECK").is_some();
    let (mut passed, mut failed) = (0, 0);
    for check in checks::ALL.iter().filter(|check| arguments.is_empty() || arguments.iter().any(|wanted| wanted == check.name)) {
        let begin = Instant::now();
        let outcome = match check.needs.missing() {
            Some(why) if every => Err(why.to_owned()),
            Some(why) => {
                println!("absent {} {why}", check.name);
                continue;
            }
            None => catch_unwind(AssertUnwindSafe(check.run)).map_err(|_| WHY.take()),
        };
        match outcome {
            Ok(()) => {
                passed += 1;
                println!("ok {} ({:.1} s)", check.name, begin.elapsed().as_secs_f64());
            }
            Err(why) => {
                failed += 1;
                println!("FAIL {} {why}", check.name);
            }
        }
    }
    println!("{passed} passed, {failed} failed, 0 skipped");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Waits for a condition, but not for ever.
#[track_caller]
pub fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `found` within `percent` of `expected`; below a floor only `floor` counts.
#[track_caller]
pub fn near(what: &str, found: f64, expected: f64, percent: f64, floor: f64) {
    let allowed = (expected * percent / 100.0).max(floor);
    let off = (found - expected).abs();
    println!("  {what}: {found:.4} against {expected:.4}, {:.3} % off", 100.0 * off / expected.max(1e-9));
    assert!(off <= allowed, "{what}: {found} is not within {percent} % (or {floor}) of {expected}");
}
