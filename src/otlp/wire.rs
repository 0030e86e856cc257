//! The protobuf wire format: varints, tags, and skipping whatever a field holds. Nothing here knows OTLP.
//!
//! Facts are from the protobuf encoding specification (<https://protobuf.dev/programming-guides/encoding/>): a tag is
//! `number << 3 | type`; numbers run from 1 to 2^29 - 1; a varint holds at most 64 bits in at most ten bytes and need
//! not be minimal; groups (types 3 and 4) nest and close with the number they opened with.

/// Longest varint on the wire.
pub const MAX_VARINT_LEN: usize = 10;

/// The lowest three bits of a tag.
pub mod wire_type {
    /// Varint.
    pub const VARINT: u8 = 0;
    /// Eight bytes.
    pub const FIXED64: u8 = 1;
    /// Length and bytes.
    pub const LEN: u8 = 2;
    /// Opens a group.
    pub const GROUP_START: u8 = 3;
    /// Closes a group.
    pub const GROUP_END: u8 = 4;
    /// Four bytes.
    pub const FIXED32: u8 = 5;
}

/// Why bytes are not protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The message ends inside a varint.
    #[error("a varint is cut off")]
    CutVarint,
    /// A varint of more than 64 bits.
    #[error("a varint has more than 64 bits")]
    LongVarint,
    /// Field number 0.
    #[error("a field has the number 0")]
    FieldZero,
    /// Field number over 2^29 - 1.
    #[error("a field number is above 536870911")]
    FieldTooLarge,
    /// Wire types 6 and 7 do not exist.
    #[error("a field has a wire type that does not exist")]
    WireType,
    /// A length, or a fixed-size value, reaches past the end of its message.
    #[error("a length reaches past the end of its message")]
    PastEnd,
    /// A group ends that never began, or with another number than it began with.
    #[error("a group ends that did not begin")]
    GroupEnd,
    /// A group does not end inside its message.
    #[error("a group does not end")]
    GroupOpen,
    /// Nothing is wrong with what was walked: whoever is told wanted no more.
    #[error("it was not walked to its end")]
    Stopped,
}

/// A fault and the offset (in the bytes walked) of the field it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// What is wrong.
    pub fault: Fault,
    /// Where the field at fault begins.
    pub offset: usize,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2.
    Len(&'a [u8]),
    /// Wire types 3 to 4, already walked to its end.
    Group,
    /// Wire type 5.
    Fixed32(u32),
}

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its number.
    pub number: u32,
    /// What it holds.
    pub value: Value<'a>,
    /// Offset of its tag in the message.
    pub start: usize,
    /// Offset just behind it.
    pub end: usize,
}

/// Fields of one message, in the order in which they stand. Ends after the first fault.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// The fields of the message that `bytes` are.
    #[must_use]
    pub const fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, At>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let start = self.at;
        match field(self.bytes, start) {
            Ok(found) => {
                self.at = found.end;
                Some(Ok(found))
            }
            Err(fault) => {
                self.at = self.bytes.len();
                Some(Err(At { fault, offset: start }))
            }
        }
    }
}

/// Reads the varint at `at`: its value and the offset behind it.
#[inline(always)]
pub fn varint(bytes: &[u8], at: usize) -> Result<(u64, usize), Fault> {
    match bytes.get(at) {
        Some(&byte) if byte < 0x80 => Ok((u64::from(byte), at + 1)),
        _ => long_varint(bytes, at),
    }
}

#[inline(never)]
fn long_varint(bytes: &[u8], at: usize) -> Result<(u64, usize), Fault> {
    let mut value = 0_u64;
    for index in 0..MAX_VARINT_LEN {
        let byte = *bytes.get(at + index).ok_or(Fault::CutVarint)?;
        // The tenth byte holds bit 63 alone.
        if index == MAX_VARINT_LEN - 1 && byte > 1 {
            return Err(Fault::LongVarint);
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Ok((value, at + index + 1));
        }
    }
    Err(Fault::LongVarint)
}

