//! Lines, words and numbers of kernel text, as bytes: names in it may be anything but valid UTF-8.
//!
//! A text handed to this room is whole (`host` refuses what does not fit its bound instead of cutting it), so a last
//! line without a newline is believed.

/// Lines that are not empty.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// Words between blanks.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).filter(|word| !word.is_empty())
}

/// A plain decimal number: digits only, and it fits.
#[must_use]
pub fn number(word: &[u8]) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// A number that fits 32 bits.
#[must_use]
pub fn number32(word: &[u8]) -> Option<u32> {
    number(word).and_then(|value| u32::try_from(value).ok())
}

/// `key value` lines, as in `cpu.stat`, `memory.stat`, `memory.events`, `cgroup.stat`, `/proc/vmstat`. Lines of any
/// other form, numbers that do not fit among them, are passed over: what is missing is absent, the rest still counts.
pub fn pairs(text: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    lines(text).filter_map(|line| {
        let mut words = words(line);
        let key = words.next()?;
        Some((key, number(words.next()?)?))
    })
}

/// The value of one key of [`pairs`]; the first counts.
#[must_use]
pub fn value(text: &[u8], key: &[u8]) -> Option<u64> {
    pairs(text).find(|(name, _)| *name == key).map(|(_, value)| value)
}

/// A file that holds one number; `max` (and anything else) is `None`.
#[must_use]
pub fn single(text: &[u8]) -> Option<u64> {
    let mut words = words(text);
    let value = number(words.next()?)?;
    words.next().is_none().then_some(value)
}

/// Bytes from the kernel as text for people: invalid UTF-8 replaced, control characters escaped, at most `limit` of its characters.
#[must_use]
pub fn shown(bytes: &[u8], limit: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(bytes.len().min(limit));
    for (count, character) in text.chars().enumerate() {
        if count >= limit {
            out.push('…');
            break;
        }
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_that_fit() {
        fn check(word: &str, expected: Option<u64>) {
            assert_eq!(number(word.as_bytes()), expected, "{word}");
        }
        check("0", Some(0));
        check("18446744073709551615", Some(u64::MAX));
        check("18446744073709551616", None);
        check("99999999999999999999999", None);
        check("", None);
        check("-1", None);
        check("+1", None);
        check("1a", None);
        check("max", None);
        assert_eq!(number32(b"4294967295"), Some(u32::MAX));
        assert_eq!(number32(b"4294967296"), None);
    }

    #[test]
    fn pairs_pass_over_what_is_not_one() {
        let text = b"a 1\nb\n\nc x\nd 99999999999999999999\ne 5 6\nf\t7\n";
        let got: Vec<_> = pairs(text).collect();
        assert_eq!(got, [(&b"a"[..], 1), (&b"e"[..], 5), (&b"f"[..], 7)]);
        assert_eq!(value(text, b"f"), Some(7));
        assert_eq!(value(text, b"c"), None);
    }

    #[test]
    fn a_single_value_stands_alone() {
        fn check(text: &str, expected: Option<u64>) {
            assert_eq!(single(text.as_bytes()), expected, "{text}");
        }
        check("17\n", Some(17));
        check("17", Some(17));
        check("max\n", None);
        check("17 18\n", None);
        check("", None);
    }

    #[test]
    fn shown_text_is_escaped_and_bounded() {
        assert_eq!(shown(b"a\nb\x1b[31m", 20), "a\\nb\\u{1b}[31m");
        assert_eq!(shown(b"\xff\xfe", 20), "\u{fffd}\u{fffd}");
        assert_eq!(shown(&[b'x'; 100], 3), "xxx…");
    }
}
