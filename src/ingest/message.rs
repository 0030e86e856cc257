//! The one message of a gRPC call, put together from whatever pieces it comes in.

use bytes::Bytes;

use super::budget::Ticket;
use super::problem::Problem;
use crate::runtime::Buffers;

/// Compressed-flag and length, gRPC over HTTP/2 "Length-Prefixed-Message".
pub const PREFIX: usize = 5;
/// Room made at once where more is announced.
const FIRST_ROOM: usize = 64 * 1024;

/// A buffer that was used before is there in full, however little comes: it has at most this many times what has arrived. New
/// room is not there before it is written to.
const USED_BEFORE: usize = 8;

/// A message that is arriving.
#[derive(Debug)]
pub struct Message {
    limit: usize,
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that are there.
    prefixed: usize,
    compressed: bool,
    length: usize,
    bytes: Vec<u8>,
}

impl Message {
    /// Nothing yet; `limit`: most bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, prefix: [0; PREFIX], prefixed: 0, compressed: false, length: 0, bytes: Vec::new() }
    }

    /// Takes a piece. Room is made as bytes arrive, ahead of them by no more than they are, or, where memory was used before, by
    /// [`USED_BEFORE`] times.
    ///
    /// # Errors
    /// Too large, more than one message, no room in the budget, or no message at all.
    pub fn take(&mut self, mut piece: &[u8], ticket: &mut Ticket, buffers: &Buffers) -> Result<(), Problem> {
        if self.prefixed < PREFIX {
            let (here, rest) = piece.split_at(piece.len().min(PREFIX - self.prefixed));
            piece = rest;
            for (slot, byte) in self.prefix.iter_mut().skip(self.prefixed).zip(here) {
                *slot = *byte;
            }
            self.prefixed += here.len();
            if self.prefixed < PREFIX {
                return Ok(());
            }
            self.read_prefix()?;
        }
        let needed = self.bytes.len().saturating_add(piece.len());
        if needed > self.length {
            return Err(Problem::MessageCount);
        }
        ticket.grow(piece.len())?;
        if needed > self.bytes.capacity() {
            let room = needed.saturating_mul(2).max(FIRST_ROOM).min(self.length);
            let mut larger = buffers.take_between(room, needed.saturating_mul(USED_BEFORE));
            larger.extend_from_slice(&self.bytes);
            self.bytes = larger;
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    fn read_prefix(&mut self) -> Result<(), Problem> {
        let [flag, length @ ..] = self.prefix;
        self.length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        self.compressed = match flag {
            0 | 1 => flag == 1,
            other => return Err(Problem::Broken(format!("{other} is no compressed-flag"))),
        };
        if self.length > self.limit { Err(Problem::TooLarge { limit: self.limit }) } else { Ok(()) }
    }

    /// The message, and whether it is compressed.
    ///
    /// # Errors
    /// There is none, or not all of it.
    pub fn whole(self) -> Result<(bool, Bytes), Problem> {
        match (self.prefixed, self.bytes.len()) {
            (0, _) => Err(Problem::MessageCount),
            (..PREFIX, _) => Err(Problem::Broken("the message ends within its length prefix".to_owned())),
            (_, there) if there < self.length => Err(Problem::Broken(format!("the message ends after {there} of {} bytes", self.length))),
            _ => Ok((self.compressed, self.bytes.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::budget::{Budget, Share};
    use super::*;

    /// Reads a body in pieces of these lengths, the last repeated; returns the message and what its ticket held.
    fn read(body: &[u8], lengths: &[usize], limit: usize) -> Result<((bool, Bytes), usize), Problem> {
        let mut ticket = Share::new(&Budget::new(1 << 20)).ticket();
        let (mut message, buffers) = (Message::new(limit), Buffers::new(0));
        let (mut rest, mut lengths) = (body, lengths.iter().copied());
        let mut length = 1;
        while !rest.is_empty() {
            length = lengths.next().unwrap_or(length.max(1));
            let (piece, behind) = rest.split_at(length.min(rest.len()));
            message.take(piece, &mut ticket, &buffers)?;
            rest = behind;
        }
        Ok((message.whole()?, ticket.bytes()))
    }

    #[test]
    fn room_follows_what_arrived_not_what_was_announced() {
        let mut ticket = Share::new(&Budget::new(1 << 30)).ticket();
        let (mut message, buffers) = (Message::new(1 << 30), Buffers::new(0));
        message.take(&[0, 0x20, 0, 0, 0], &mut ticket, &buffers).unwrap();
        assert_eq!(message.bytes.capacity(), 0);
        for arrived in 1..50_usize {
            message.take(&[1; 10_000], &mut ticket, &buffers).unwrap();
            assert!(message.bytes.capacity() <= (arrived * 20_000).max(FIRST_ROOM), "{arrived}");
        }
    }

    #[test]
    fn memory_that_was_used_before_goes_to_who_sends_not_to_who_announces() {
        let buffers = Buffers::new(8 << 20);
        let used = Bytes::from(vec![7; 1 << 20]);
        let place = used.as_ptr();
        buffers.give_back(used);
        let mut ticket = Share::new(&Budget::new(1 << 30)).ticket();
        let mut message = Message::new(1 << 30);
        message.take(&[0, 0, 0x10, 0, 0], &mut ticket, &buffers).unwrap();
        let mut arrived = 0;
        while message.bytes.as_ptr() != place {
            message.take(&[1; 1000], &mut ticket, &buffers).unwrap();
            arrived += 1000;
            assert!(message.bytes.as_ptr() == place || message.bytes.capacity() <= (arrived * 2).max(FIRST_ROOM), "{arrived}");
        }
        assert!(((1 << 20) / USED_BEFORE..1 << 20).contains(&arrived), "{arrived}");
        assert_eq!(ticket.bytes(), arrived);
    }

    proptest! {
        /// Whatever the pieces: one whole message of at most the limit passes, anything else is refused for its reason.
        #[test]
        fn the_pieces_make_no_difference(
            length in 0..40_usize,
            lie in prop_oneof![4 => Just(0_i64), 1 => -3..4_i64],
            missing in prop_oneof![4 => Just(0_usize), 1 => 0..46_usize],
            limit in 30..45_usize,
            compressed: bool,
            lengths in prop::collection::vec(0..9_usize, 0..12),
        ) {
            let message: Vec<u8> = (0..length).map(|i| u8::try_from(i).unwrap()).collect();
            let announced = u32::try_from((i64::try_from(length).unwrap() + lie).max(0)).unwrap();
            let mut body = vec![u8::from(compressed)];
            body.extend_from_slice(&announced.to_be_bytes());
            body.extend_from_slice(&message);
            body.truncate(body.len().saturating_sub(missing));
            let there = body.len().saturating_sub(PREFIX);
            let announced = usize::try_from(announced).unwrap();
            let told = read(&body, &lengths, limit);
            match told {
                _ if body.is_empty() => prop_assert_eq!(told, Err(Problem::MessageCount)),
                Err(Problem::Broken(_)) => prop_assert!(body.len() < PREFIX || (announced <= limit && there < announced)),
                Err(Problem::TooLarge { .. }) => prop_assert!(announced > limit),
                Err(other) => prop_assert!(other == Problem::MessageCount && announced <= limit && there > announced),
                Ok((read, held)) => {
                    prop_assert!(announced <= limit && there == announced);
                    prop_assert_eq!((read, held), ((compressed, Bytes::copy_from_slice(&body[PREFIX..])), there));
                }
            }
        }
    }
}