/// Reads the tag at `at`: field number, wire type and the offset behind it.
#[inline(always)]
pub fn tag(bytes: &[u8], at: usize) -> Result<(u32, u8, usize), Fault> {
    let (raw, next) = varint(bytes, at)?;
    let raw = u32::try_from(raw).map_err(|_| Fault::FieldTooLarge)?;
    if raw < 8 {
        return Err(Fault::FieldZero);
    }
    Ok((raw >> 3, (raw & 7) as u8, next))
}

/// The payload that a length at `at` announces: where it begins and where it ends.
#[inline(always)]
pub fn length(bytes: &[u8], at: usize) -> Result<(usize, usize), Fault> {
    let (length, begin) = varint(bytes, at)?;
    // `begin` is at most `bytes.len()`, so the subtraction cannot wrap and the sum cannot overflow.
    match usize::try_from(length) {
        Ok(length) if length <= bytes.len() - begin => Ok((begin, begin + length)),
        _ => Err(Fault::PastEnd),
    }
}

/// Reads the field at `at`, which must lie before the end.
pub fn field(bytes: &[u8], at: usize) -> Result<Field<'_>, Fault> {
    let (number, kind, next) = tag(bytes, at)?;
    let (value, end) = match kind {
        wire_type::VARINT => {
            let (value, end) = varint(bytes, next)?;
            (Value::Varint(value), end)
        }
        wire_type::FIXED64 => (Value::Fixed64(fixed64(bytes, next).ok_or(Fault::PastEnd)?), next + 8),
        wire_type::FIXED32 => (Value::Fixed32(fixed32(bytes, next).ok_or(Fault::PastEnd)?), next + 4),
        wire_type::LEN => {
            let (begin, end) = length(bytes, next)?;
            (Value::Len(bytes.get(begin..end).ok_or(Fault::PastEnd)?), end)
        }
        wire_type::GROUP_START => (Value::Group, group(bytes, next, number)?),
        wire_type::GROUP_END => return Err(Fault::GroupEnd),
        _ => return Err(Fault::WireType),
    };
    Ok(Field { number, value, start: at, end })
}

/// Eight little-endian bytes at `at`.
#[inline(always)]
#[must_use]
pub fn fixed64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

/// Four little-endian bytes at `at`.
#[inline(always)]
#[must_use]
pub fn fixed32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

/// Walks the group whose opening tag ends at `at` and returns the offset behind its closing tag.
///
/// Iterative, so that nesting costs no call stack. The open groups' numbers are kept as minimal varints: never more
/// bytes than their tags took in `bytes`; and as each open group still needs a byte to close it, at most half of
/// `bytes` can ever be kept.
#[inline(never)]
pub fn group(bytes: &[u8], at: usize, number: u32) -> Result<usize, Fault> {
    let mut open = Vec::new();
    let mut depth = 1_usize;
    push_varint(&mut open, u64::from(number));
    let mut at = at;
    while at < bytes.len() {
        if depth > bytes.len() - at {
            return Err(Fault::GroupOpen);
        }
        let (number, kind, next) = tag(bytes, at)?;
        at = match kind {
            wire_type::VARINT => varint(bytes, next)?.1,
            wire_type::FIXED64 => fixed64(bytes, next).map(|_| next + 8).ok_or(Fault::PastEnd)?,
            wire_type::FIXED32 => fixed32(bytes, next).map(|_| next + 4).ok_or(Fault::PastEnd)?,
            wire_type::LEN => length(bytes, next)?.1,
            wire_type::GROUP_START => {
                push_varint(&mut open, u64::from(number));
                depth += 1;
                next
            }
            wire_type::GROUP_END => {
                pop_number(&mut open, number)?;
                depth -= 1;
                if depth == 0 {
                    return Ok(next);
                }
                next
            }
            _ => return Err(Fault::WireType),
        };
    }
    Err(Fault::GroupOpen)
}

