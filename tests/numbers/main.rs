//! The numbers, held against the kernel's own: a real agent, real cgroups, real load. `cargo test --test numbers` runs them
//! on this host, `make guest` in a guest with cgroup v2. Needs root.
//!
//! Every check says `pass NAME`, `fail NAME why` or, where the host's layout cannot show the thing at all, `skip NAME why`:
//! nothing is left out silently. Arguments are the names of the checks to run; the first argument `load` makes this program
//! the load instead.
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

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How a check ended that did not fail.
pub enum Told {
    Pass,
    /// This host cannot show it, and why.
    Skip(String),
}

thread_local! {
    static WHY: RefCell<String> = const { RefCell::new(String::new()) };
}

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "load") {
        load::main(&arguments[1..]);
        return ExitCode::SUCCESS;
    }
    // What cargo hands to every test.
    arguments.retain(|argument| !argument.starts_with('-'));
    set_hook(Box::new(|panic| {
        WHY.with_borrow_mut(|why| *why = panic.to_string().lines().collect::<Vec<_>>().join(" | "));
    }));
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, check) in checks::ALL.iter().filter(|(name, _)| arguments.is_empty() || arguments.iter().any(|wanted| wanted == name)) {
        let begin = Instant::now();
        match catch_unwind(AssertUnwindSafe(check)) {
            Ok(Told::Pass) => {
                passed += 1;
                println!("pass {name} ({:.1} s)", begin.elapsed().as_secs_f64());
            }
            Ok(Told::Skip(why)) => {
                skipped += 1;
                println!("skip {name} {why}");
            }
            Err(_) => {
                failed += 1;
                println!("fail {name} {}", WHY.take());
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
