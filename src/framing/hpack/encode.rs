//! Fields -> a header block.

/// Literal without indexing (RFC 7541 §6.2.2) …
const PLAIN: u8 = 0x00;
/// … and one that no hop may ever index (§6.2.3).
const SECRET: u8 = 0x10;
/// An indexed field (§6.1).
const INDEXED: u8 = 0x80;

/// Writes a field by its index in the fixed table.
pub fn put_indexed(into: &mut Vec<u8>, index: u8) {
    into.push(INDEXED | index);
}

/// Writes a field by its texts; a secret one is marked as such.
pub fn put_field(into: &mut Vec<u8>, name: &[u8], value: &[u8], secret: bool) {
    into.push(if secret { SECRET } else { PLAIN });
    put_text(into, name);
    put_text(into, value);
}

fn put_text(into: &mut Vec<u8>, text: &[u8]) {
    put_number(into, 7, text.len());
    into.extend_from_slice(text);
}

/// An integer with a prefix of `bits` bits, the others zero (RFC 7541 §5.1).
fn put_number(into: &mut Vec<u8>, bits: u32, number: usize) {
    let most = (1_usize << bits) - 1;
    let low = |number: usize| u8::try_from(number & 0xff).unwrap_or(u8::MAX);
    if number < most {
        return into.push(low(number));
    }
    into.push(low(most));
    let mut rest = number - most;
    while rest >= 128 {
        into.push(low(rest & 127) | 128);
        rest >>= 7;
    }
    into.push(low(rest));
}