/// Takes `number` off the top, if it is there. Minimal varints end with their only byte below 0x80, so the byte before
/// the match must be such a last byte too (or nothing): else the match would be the tail of a longer number.
fn pop_number(open: &mut Vec<u8>, number: u32) -> Result<(), Fault> {
    let wanted = Varint::new(u64::from(number));
    let wanted = wanted.as_bytes();
    let rest = open.strip_suffix(wanted).ok_or(Fault::GroupEnd)?;
    if rest.last().is_some_and(|&byte| byte >= 0x80) {
        return Err(Fault::GroupEnd);
    }
    open.truncate(rest.len());
    Ok(())
}

/// Bytes a minimal varint of `value` takes.
#[inline(always)]
#[must_use]
pub const fn varint_len(value: u64) -> usize {
    // 1 + floor(log2(value) / 7) without a division, exact for all 64-bit values.
    ((value | 1).ilog2() as usize * 9 + 73) / 64
}

/// Appends a minimal varint.
#[inline]
pub fn push_varint(out: &mut Vec<u8>, value: u64) {
    if value < 0x80 {
        out.push((value & 0x7f) as u8);
    } else {
        out.extend_from_slice(Varint::new(value).as_bytes());
    }
}

/// Appends a field of wire type 2.
pub fn push_len(out: &mut Vec<u8>, number: u32, payload: &[u8]) {
    push_tag(out, number, wire_type::LEN);
    push_varint(out, payload.len() as u64);
    out.extend_from_slice(payload);
}

/// Appends a tag.
pub fn push_tag(out: &mut Vec<u8>, number: u32, kind: u8) {
    push_varint(out, u64::from(number) << 3 | u64::from(kind));
}

/// A length whose message is not complete yet.
#[derive(Debug)]
#[must_use = "an open message has no length"]
pub struct Open {
    /// Where its length stands in the output.
    at: usize,
    /// How many bytes were left for it.
    width: usize,
}

/// Begins a message behind its tag, with room for the length `expected`.
#[inline]
pub fn begin(out: &mut Vec<u8>, expected: usize) -> Open {
    let width = varint_len(expected as u64);
    let at = out.len();
    out.resize(at + width, 0);
    Open { at, width }
}

/// Writes the length of an open message whose last byte is the last written. Where another width was expected, the
/// message is moved.
pub fn close(out: &mut Vec<u8>, open: Open) {
    let Open { at, width } = open;
    let inner = out.len().saturating_sub(at + width);
    let length = Varint::new(inner as u64);
    let length = length.as_bytes();
    if length.len() != width {
        resize_length(out, at + width, width, length.len());
    }
    if let Some(room) = out.get_mut(at..at + length.len()) {
        room.copy_from_slice(length);
    }
}

/// Moves everything behind `from` so that the length before it takes `wanted` bytes instead of `width`.
#[cold]
fn resize_length(out: &mut Vec<u8>, from: usize, width: usize, wanted: usize) {
    let end = out.len();
    if wanted > width {
        let grow = wanted - width;
        out.resize(end + grow, 0);
        out.copy_within(from..end, from + grow);
    } else {
        let shrink = width - wanted;
        out.copy_within(from..end, from - shrink);
        out.truncate(end - shrink);
    }
}

/// A minimal varint on the stack.
#[derive(Clone, Copy, Debug)]
pub struct Varint {
    bytes: [u8; MAX_VARINT_LEN],
    len: usize,
}

impl Varint {
    /// Encodes `value`.
    #[must_use]
    pub fn new(mut value: u64) -> Self {
        let mut bytes = [0; MAX_VARINT_LEN];
        let mut len = 0;
        for slot in &mut bytes {
            let low = (value & 0x7f) as u8;
            value >>= 7;
            len += 1;
            if value == 0 {
                *slot = low;
                break;
            }
            *slot = low | 0x80;
        }
        Self { bytes, len }
    }

