//! Buffers of requests used again. The allocator joins and splits pieces of such sizes each time, and gives the largest back to
//! the kernel, which hands them out again page by page, zeroed: for requests of half a megabyte that costs as much as reading
//! and writing them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

/// Smaller ones are the allocator's business.
const LEAST: usize = 4 * 1024;
/// Most that are kept: each is looked at.
const MOST: usize = 128;
/// One with more than this many times the room that is needed is left to others.
const TOO_LARGE: usize = 4;

/// Buffers that wait to be used again.
#[derive(Debug)]
pub struct Buffers {
    kept: Mutex<Vec<BytesMut>>,
    most: usize,
}

impl Buffers {
    /// At most `most` bytes are kept.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { kept: Mutex::default(), most }
    }

    /// An empty buffer with room for so many bytes.
    #[must_use]
    pub fn take(&self, room: usize) -> Vec<u8> {
        self.take_between(room, room.saturating_mul(TOO_LARGE))
    }

    /// The same with the most room that may be used before: memory that was written to is there, whatever it is used for next.
    #[must_use]
    pub fn take_between(&self, room: usize, most: usize) -> Vec<u8> {
        if room < LEAST {
            return Vec::with_capacity(room);
        }
        let fits = room..=most;
        let mut kept = self.kept();
        let fitting = kept.iter().rposition(|buffer| fits.contains(&buffer.capacity()));
        let buffer = fitting.map(|place| kept.remove(place));
        drop(kept);
        buffer.map_or_else(|| Vec::with_capacity(room), Vec::from)
    }

    /// Takes a buffer back, if nobody else holds it. The oldest, which nobody has needed, make room for it.
    pub fn give_back(&self, bytes: Bytes) {
        let Ok(mut buffer) = bytes.try_into_mut() else { return };
        buffer.clear();
        let room = buffer.capacity();
        if !(LEAST..=self.most).contains(&room) {
            return;
        }
        let mut kept = self.kept();
        let mut held: usize = kept.iter().map(BytesMut::capacity).sum();
        while kept.len() >= MOST || held.saturating_add(room) > self.most {
            held -= kept.remove(0).capacity();
        }
        kept.push(buffer);
    }

    fn kept(&self) -> MutexGuard<'_, Vec<BytesMut>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(buffers: &Buffers, length: usize) -> Bytes {
        let mut buffer = buffers.take(length);
        buffer.resize(length, 7);
        buffer.into()
    }

    #[test]
    fn a_buffer_comes_back_empty_and_the_same() {
        let buffers = Buffers::new(1 << 20);
        let first = filled(&buffers, 100_000);
        let (place, other) = (first.as_ptr(), first.clone());
        drop(other);
        buffers.give_back(first);
        let again = buffers.take(90_000);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        assert!(again.capacity() >= 100_000);
        assert_eq!(buffers.kept().len(), 0);
    }

    #[test]
    fn what_is_much_too_large_is_left_to_those_who_need_it() {
        let buffers = Buffers::new(1 << 20);
        buffers.give_back(filled(&buffers, 100_000));
        assert!(buffers.take(100_000 / TOO_LARGE - 1).capacity() < 100_000);
        assert_eq!(buffers.kept().len(), 1);
        assert!(buffers.take_between(5000, 100_000).capacity() >= 100_000);
        assert_eq!(buffers.kept().len(), 0);
        let many: Vec<Bytes> = (0..=MOST).map(|_| filled(&buffers, LEAST)).collect();
        many.into_iter().for_each(|bytes| buffers.give_back(bytes));
        assert_eq!(buffers.kept().len(), MOST);
    }

    #[test]
    fn what_nobody_needs_makes_room_for_what_somebody_does() {
        let most = 1 << 20;
        for (before, many) in [(most / 2, 2), (LEAST, MOST + 1), (LEAST, 1)] {
            let buffers = Buffers::new(most);
            let large: Vec<Bytes> = (0..many).map(|_| filled(&buffers, before)).collect();
            large.into_iter().for_each(|bytes| buffers.give_back(bytes));
            for _ in 0..2 {
                let usual: Vec<Bytes> = (0..8).map(|_| filled(&buffers, 100_000)).collect();
                usual.into_iter().for_each(|bytes| buffers.give_back(bytes));
                let of_use = buffers.kept().iter().filter(|buffer| (100_000..200_000).contains(&buffer.capacity())).count();
                assert_eq!(of_use, 8, "{many} of {before}");
            }
        }
    }

    #[test]
    fn what_others_hold_what_is_small_and_what_is_too_much_is_let_go() {
        let buffers = Buffers::new(250_000);
        let held = filled(&buffers, 100_000);
        buffers.give_back(held.clone());
        buffers.give_back(filled(&buffers, 1000));
        buffers.give_back(Bytes::from_static(&[0; LEAST]));
        assert_eq!(buffers.kept().len(), 0);
        let several: Vec<Bytes> = (0..5).map(|_| filled(&buffers, 100_000)).collect();
        several.into_iter().for_each(|bytes| buffers.give_back(bytes));
        assert_eq!(buffers.kept().len(), 2);
        assert!(buffers.take(200_000).capacity() >= 200_000, "none of them is large enough");
        assert_eq!(buffers.kept().len(), 2);
    }
}
