//! The `Retry-After` header (RFC 9110 §10.2.3): whole seconds, or one of the three forms of an HTTP date (§5.6.7).

use std::time::Duration;

use crate::model::Wall;

/// Longest delay believed: a date years ahead is a broken clock, not a wish.
pub const MAX_DELAY: Duration = Duration::from_secs(24 * 3600);

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Reads the header; a date in the past is zero. `None` where it is neither seconds nor a date.
#[must_use]
pub fn parse_retry_after(value: &[u8], now: Wall) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.parse().map_or(MAX_DELAY, Duration::from_secs).min(MAX_DELAY));
    }
    let then = Duration::from_secs(date(text, now)?);
    Some(then.saturating_sub(Duration::from_nanos(now.0)).min(MAX_DELAY))
}

/// Writes the header: whole seconds, rounded up, so that nobody comes too early.
#[must_use]
pub fn render_retry_after(delay: Duration) -> String {
    delay.as_secs().saturating_add(u64::from(delay.subsec_nanos() > 0)).to_string()
}

/// Seconds since the epoch of `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT` or `Sun Nov  6 08:49:37 1994`.
fn date(text: &str, now: Wall) -> Option<u64> {
    let words: Vec<&str> = text.split_ascii_whitespace().take(7).collect();
    match *words.as_slice() {
        [_, day, month, year, time, "GMT"] => seconds(number(year, 4)?, month, number(day, 2)?, time),
        [_, date, time, "GMT"] => {
            let mut parts = date.splitn(3, '-');
            let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
            seconds(full_year(number(year, 2)?, now), month, number(day, 2)?, time)
        }
        [_, month, day, time, year] => seconds(number(year, 4)?, month, number(day, 2)?, time),
        _ => None,
    }
}

/// A two-digit year more than fifty years ahead is the past century's.
fn full_year(two_digits: u64, now: Wall) -> u64 {
    let this_year = 1970 + now.0 / 1_000_000_000 / 31_556_952;
    let year = this_year / 100 * 100 + two_digits;
    if year > this_year + 50 { year - 100 } else { year }
}

fn number(text: &str, most_digits: usize) -> Option<u64> {
    let fits = !text.is_empty() && text.len() <= most_digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if fits { text.parse().ok() } else { None }
}

fn seconds(year: u64, month: &str, day: u64, time: &str) -> Option<u64> {
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let mut parts = time.splitn(3, ':');
    let mut next = || number(parts.next()?, 2);
    let (hour, minute, second) = (next()?, next()?, next()?);
    if year < 1970 || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(((days_since_epoch(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days from 1970-01-01 in the Gregorian calendar, years counted from March so that the leap day comes last.
const fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    // Days from 0000-03-01 to 1970-01-01.
    days - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 1994-11-06 08:49:37 UTC
    const THEN: u64 = 784_111_777;

    fn check(text: &str, expected: Option<u64>) {
        let now = Wall((THEN - 10) * 1_000_000_000);
        assert_eq!(parse_retry_after(text.as_bytes(), now), expected.map(Duration::from_secs), "{text:?}");
    }

    #[test]
    fn seconds_and_all_three_dates_are_understood() {
        check("0", Some(0));
        check(" 120 ", Some(120));
        check("99999999999999999999999", Some(24 * 3600));
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(10));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(10));
        check("Sun Nov  6 08:49:37 1994", Some(10));
        check("Sun, 06 Nov 1994 08:49:00 GMT", Some(0));
        check("Fri, 31 Dec 9999 23:59:59 GMT", Some(24 * 3600));
    }

    #[test]
    fn anything_else_is_no_hint() {
        for text in [
            "",
            "-1",
            "1.5",
            "soon",
            "Sun, 06 Nov 1994 08:49:37 PST",
            "Sun, 6 Foo 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 8:4 GMT",
            "a b c d e f g h",
        ] {
            check(text, None);
        }
        assert_eq!(parse_retry_after(b"\xff\xfe", Wall(0)), None);
    }

    #[test]
    fn delays_are_rounded_up() {
        for (millis, text) in [(0, "0"), (1, "1"), (1000, "1"), (1001, "2")] {
            assert_eq!(render_retry_after(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn leap_years_are_counted() {
        for (year, month, day, expected) in
            [(1970, 1, 1, 0), (2000, 2, 29, 11_016), (2000, 3, 1, 11_017), (2100, 3, 1, 47_541), (2026, 11, 21, 20_778)]
        {
            assert_eq!(days_since_epoch(year, month, day), expected, "{year}-{month}-{day}");
        }
    }

    proptest! {
        #[test]
        fn text_of_any_kind_is_no_panic(text in "[A-Z0-9a-z:, -]{0,40}", now: u64) {
            let _ = parse_retry_after(text.as_bytes(), Wall(now));
        }
    }
}