    /// The encoded bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_varint(bytes: &[u8], expected: Result<(u64, usize), Fault>) {
        assert_eq!(varint(bytes, 0), expected, "{bytes:02x?}");
    }

    #[test]
    fn varints_are_read_up_to_64_bits_and_no_further() {
        check_varint(&[0], Ok((0, 1)));
        check_varint(&[0x7f], Ok((127, 1)));
        check_varint(&[0x80, 0x01], Ok((128, 2)));
        check_varint(&[0x80, 0x00], Ok((0, 2)));
        check_varint(&[0xff; 9], Err(Fault::CutVarint));
        check_varint(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Ok((u64::MAX, 10)));
        check_varint(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], Ok((0, 10)));
        check_varint(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], Err(Fault::LongVarint));
        check_varint(&[0x80; 11], Err(Fault::LongVarint));
        check_varint(&[], Err(Fault::CutVarint));
    }

    fn check_field(bytes: &[u8], expected: Result<usize, Fault>) {
        assert_eq!(field(bytes, 0).map(|field| field.end), expected, "{bytes:02x?}");
    }

    #[test]
    fn a_field_is_skipped_whatever_it_holds_and_refused_where_it_is_no_field() {
        check_field(&[0x08, 0x96, 0x01, 0xff], Ok(3));
        check_field(&[0x09, 1, 2, 3, 4, 5, 6, 7, 8], Ok(9));
        check_field(&[0x09, 1, 2, 3, 4, 5, 6, 7], Err(Fault::PastEnd));
        check_field(&[0x0d, 1, 2, 3, 4], Ok(5));
        check_field(&[0x0d, 1, 2, 3], Err(Fault::PastEnd));
        check_field(&[0x0a, 2, 1, 2], Ok(4));
        check_field(&[0x0a, 3, 1, 2], Err(Fault::PastEnd));
        check_field(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Err(Fault::PastEnd));
        check_field(&[0x02, 0], Err(Fault::FieldZero));
        check_field(&[0x8a, 0x00, 0x00], Ok(3));
        check_field(&[0xfa, 0xff, 0xff, 0xff, 0x0f, 0x00], Ok(6));
        check_field(&[0xfa, 0xff, 0xff, 0xff, 0x1f, 0x00], Err(Fault::FieldTooLarge));
        check_field(&[0x0e], Err(Fault::WireType));
        check_field(&[0x0f], Err(Fault::WireType));
        check_field(&[0x0c], Err(Fault::GroupEnd));
    }

    #[test]
    fn groups_close_with_the_number_they_opened_with() {
        check_field(&[0x0b, 0x0c], Ok(2));
        check_field(&[0x0b, 0x13, 0x08, 1, 0x14, 0x0c, 0xff], Ok(6));
        check_field(&[0x0b, 0x14], Err(Fault::GroupEnd));
        check_field(&[0x0b, 0x13, 0x0c, 0x14], Err(Fault::GroupEnd));
        check_field(&[0x0b], Err(Fault::GroupOpen));
        check_field(&[0x0b, 0x0a, 5, 0x0c], Err(Fault::PastEnd));
        // 0x83 0x01 opens number 16, 0x84 0x80 0x00 closes it (not minimal); number 1 is no suffix of number 2049.
        check_field(&[0x83, 0x01, 0x84, 0x81, 0x00], Ok(5));
        check_field(&[0x8b, 0x80, 0x01, 0x84, 0x01], Err(Fault::GroupEnd));
    }

    #[test]
    fn nesting_costs_no_stack() {
        let depth = 1_000_000;
        let mut bytes = vec![0x0b; depth];
        bytes.extend(vec![0x0c; depth]);
        let walked = std::thread::Builder::new().stack_size(64 * 1024).spawn(move || field(&bytes, 0).map(|field| field.end));
        assert_eq!(walked.unwrap().join().unwrap(), Ok(2 * depth));
        assert_eq!(field(&vec![0x0b; depth], 0), Err(Fault::GroupOpen));
    }

    fn near_varint_edges() -> impl Strategy<Value = u64> {
        (0_u32..=64, -2_i64..=2).prop_map(|(bits, off)| 1_u64.checked_shl(bits).unwrap_or(0).wrapping_add_signed(off))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in near_varint_edges()) {
            let mut out = Vec::new();
            push_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            prop_assert_eq!(varint(&out, 0), Ok((value, out.len())));
        }
    }
}
