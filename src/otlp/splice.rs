//! A copy of a request with bytes put in and taken out, and the lengths on the way up rewritten.
//!
//! One forward pass. A span's new length is known before its first byte is written; that of the messages around it only
//! at their end, so room for the length expected is left and, where the guess was wrong by a varint's width, the message
//! is moved by that much. Lengths written are minimal. What lies between two edits is copied in one piece.

use super::walk::Extent;
use super::wire::{self, Open};

/// The copy in the making.
#[derive(Debug)]
pub struct Splice<'a> {
    body: &'a [u8],
    copied: usize,
    out: Vec<u8>,
}

impl<'a> Splice<'a> {
    /// Begins a copy of `body`, with room for `added` bytes more.
    #[must_use]
    pub fn of(body: &'a [u8], added: usize) -> Self {
        Self::onto(Vec::with_capacity(body.len().saturating_add(added)), body)
    }

    /// Begins a copy of `body` onto an empty buffer, which grows where it has too little room.
    #[must_use]
    pub fn onto(out: Vec<u8>, body: &'a [u8]) -> Self {
        Self { body, copied: 0, out }
    }

    /// Copies what came up to the length of a message, and leaves room for its new one.
    #[inline]
    pub fn open(&mut self, extent: Extent, added: usize) -> Open {
        self.copy_to(extent.length);
        self.copied = extent.begin;
        self.begin(extent.end - extent.begin + added)
    }

    /// Begins a message that did not come, behind whatever the caller wrote as its tag.
    #[inline]
    pub fn begin(&mut self, expected: usize) -> Open {
        wire::begin(&mut self.out, expected)
    }

    /// Copies what came up to `end`.
    #[inline(always)]
    pub fn copy_to(&mut self, end: usize) {
        self.out.extend_from_slice(self.body.get(self.copied..end).unwrap_or_default());
        self.copied = end;
    }

    /// Leaves out what came up to `end`.
    #[inline]
    pub fn skip_to(&mut self, end: usize) {
        self.copied = end;
    }

    /// Puts bytes in.
    #[inline(always)]
    pub fn insert(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Writes the length of an open message whose last byte is the last written.
    pub fn close(&mut self, open: Open) {
        wire::close(&mut self.out, open);
    }

    /// Copies a whole message and puts `added` at its end.
    #[inline(always)]
    pub fn grow<const N: usize>(&mut self, extent: Extent, added: [&[u8]; N]) {
        let more: usize = added.iter().map(|piece| piece.len()).sum();
        let length = extent.end - extent.begin + more;
        self.head(extent, length);
        self.copied = extent.begin;
        self.copy_to(extent.end);
        for piece in added {
            if !piece.is_empty() {
                self.out.extend_from_slice(piece);
            }
        }
    }

    /// Copies what came up to the length of a message, and writes its new one.
    ///
    /// Between two spans there is nearly always one byte, the tag: then it and the length are written as one word, and
    /// what is too much of it is taken back.
    #[inline(always)]
    fn head(&mut self, extent: Extent, length: usize) {
        const THREE_BYTES: usize = 1 << 21;
        match self.body.get(self.copied..extent.length) {
            Some(&[tag]) if length < THREE_BYTES => {
                let width = wire::varint_len(length as u64);
                let end = self.out.len() + 1 + width;
                let [low, ..] = length.to_le_bytes();
                let [middle, ..] = (length >> 7).to_le_bytes();
                let [high, ..] = (length >> 14).to_le_bytes();
                let more = |index: usize| if index < width { 0x80 } else { 0 };
                self.out.extend_from_slice(&[tag, low & 0x7f | more(1), middle & 0x7f | more(2), high]);
                self.out.truncate(end);
            }
            _ => {
                self.copy_to(extent.length);
                wire::push_varint(&mut self.out, length as u64);
            }
        }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Copies the rest.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.copy_to(self.body.len());
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of `came` bytes behind a one-byte tag, grown by `added`, guessed to grow by `guess`.
    fn check_open(came: usize, added: usize, guess: usize) {
        let mut body = vec![0x0a];
        wire::push_varint(&mut body, came as u64);
        let begin = body.len();
        body.extend(vec![7; came]);
        body.extend([0x10, 0x01]);
        let mut splice = Splice::of(&body, 0);
        let open = splice.open(Extent { length: 1, begin, end: begin + came }, guess);
        splice.copy_to(begin + came);
        splice.insert(&vec![9; added]);
        splice.close(open);
        let mut expected = vec![0x0a];
        wire::push_varint(&mut expected, (came + added) as u64);
        expected.extend(vec![7; came]);
        expected.extend(vec![9; added]);
        expected.extend([0x10, 0x01]);
        assert_eq!(splice.finish(), expected, "{came} + {added}, guessed {guess}");
    }

    #[test]
    fn lengths_are_minimal_however_wrong_the_guess() {
        for came in [0, 1, 100, 127, 128, 16_300] {
            for added in [0, 1, 27, 28, 83, 84, 20_000] {
                for guess in [0, added, 127, 128, 16_384, 3_000_000] {
                    check_open(came, added, guess);
                }
            }
        }
    }

    /// A message of `came` bytes behind `gap` bytes, grown by `added`.
    fn check_grow(gap: usize, came: usize, added: usize) {
        let mut body = vec![0x12; gap];
        wire::push_varint(&mut body, came as u64);
        let begin = body.len();
        body.extend(vec![7; came]);
        let mut splice = Splice::of(&body, 0);
        splice.grow(Extent { length: gap, begin, end: begin + came }, [&vec![9; added], &[]]);
        let mut expected = vec![0x12; gap];
        wire::push_varint(&mut expected, (came + added) as u64);
        expected.extend(vec![7; came]);
        expected.extend(vec![9; added]);
        assert!(splice.finish() == expected, "{gap} {came} + {added}");
    }

    #[test]
    fn a_grown_message_has_the_length_it_has() {
        for gap in [0, 1, 2, 9] {
            for whole in [0, 1, 127, 128, 16_383, 16_384, (1 << 21) - 1, 1 << 21] {
                check_grow(gap, whole, 0);
                check_grow(gap, whole / 2, whole - whole / 2);
            }
        }
    }
}
