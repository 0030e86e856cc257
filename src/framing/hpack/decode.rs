//! A header block -> fields.

use super::table::{OVERHEAD, Table};
use super::{Broken, huffman};

/// Most bytes after which an integer must have ended: none that means anything here needs more.
const LONGEST_NUMBER: u32 = 5;

/// The fields of one block, their texts in one buffer that is used again for the next.
#[derive(Debug)]
pub struct Fields {
    text: Vec<u8>,
    /// Where each name and each value ends.
    ends: Vec<(usize, usize)>,
    /// Names, values and 32 bytes for each (RFC 9113 §6.5.2, `SETTINGS_MAX_HEADER_LIST_SIZE`).
    size: usize,
    limit: usize,
}

impl Fields {
    /// At most `limit` bytes are kept.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { text: Vec::new(), ends: Vec::new(), size: 0, limit }
    }

    /// Whether there was more than is kept.
    #[must_use]
    pub fn too_large(&self) -> bool {
        self.size > self.limit
    }

    /// Names and values in the order of the block.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut begin = 0;
        self.ends.iter().map(move |(name_end, end)| {
            let field = (self.text.get(begin..*name_end).unwrap_or_default(), self.text.get(*name_end..*end).unwrap_or_default());
            begin = *end;
            field
        })
    }

    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.size = 0;
    }
}

/// Reads the blocks of one connection, in their order.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// What this side has announced: the other may choose less, never more.
    most: usize,
    fields: Fields,
    /// The last block, if reading it again would change nothing: most clients send the same head again and again.
    last: Vec<u8>,
}

/// Longest block that is remembered.
const REMEMBERED: usize = 1024;

impl Decoder {
    /// `table`: bytes for fields told before, as announced; `list`: bytes of a block's fields that are kept.
    #[must_use]
    pub fn new(table: usize, list: usize) -> Self {
        Self { table: Table::new(table), most: table, fields: Fields::new(list), last: Vec::new() }
    }

    /// The fields of the last block.
    #[must_use]
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Reads a whole block. Fields beyond the limit are read, for the table, and not kept. Whether it says the same as the
    /// block before.
    ///
    /// # Errors
    /// Where the block cannot be read.
    pub fn read(&mut self, whole: &[u8]) -> Result<bool, Broken> {
        if !whole.is_empty() && whole == self.last {
            return Ok(true);
        }
        self.fields.clear();
        self.last.clear();
        let (mut block, mut sizes, mut changed) = (whole, true, false);
        while let Some(first) = block.first().copied() {
            if first & 0xe0 == 0x20 {
                let limit = number(&mut block, 5)?;
                // Only at the beginning (RFC 7541 §4.2).
                if !sizes || limit > self.most {
                    return Err(Broken);
                }
                self.table.resize(limit);
                changed = true;
                continue;
            }
            sizes = false;
            match first {
                0x80.. => {
                    let index = number(&mut block, 7)?;
                    let (name, value) = self.table.get(index).ok_or(Broken)?;
                    keep(&mut self.fields, name, value);
                }
                0x40.. => {
                    changed = true;
                    self.literal(&mut block, 6, true)?;
                }
                _ => self.literal(&mut block, 4, false)?,
            }
        }
        if !changed && whole.len() <= REMEMBERED {
            self.last.extend_from_slice(whole);
        }
        Ok(false)
    }

    fn literal(&mut self, block: &mut &[u8], bits: u32, add: bool) -> Result<(), Broken> {
        let fields = &mut self.fields;
        let begin = fields.text.len();
        // The table may need what is not kept; what is larger than the table empties it, however large it is.
        let room = fields.limit.max(self.most).saturating_add(1);
        let name = match number(block, bits)? {
            0 => text(block, &mut fields.text, begin.saturating_add(room))?,
            index => {
                let (name, _) = self.table.get(index).ok_or(Broken)?;
                fields.text.extend_from_slice(name);
                name.len()
            }
        };
        let name_end = fields.text.len();
        let value = text(block, &mut fields.text, name_end.saturating_add(room))?;
        if add {
            let (name, value) = (fields.text.get(begin..name_end), fields.text.get(name_end..));
            self.table.add(name.unwrap_or_default(), value.unwrap_or_default());
        }
        fields.size = fields.size.saturating_add(name).saturating_add(value).saturating_add(OVERHEAD);
        if fields.too_large() {
            fields.text.truncate(begin);
        } else {
            fields.ends.push((name_end, fields.text.len()));
        }
        Ok(())
    }
}

fn keep(fields: &mut Fields, name: &[u8], value: &[u8]) {
    fields.size = fields.size.saturating_add(name.len()).saturating_add(value.len()).saturating_add(OVERHEAD);
    if fields.too_large() {
        return;
    }
    fields.text.extend_from_slice(name);
    let name_end = fields.text.len();
    fields.text.extend_from_slice(value);
    fields.ends.push((name_end, fields.text.len()));
}

