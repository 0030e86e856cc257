//! How many records a request carries, without decoding it.

use super::wire::{Fields, Value};

/// Spans, metrics or log records: all three signals keep them as field 2 of field 2 of field 1. Bytes that are no
/// protobuf count up to where they stop being any.
#[must_use]
pub fn records(request: &[u8]) -> u64 {
    messages(request, 1).flat_map(|group| messages(group, 2)).map(|scope| messages(scope, 2).count() as u64).sum()
}

fn messages(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    Fields::of(message).map_while(Result::ok).filter_map(move |field| match field.value {
        Value::Len(payload) if field.number == number => Some(payload),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::records;

    fn check(request: &[u8], expected: u64) {
        assert_eq!(records(request), expected, "{request:02x?}");
    }

    #[test]
    fn records_are_counted_three_levels_down() {
        check(b"", 0);
        check(b"\x0a\x04\x12\x02\x12\x00", 1);
        check(b"\x0a\x06\x12\x04\x12\x00\x12\x00\x0a\x04\x12\x02\x12\x00", 3);
        check(b"\x0a\x04\x0a\x02\x12\x00", 0);
        check(b"\x0a\x04\x12\x02\x12\x00\x0a\x09", 1);
    }
}
