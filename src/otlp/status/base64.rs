//! Base64 (RFC 4648) as gRPC's `-bin` metadata and proto3 JSON want it.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Encodes with the standard alphabet, padded or not.
#[must_use]
pub fn encode(bytes: &[u8], padded: bool) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4_u32 {
            if digit as usize <= chunk.len() {
                let index = (word >> (18 - 6 * digit) & 0x3f) as usize;
                text.push(char::from(ALPHABET.get(index).copied().unwrap_or(b'=')));
            } else if padded {
                text.push('=');
            }
        }
    }
    text
}

/// Decodes the standard and the URL-safe alphabet, padded or not; `None` where it is neither.
#[must_use]
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let digits = match text {
        [digits @ .., b'=', b'='] | [digits @ .., b'='] if text.len().is_multiple_of(4) => digits,
        digits => digits,
    };
    if digits.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for chunk in digits.chunks(4) {
        let mut word = 0_u32;
        for &digit in chunk {
            word = word << 6 | u32::from(value(digit)?);
        }
        let missing = 4 - chunk.len();
        word <<= 6 * missing;
        let [_, decoded @ ..] = word.to_be_bytes();
        bytes.extend(decoded.iter().take(3 - missing));
    }
    Some(bytes)
}

const fn value(digit: u8) -> Option<u8> {
    Some(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(bytes: &[u8], padded: &str) {
        assert_eq!(encode(bytes, true), padded);
        assert_eq!(encode(bytes, false), padded.trim_end_matches('='));
        assert_eq!(decode(padded.as_bytes()).as_deref(), Some(bytes));
        assert_eq!(decode(padded.trim_end_matches('=').as_bytes()).as_deref(), Some(bytes));
    }

    #[test]
    fn the_test_vectors_of_the_rfc() {
        check(b"", "");
        check(b"f", "Zg==");
        check(b"fo", "Zm8=");
        check(b"foo", "Zm9v");
        check(b"foobar", "Zm9vYmFy");
        check(&[0xfb, 0xff], "+/8=");
        assert_eq!(decode(b"-_8").as_deref(), Some(&[0xfb, 0xff][..]));
    }

    #[test]
    fn what_is_not_base64_is_nothing() {
        for text in [&b"Z"[..], b"Zg=", b"Z===", b"Zg==Zg==", b"Z g", b"=", b"\xff\xff"] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(bytes in proptest::collection::vec(any::<u8>(), 0..40), padded: bool) {
            prop_assert_eq!(decode(encode(&bytes, padded).as_bytes()), Some(bytes));
        }
    }
}
