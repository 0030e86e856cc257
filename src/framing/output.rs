//! What is to be written to the socket: small things one behind the other in one buffer, large ones as they are.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Payload below this is copied beside its frame's head: that costs less than a piece of its own in `writev`.
pub(super) const COPIED: usize = 2048;

/// Written bytes in the buffer of small things above which it is moved together.
const MOVED: usize = 64 * 1024;

/// Bytes in their order.
#[derive(Debug, Default)]
pub struct Output {
    /// All small things, also those between large ones.
    small: Vec<u8>,
    /// How much of `small` is written.
    from: usize,
    order: VecDeque<Piece>,
    /// Bytes of `small` that stand in `order`; those behind them come last.
    listed: usize,
    /// Bytes of large things.
    large: usize,
}

#[derive(Debug)]
enum Piece {
    Small(usize),
    Large(Bytes),
}

impl Output {
    /// The end of it, to write small things to.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.small
    }

    /// Adds a payload.
    pub fn push(&mut self, payload: Bytes) {
        if payload.len() < COPIED {
            return self.small.extend_from_slice(&payload);
        }
        let unlisted = self.small.len() - self.from - self.listed;
        if unlisted > 0 {
            self.order.push_back(Piece::Small(unlisted));
            self.listed += unlisted;
        }
        self.large += payload.len();
        self.order.push_back(Piece::Large(payload));
    }

    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.large + self.small.len() - self.from
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first pieces; how many there are.
    pub fn pieces<'o>(&'o self, into: &mut [IoSlice<'o>]) -> usize {
        let mut rest = self.small.get(self.from..).unwrap_or_default();
        let mut used = 0;
        for (slot, piece) in into.iter_mut().zip(self.order.iter().map(Some).chain([None])) {
            let bytes = match piece {
                None => rest,
                Some(Piece::Large(bytes)) => &**bytes,
                Some(Piece::Small(length)) => {
                    let (piece, behind) = rest.split_at_checked(*length).unwrap_or_default();
                    rest = behind;
                    piece
                }
            };
            if !bytes.is_empty() {
                *slot = IoSlice::new(bytes);
                used += 1;
            }
        }
        used
    }

    /// So many bytes were written.
    pub fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.order.front_mut() {
            let left = match first {
                Piece::Small(length) => {
                    let here = count.min(*length);
                    self.from += here;
                    self.listed -= here;
                    count -= here;
                    *length -= here;
                    *length
                }
                Piece::Large(bytes) => {
                    let here = count.min(bytes.len());
                    self.large -= here;
                    count -= here;
                    bytes.advance(here);
                    bytes.len()
                }
            };
            if left > 0 {
                return;
            }
            self.order.pop_front();
        }
        self.from = self.from.saturating_add(count).min(self.small.len());
        if self.from == self.small.len() {
            self.small.clear();
            self.from = 0;
        } else if self.from > MOVED {
            self.small.drain(..self.from);
            self.from = 0;
        }
    }

    /// Gives back memory that was needed for a moment.
    pub fn rest(&mut self) {
        if self.is_empty() && self.small.capacity() > 4 * COPIED {
            self.small = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(output: &Output) -> Vec<u8> {
        let mut slots = [IoSlice::new(&[]); 8];
        let count = output.pieces(&mut slots);
        slots[..count].iter().flat_map(|slot| slot.to_vec()).collect()
    }

    #[test]
    fn bytes_leave_in_their_order_however_they_are_taken() {
        for step in [1, 7, 2048, 5000, 100_000] {
            let mut output = Output::default();
            let mut expected = Vec::new();
            let mut left = Vec::new();
            for (index, size) in [1, 3000, 10, 20, 5000, 2047, 4000].into_iter().enumerate() {
                let payload = vec![u8::try_from(index).unwrap(); size];
                expected.extend_from_slice(&payload);
                output.push(payload.into());
                if index == 3 {
                    left.extend_from_slice(&whole(&output)[..5]);
                    output.advance(5);
                }
            }
            assert_eq!(output.len(), expected.len() - 5);
            while !output.is_empty() {
                let all = whole(&output);
                let taken = step.min(all.len());
                left.extend_from_slice(&all[..taken]);
                output.advance(taken);
            }
            assert!(left == expected, "by {step}");
        }
    }
}