/// A text, plain or in Huffman code; its true length.
fn text(block: &mut &[u8], into: &mut Vec<u8>, limit: usize) -> Result<usize, Broken> {
    let coded = block.first().ok_or(Broken)? & 0x80 != 0;
    let length = number(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(Broken)?;
    *block = rest;
    if coded {
        return huffman::decode(text, into, limit);
    }
    into.extend_from_slice(text.get(..limit.saturating_sub(into.len())).unwrap_or(text));
    Ok(length)
}

/// An integer behind a prefix of `bits` bits (RFC 7541 §5.1).
fn number(block: &mut &[u8], bits: u32) -> Result<usize, Broken> {
    let (first, rest) = block.split_first().ok_or(Broken)?;
    *block = rest;
    let most = (1_u64 << bits) - 1;
    let mut number = u64::from(*first) & most;
    if number == most {
        for place in 0.. {
            let (byte, rest) = block.split_first().ok_or(Broken)?;
            *block = rest;
            number += u64::from(byte & 127) << (7 * place);
            if byte & 128 == 0 {
                break;
            }
            if place + 1 == LONGEST_NUMBER {
                return Err(Broken);
            }
        }
    }
    usize::try_from(number).map_err(|_| Broken)
}

#[cfg(test)]
mod tests {
    use super::super::{put_field, put_indexed};
    use super::*;

    fn told(decoder: &Decoder) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        decoder.fields().iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    fn check(decoder: &mut Decoder, hex: &str, expected: &[(&str, &str)]) {
        let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let block: Vec<u8> = digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect();
        decoder.read(&block).unwrap();
        let expected: Vec<_> = expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(told(decoder), expected);
    }

    #[test]
    fn requests_of_the_specification() {
        // RFC 7541, Appendix C.4.
        let mut decoder = Decoder::new(4096, 4096);
        let first = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
        check(&mut decoder, "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", &first);
        check(&mut decoder, "8286 84be 5886 a8eb 1064 9cbf", &[&first[..], &[("cache-control", "no-cache")]].concat());
        let last = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ];
        check(&mut decoder, "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", &last);
    }

    #[test]
    fn responses_of_the_specification_with_eviction() {
        // RFC 7541, Appendix C.5.
        let mut decoder = Decoder::new(256, 4096);
        let date = "Mon, 21 Oct 2013 20:13:21 GMT";
        let fields = [(":status", "302"), ("cache-control", "private"), ("date", date), ("location", "https://www.example.com")];
        check(
            &mut decoder,
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            &fields,
        );
        let mut second = fields;
        second[0].1 = "307";
        check(&mut decoder, "4803 3330 37c1 c0bf", &second);
    }

    #[test]
    fn what_is_written_is_read() {
        let long = "x".repeat(300);
        let mut block = Vec::new();
        put_indexed(&mut block, 3);
        put_field(&mut block, b"name", long.as_bytes(), true);
        put_field(&mut block, b"", b"", false);
        let mut decoder = Decoder::new(4096, 4096);
        decoder.read(&block).unwrap();
        let expected = [(":method", "POST"), ("name", &long), ("", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(told(&decoder), expected);
    }

    #[test]
    fn broken_blocks_are_told() {
        for block in [
            &b"\x80"[..],
            b"\xff\xff\xff\xff\xff\xff\x01",
            b"\xbe",
            b"\x40",
            b"\x00\x05abc",
            b"\x00\x01a\x7f",
            b"\x82\x20",
            b"\x3f\xff\xff\x7f",
            b"\x00\x81\x00\x00",
        ] {
            assert_eq!(Decoder::new(4096, 4096).read(block), Err(Broken), "{block:x?}");
        }
    }

    #[test]
    fn past_the_limit_fields_are_not_kept_but_the_table_is_right() {
        let mut decoder = Decoder::new(4096, 100);
        let mut block = Vec::new();
        for number in 0..9_u8 {
            block.extend_from_slice(&[0x40, 2, b'n', b'0' + number, 10]);
            block.extend_from_slice(&[b'v'; 10]);
        }
        decoder.read(&block).unwrap();
        assert!(decoder.fields().too_large());
        assert_eq!(decoder.fields().iter().count(), 2);
        decoder.read(&[0xbe]).unwrap();
        assert_eq!(told(&decoder), [("n8".to_owned(), "vvvvvvvvvv".to_owned())]);
    }

    #[test]
    fn a_huge_field_is_bounded() {
        let mut decoder = Decoder::new(4096, 100);
        let mut block = vec![0x00, 1, b'n', 0x7f, 0x81, 0x7f];
        block.resize(block.len() + 20_000, b'v');
        let length = 20_000_usize - 127;
        block[4] = u8::try_from(length & 127).unwrap() | 128;
        block[5] = u8::try_from(length >> 7 & 127).unwrap() | 128;
        block.insert(6, u8::try_from(length >> 14).unwrap());
        decoder.read(&block).unwrap();
        assert!(decoder.fields().too_large());
        assert!(decoder.fields.text.capacity() < 10_000);
    }
}
