//! Large buffers used again. The allocator gives what is freed back to the kernel, which hands it out again page by page,
//! zeroed: for requests of half a megabyte that costs as much as reading and writing them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

/// Smaller ones are the allocator's business.
const LEAST: usize = 64 * 1024;

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
        if room < LEAST {
            return Vec::with_capacity(room);
        }
        let mut kept = self.kept();
        let fitting = kept.iter().rposition(|buffer| buffer.capacity() >= room);
        let buffer = fitting.map(|place| kept.swap_remove(place));
        drop(kept);
        buffer.map_or_else(|| Vec::with_capacity(room), Vec::from)
    }

    /// Takes a buffer back, if nobody else holds it and there is room for it.
    pub fn give_back(&self, bytes: Bytes) {
        if bytes.len() < LEAST {
            return;
        }
        let Ok(mut buffer) = bytes.try_into_mut() else { return };
        buffer.clear();
        let mut kept = self.kept();
        let held: usize = kept.iter().map(BytesMut::capacity).sum();
        if held.saturating_add(buffer.capacity()) <= self.most {
            kept.push(buffer);
        }
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
