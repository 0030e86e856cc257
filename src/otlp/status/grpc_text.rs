//! The two texts of gRPC's headers (gRPC `PROTOCOL-HTTP2.md`): `grpc-message` and `grpc-timeout`.

use std::time::Duration;

use smallvec::SmallVec;

use super::rpc_status::clip;

/// Percent-encodes a status message: printable ASCII but `%` stands for itself. Clipped to a header's measure.
#[must_use]
pub fn encode_message(message: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let message = clip(message);
    let mut text = String::with_capacity(message.len());
    for byte in message.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            text.push(char::from(byte));
        } else {
            text.push('%');
            for nibble in [byte >> 4, byte & 0xf] {
                text.push(char::from(HEX.get(usize::from(nibble)).copied().unwrap_or(b'0')));
            }
        }
    }
    text
}

/// Decodes a status message. What is no valid escape stands for itself; what is no UTF-8 is replaced.
#[must_use]
pub fn decode_message(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        rest = match (first, behind) {
            (b'%', [high, low, behind @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                bytes.push(hex(*high) << 4 | hex(*low));
                behind
            }
            _ => {
                bytes.push(first);
                behind
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> u8 {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok()).unwrap_or(0)
}

/// Reads `grpc-timeout`: one to eight digits and a unit. `None` where it is none.
#[must_use]
pub fn parse_timeout(text: &[u8]) -> Option<Duration> {
    let (&unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(value * 3600),
        b'M' => Duration::from_secs(value * 60),
        b'S' => Duration::from_secs(value),
        b'm' => Duration::from_millis(value),
        b'u' => Duration::from_micros(value),
        b'n' => Duration::from_nanos(value),
        _ => return None,
    })
}

/// Writes `grpc-timeout` in the finest unit that eight digits can hold, never longer than `timeout`.
#[must_use]
pub fn format_timeout(timeout: Duration) -> SmallVec<[u8; 9]> {
    const LARGEST: u64 = 99_999_999;
    let (nanos, seconds) = (u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX), timeout.as_secs());
    let units = [(nanos, b'n'), (nanos / 1_000, b'u'), (nanos / 1_000_000, b'm'), (seconds, b'S'), (seconds / 60, b'M')];
    let in_hours = ((seconds / 3_600).min(LARGEST), b'H');
    let (mut number, unit) = units.into_iter().find(|(number, _)| *number <= LARGEST).unwrap_or(in_hours);
    let mut text = SmallVec::from_slice(&[unit]);
    loop {
        text.push(b"0123456789".get(usize::try_from(number % 10).unwrap_or(0)).copied().unwrap_or(b'0'));
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text.reverse();
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_message(plain: &str, encoded: &str) {
        assert_eq!(encode_message(plain), encoded);
        assert_eq!(decode_message(encoded.as_bytes()), plain);
    }

    #[test]
    fn messages_are_percent_encoded() {
        check_message("all fine", "all fine");
        check_message("100%", "100%25");
        check_message("line\nend", "line%0Aend");
        check_message("ä", "%C3%A4");
        assert_eq!(decode_message(b"50% of %zz %4"), "50% of %zz %4");
        assert_eq!(decode_message(b"%ff"), "\u{fffd}");
    }

    fn check_timeout(text: &str, expected: Option<Duration>) {
        assert_eq!(parse_timeout(text.as_bytes()), expected, "{text:?}");
    }

    #[test]
    fn timeouts_have_a_unit_and_at_most_eight_digits() {
        check_timeout("1H", Some(Duration::from_secs(3600)));
        check_timeout("2M", Some(Duration::from_secs(120)));
        check_timeout("3S", Some(Duration::from_secs(3)));
        check_timeout("4m", Some(Duration::from_millis(4)));
        check_timeout("5u", Some(Duration::from_micros(5)));
        check_timeout("99999999n", Some(Duration::from_nanos(99_999_999)));
        for text in ["", "S", "1", "1s", "-1S", "123456789S", "1.5S", " 1S"] {
            check_timeout(text, None);
        }
    }

    proptest! {
        #[test]
        fn a_written_timeout_is_close_and_never_longer(nanos in 0_u64.., shift in 0_u32..64) {
            let timeout = Duration::from_nanos(nanos >> shift);
            let read = parse_timeout(&format_timeout(timeout)).unwrap();
            prop_assert!(read <= timeout);
            prop_assert!(timeout - read <= timeout / 1_000);
        }

        #[test]
        fn messages_are_read_back(message in ".{0,60}") {
            let encoded = encode_message(&message);
            prop_assert!(encoded.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            prop_assert_eq!(decode_message(encoded.as_bytes()), message);
        }
    }
}
