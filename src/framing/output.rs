//! What is to be written to the socket: small things one behind the other in one buffer, large ones as they are.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Payload below this is copied beside its frame's head: that costs less than a piece of its own in `writev`.
const COPIED: usize = 2048;

/// Bytes in their order.
#[derive(Debug, Default)]
pub struct Output {
    done: VecDeque<Bytes>,
    /// Behind all of `done`.
    tail: Vec<u8>,
    length: usize,
    /// How much of `tail` is written.
    written: usize,
}

impl Output {
    /// The end of it, to write small things to.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Adds a payload.
    pub fn push(&mut self, payload: Bytes) {
        if payload.len() < COPIED {
            return self.tail.extend_from_slice(&payload);
        }
        self.close_tail();
        self.length += payload.len();
        self.done.push_back(payload);
    }

    fn close_tail(&mut self) {
        if self.tail.len() > self.written {
            let mut tail = Bytes::from(std::mem::take(&mut self.tail));
            tail.advance(self.written);
            self.length += tail.len();
            self.done.push_back(tail);
        } else {
            self.tail.clear();
        }
        self.written = 0;
    }

    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length + self.tail.len().saturating_sub(self.written)
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first pieces; how many there are.
    pub fn pieces<'o>(&'o self, into: &mut [IoSlice<'o>]) -> usize {
        let tail = self.tail.get(self.written..).unwrap_or_default();
        let all = self.done.iter().map(|piece| &**piece).chain((!tail.is_empty()).then_some(tail));
        into.iter_mut().zip(all).map(|(slot, piece)| *slot = IoSlice::new(piece)).count()
    }

    /// So many bytes were written.
    pub fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.done.front_mut() {
            let here = count.min(first.len());
            first.advance(here);
            self.length -= here;
            count -= here;
            if !first.is_empty() {
                return;
            }
            self.done.pop_front();
        }
        self.written += count;
        if self.written >= self.tail.len() {
            self.tail.clear();
            self.written = 0;
        }
    }

    /// Gives back memory that was needed for a moment.
    pub fn rest(&mut self) {
        if self.is_empty() && self.tail.capacity() > 4 * COPIED {
            self.tail = Vec::new();
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
