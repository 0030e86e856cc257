//! The Huffman code of header texts (RFC 7541 §5.2 and Appendix B).
//!
//! The code is canonical: within a length, codes count up in the order of the symbols. So the lengths are all there is to
//! know, and decoding asks for each length whether the next bits are below its last code.

use super::Broken;

/// Bits of the code of each byte (RFC 7541, Appendix B).
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

const LONGEST: usize = 30;
/// Bits by which any code is told; what is shorter is filled up on the right.
const ALIGNED: u32 = 32;

/// Symbols by code, and where each length begins.
struct Code {
    symbols: [u8; 256],
    /// Of each length: the first value above its codes, aligned to [`ALIGNED`] bits.
    above: [u64; LONGEST + 1],
    /// Of each length: what to take from a code to have its place in `symbols`.
    offset: [u64; LONGEST + 1],
    /// Symbol and length of the codes of up to eight bits, by the eight bits they begin; length 0 where there is none.
    short: [(u8, u8); 256],
}

static CODE: Code = Code::build();

impl Code {
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler: an index out of bounds does not build")]
    const fn build() -> Self {
        let mut code = Self { symbols: [0; 256], above: [0; LONGEST + 1], offset: [0; LONGEST + 1], short: [(0, 0); 256] };
        let (mut next, mut place, mut length) = (0_usize, 0_usize, 1_usize);
        while length <= LONGEST {
            next <<= 1;
            // Wrapping: the place is had by the same arithmetic backwards.
            code.offset[length] = (next as u64).wrapping_sub(place as u64);
            let mut symbol = 0_u8;
            loop {
                if LENGTHS[symbol as usize] as usize == length {
                    if length <= 8 {
                        let first = next << (8 - length);
                        let mut bits = first;
                        while bits < first + (1 << (8 - length)) {
                            code.short[bits] = (symbol, LENGTHS[symbol as usize]);
                            bits += 1;
                        }
                    }
                    code.symbols[place] = symbol;
                    place += 1;
                    next += 1;
                }
                if symbol == u8::MAX {
                    break;
                }
                symbol += 1;
            }
            code.above[length] = (next as u64) << (ALIGNED as usize - length);
            length += 1;
        }
        code
    }

    /// The symbol at the front of `bits`, and how many bits it takes; `None` for the end-of-string code.
    fn first(&self, bits: u64) -> Option<(u8, u32)> {
        if let Some((symbol, length @ 1..)) = usize::try_from(bits >> (ALIGNED - 8)).ok().and_then(|first| self.short.get(first)) {
            return Some((*symbol, u32::from(*length)));
        }
        for (length, (above, offset)) in (0_u32..).zip(self.above.iter().zip(&self.offset)).skip(9) {
            if bits < *above {
                let place = (bits >> (ALIGNED - length)).wrapping_sub(*offset);
                return Some((*self.symbols.get(usize::try_from(place).ok()?)?, length));
            }
        }
        None
    }
}

/// Decodes `from` onto the end of `into`, which grows to at most `limit` bytes; what is past it is dropped. How many bytes
/// it would have grown by.
///
/// # Errors
/// The end-of-string code, or padding that is not at most seven one bits (RFC 7541 §5.2).
pub fn decode(from: &[u8], into: &mut Vec<u8>, limit: usize) -> Result<usize, Broken> {
    let (mut bits, mut have, mut grown) = (0_u64, 0_u32, 0_usize);
    let mut bytes = from.iter();
    loop {
        while have <= ALIGNED {
            let Some(byte) = bytes.next() else { break };
            bits = bits << 8 | u64::from(*byte);
            have += 8;
        }
        // What is missing to the width of a code is filled with ones, as padding is.
        let window =
            if have >= ALIGNED { bits >> (have - ALIGNED) } else { (bits << (ALIGNED - have)) | ones(ALIGNED - have) } & ones(ALIGNED);
        match CODE.first(window) {
            Some((symbol, length)) if length <= have => {
                have -= length;
                bits &= ones(have);
                grown += 1;
                if into.len() < limit {
                    into.push(symbol);
                }
            }
            _ => return if have < 8 && bits == ones(have) { Ok(grown) } else { Err(Broken) },
        }
    }
}

const fn ones(count: u32) -> u64 {
    (1 << count) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(encoded: &[u8], expected: Option<&str>) {
        let mut decoded = Vec::new();
        let told = decode(encoded, &mut decoded, 1000).ok();
        assert_eq!(told.map(|_| std::str::from_utf8(&decoded).unwrap()), expected, "{encoded:x?}");
    }

    #[test]
    fn texts_of_the_specification() {
        // RFC 7541, Appendix C.4 and C.6.
        check(b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff", Some("www.example.com"));
        check(b"\xa8\xeb\x10\x64\x9c\xbf", Some("no-cache"));
        check(b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf", Some("custom-value"));
        check(b"\x64\x02", Some("302"));
        check(b"", Some(""));
    }

    #[test]
    fn padding_is_less_than_a_byte_of_ones() {
        check(b"\x07", Some("0"));
        check(b"\x00", None);
        check(b"\x07\xff", None);
        check(b"\xff", None);
        check(b"\xff\xff\xff\xff", None);
        check(b"\xff\xff\xff\xfc", None);
    }

    #[test]
    fn every_byte_comes_back() {
        let (mut next, mut codes) = (0_u64, vec![(0, 0); 256]);
        for length in 1..=LONGEST {
            next <<= 1;
            for symbol in (0..256).filter(|symbol| usize::from(LENGTHS[*symbol]) == length) {
                codes[symbol] = (next, length);
                next += 1;
            }
        }
        for first in 0..=255_u8 {
            for second in [0, b'a', 255] {
                let mut text = String::new();
                for byte in [first, second] {
                    let (code, length) = codes[usize::from(byte)];
                    text += &format!("{code:0length$b}");
                }
                text += &"1".repeat((8 - text.len() % 8) % 8);
                let packed: Vec<u8> =
                    text.as_bytes().chunks(8).map(|bits| u8::from_str_radix(std::str::from_utf8(bits).unwrap(), 2).unwrap()).collect();
                let mut decoded = Vec::new();
                assert_eq!(decode(&packed, &mut decoded, 9), Ok(2));
                assert_eq!(decoded, [first, second]);
            }
        }
    }

    #[test]
    fn what_is_past_the_limit_is_counted_and_dropped() {
        let mut decoded = Vec::new();
        assert_eq!(decode(&[0; 5], &mut decoded, 3), Ok(8));
        assert_eq!(decoded, b"000");
    }
}
