//! Durations as Go writes them: `300ms`, `5s`, `2h45m`, `1.5s`.

use std::time::Duration;

/// Longest duration taken, one year: far below where adding it to an instant could overflow.
pub(super) const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Pattern of the same language for the JSON schema.
pub(super) const PATTERN: &str = r"^((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+$";

const HOW: &str = "write a number and a unit, as in 300ms, 5s or 2h45m";

/// Nanoseconds of each unit, longest name first where one begins another.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// The duration, or what is wrong with it.
pub(super) fn parse(typed: &str) -> Result<Duration, String> {
    if typed.starts_with('-') {
        return Err("a duration cannot be negative".to_owned());
    }
    if typed.trim_start_matches('+').parse::<f64>().is_ok_and(f64::is_finite) {
        return Err(format!("a duration needs a unit: {HOW}"));
    }
    let mut rest = typed;
    let mut total: u128 = 0;
    let malformed = || format!("not a duration: {HOW}");
    if rest.is_empty() {
        return Err(malformed());
    }
    while !rest.is_empty() {
        let (part, tail) = term(rest).ok_or_else(malformed)?;
        total = total.saturating_add(part);
        rest = tail;
    }
    match u64::try_from(total).map(Duration::from_nanos) {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        _ => Err(format!("a duration can be at most {}", format(LONGEST))),
    }
}

/// One number with its unit, in nanoseconds, and what follows.
fn term(text: &str) -> Option<(u128, &str)> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), digits);
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (name, tail) = rest.split_at_checked(end)?;
    let (_, unit) = UNITS.iter().find(|(known, _)| *known == name)?;
    let mut nanos = if whole.is_empty() { 0 } else { whole.parse::<u128>().unwrap_or(u128::MAX).saturating_mul(*unit) };
    let mut scale = *unit;
    for digit in fraction.chars().filter_map(|c| c.to_digit(10)) {
        // What is below a nanosecond is cut off, as Go does.
        scale /= 10;
        nanos = nanos.saturating_add(scale.saturating_mul(u128::from(digit)));
    }
    Some((nanos, tail))
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// The shortest way to write it that [`parse`] reads back exactly.
pub(super) fn format(duration: Duration) -> String {
    let mut nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (name, unit) in
        [("h", 3_600_000_000_000_u128), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)]
    {
        let count = nanos / unit;
        nanos %= unit;
        if count > 0 {
            out.push_str(&format!("{count}{name}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_go_durations() {
        let check = |typed: &str, nanos: u64| assert_eq!(parse(typed), Ok(Duration::from_nanos(nanos)), "{typed}");
        check("300ms", 300_000_000);
        check("5s", 5_000_000_000);
        check("2h45m", 9_900_000_000_000);
        check("1.5s", 1_500_000_000);
        check(".5s", 500_000_000);
        check("1.s", 1_000_000_000);
        check("1h2m3.004s", 3_723_004_000_000);
        check("7us", 7_000);
        check("7µs", 7_000);
        check("0s", 0);
        check("0.1234567891s", 123_456_789);
    }

    #[test]
    fn refuses_anything_else() {
        let check = |typed: &str, expected: &str| {
            let told = parse(typed).expect_err(typed);
            assert!(told.contains(expected), "{typed}: {told}");
        };
        check("5", "needs a unit");
        check("0", "needs a unit");
        check("1e3", "needs a unit");
        check("-5s", "negative");
        check("", "not a duration");
        check("s", "not a duration");
        check(".s", "not a duration");
        check("5 s", "not a duration");
        check("5sec", "not a duration");
        check("5S", "not a duration");
        check("1d", "not a duration");
        check("abc", "not a duration");
        check("99999999999999999999999999999999999999999999h", "at most");
        check("9000h", "at most 8760h");
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(nanos in prop_oneof![0_u64..2_000_000_000, 0..=31_536_000_000_000_000_u64]) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in "[-+0-9.a-zµμ ]{0,20}") {
            let _ = parse(&text);
        }
    }
}
