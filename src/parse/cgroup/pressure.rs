//! `*.pressure` and `/proc/pressure/*` (`psi_show`, kernel/sched/psi.c): `some avg10=… avg60=… avg300=… total=<µs>`.

use super::super::text::{lines, number, words};

const NS_PER_US: u64 = 1000;

/// Total stall times in ns: `[some, full]`. The averages are the kernel's own and not used. `irq` has no `some` line,
/// `cpu` no `full` line before 5.13.
#[must_use]
pub fn pressure(text: &[u8]) -> [Option<u64>; 2] {
    let (mut some, mut full) = (None, None);
    for line in lines(text) {
        let mut words = words(line);
        let kind = words.next();
        let total = words.find_map(|word| number(word.strip_prefix(b"total=")?)).and_then(|us| us.checked_mul(NS_PER_US));
        match kind {
            Some(b"some") => some = total,
            Some(b"full") => full = total,
            _ => {}
        }
    }
    [some, full]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn totals_become_nanoseconds() {
        fn check(text: &str, expected: [Option<u64>; 2]) {
            assert_eq!(pressure(text.as_bytes()), expected, "{text:?}");
        }
        let some = "some avg10=1.53 avg60=0.87 avg300=0.25 total=3947000\n";
        check(some, [Some(3_947_000_000), None]);
        check(&format!("{some}full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"), [Some(3_947_000_000), Some(7000)]);
        check("full avg10=0.00 avg60=0.00 avg300=0.00 total=9\n", [None, Some(9000)]);
        check("some avg10=0.00 avg60=0.00", [None, None]);
        check("some total=99999999999999999999\n", [None, None]);
        check("some total=18446744073709551615\n", [None, None]);
        check("some new=1 total=5 newer=2\nother total=6\n", [Some(5000), None]);
        check("", [None, None]);
    }

    proptest! {
        #[test]
        fn never_panics(text in "(some|full|x)?[ =a-z0-9.\n]{0,60}(total=)?[0-9]{0,22}") {
            let _ = pressure(text.as_bytes());
        }
    }
}
