//! What heads and trailers must be (RFC 9113 §8.2 and §8.3).

use super::Code;
use super::hpack::Fields;

/// The pseudo-fields of a request, and what is said about its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestFields<'f> {
    /// `:method`
    pub method: &'f [u8],
    /// `:path`
    pub path: &'f [u8],
    /// `content-length`
    pub length: Option<u64>,
}

/// Reads a request's head.
///
/// # Errors
/// [`Code::ProtocolError`] for one that is malformed.
pub fn request_fields(fields: &Fields) -> Result<RequestFields<'_>, Code> {
    let mut request = RequestFields::default();
    let mut seen = 0_u8;
    let mut pseudo_over = false;
    for (name, value) in fields.iter() {
        let Some(b':') = name.first() else {
            pseudo_over = true;
            untrimmed(value)?;
            take_length(&mut request.length, regular(name, value)?)?;
            continue;
        };
        let bit = match name {
            b":method" => {
                request.method = value;
                1
            }
            b":path" => {
                request.path = value;
                2
            }
            b":scheme" => 4,
            b":authority" => 8,
            _ => return Err(Code::ProtocolError),
        };
        if pseudo_over || seen & bit != 0 {
            return Err(Code::ProtocolError);
        }
        seen |= bit;
    }
    // CONNECT has no path, and nothing here serves it.
    if seen & 7 == 7 && !request.path.is_empty() { Ok(request) } else { Err(Code::ProtocolError) }
}

/// Reads the head of a response: its status, and `content-length`. Values that begin or end with a space pass: a server that
/// tells why it refused is better understood than reset.
///
/// # Errors
/// [`Code::ProtocolError`] for one that is malformed.
pub fn response_fields(fields: &Fields) -> Result<([u8; 3], Option<u64>), Code> {
    let (mut status, mut length, mut pseudo_over) = (None, None, false);
    for (name, value) in fields.iter() {
        if name.first() != Some(&b':') {
            pseudo_over = true;
            take_length(&mut length, regular(name, value)?)?;
            continue;
        }
        let told = value.try_into().ok().filter(|told: &[u8; 3]| told.iter().all(u8::is_ascii_digit));
        if name != b":status" || pseudo_over || status.is_some() || told.is_none() {
            return Err(Code::ProtocolError);
        }
        status = told;
    }
    Ok((status.ok_or(Code::ProtocolError)?, length))
}

/// Checks trailers: no pseudo-fields (RFC 9113 §8.1).
///
/// # Errors
/// [`Code::ProtocolError`] for malformed ones.
pub fn check_trailers(fields: &Fields) -> Result<(), Code> {
    fields.iter().try_for_each(|(name, value)| regular(name, value).map(drop))
}

/// Notes `content-length`; two that differ are one error.
fn take_length(length: &mut Option<u64>, told: Option<u64>) -> Result<(), Code> {
    match (*length, told) {
        (Some(before), Some(now)) if before != now => Err(Code::ProtocolError),
        _ => {
            *length = told.or(*length);
            Ok(())
        }
    }
}

/// A value neither begins nor ends with a space or a tab (RFC 9113 §8.2.1).
fn untrimmed(value: &[u8]) -> Result<(), Code> {
    let space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if space(value.first()) || space(value.last()) { Err(Code::ProtocolError) } else { Ok(()) }
}

/// Checks a field that is not a pseudo-field; the value of `content-length`.
fn regular(name: &[u8], value: &[u8]) -> Result<Option<u64>, Code> {
    let good_name = !name.is_empty() && name.iter().all(|byte| matches!(byte, 0x21..=0x39 | 0x3b..=0x40 | 0x5b..=0x7e));
    let good_value = !value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'));
    let forbidden = match name {
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => true,
        b"te" => value != b"trailers",
        _ => false,
    };
    if forbidden || !good_name || !good_value {
        return Err(Code::ProtocolError);
    }
    if name != b"content-length" {
        return Ok(None);
    }
    let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).map(Some).ok_or(Code::ProtocolError)
}

#[cfg(test)]
mod tests {
    use super::super::hpack::{Decoder, put_field};
    use super::*;

    const GOOD: [(&str, &str); 4] = [(":method", "POST"), (":scheme", "http"), (":path", "/p"), (":authority", "a")];

    fn check(more: &[(&str, &str)], expected: Result<Option<u64>, Code>) {
        check_all(&[&GOOD[..], more].concat(), expected);
    }

    fn check_all(fields: &[(&str, &str)], expected: Result<Option<u64>, Code>) {
        let mut block = Vec::new();
        for (name, value) in fields {
            put_field(&mut block, name.as_bytes(), value.as_bytes(), false);
        }
        let mut decoder = Decoder::new(4096, 4096);
        decoder.read(&block).unwrap();
        assert_eq!(request_fields(decoder.fields()).map(|request| request.length), expected, "{fields:?}");
    }

    #[test]
    fn heads_are_what_the_specification_says() {
        let broken = Err(Code::ProtocolError);
        check(&[("te", "trailers"), ("x", "")], Ok(None));
        check(&[("content-length", "12"), ("content-length", "12")], Ok(Some(12)));
        for more in [
            [("X-Upper", "a"), ("b", "c")],
            [("connection", "close"), ("b", "c")],
            [("transfer-encoding", "chunked"), ("b", "c")],
            [("te", "gzip"), ("b", "c")],
            [("a", "b"), (":path", "/late")],
            [(":path", "/twice"), ("b", "c")],
            [(":status", "200"), ("b", "c")],
            [("content-length", "1"), ("content-length", "2")],
            [("content-length", "+1"), ("b", "c")],
            [("content-length", ""), ("b", "c")],
            [("na me", ""), ("b", "c")],
            [("", "a"), ("b", "c")],
            [("a", "b\r\nc: d"), ("b", "c")],
        ] {
            check(&more, broken);
        }
        for missing in 0..3 {
            let left: Vec<_> = GOOD.iter().copied().enumerate().filter(|(index, _)| *index != missing).map(|(_, field)| field).collect();
            check_all(&left, broken);
        }
        check_all(&[(":method", "POST"), (":scheme", "http"), (":path", "")], broken);
    }
}
