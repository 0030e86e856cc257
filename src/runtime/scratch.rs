//! What sockets are read into: one buffer a thread for all connections, so that it is warm and idle connections hold none.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes read at a time …
const READ: usize = 64 * 1024;
/// … behind what was left of the time before: at most one HTTP/2 frame that is not whole, of those that are taken here.
const LEFT: usize = 16 * 1024 + 9;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The thread's buffer, for one read.
#[derive(Debug)]
pub struct Scratch {
    bytes: Vec<u8>,
    filled: usize,
}

impl Scratch {
    /// Begins with what was left of the read before.
    #[must_use]
    pub fn behind(left: &[u8]) -> Self {
        let mut bytes = SCRATCH.take();
        // More than a frame is left only by who takes none: then there is room for more to come before the next.
        let size = left.len().max(LEFT).saturating_add(READ);
        if bytes.len() < size {
            bytes.resize(size, 0);
        }
        if let Some(begin) = bytes.get_mut(..left.len()) {
            begin.copy_from_slice(left);
        }
        Self { bytes, filled: left.len() }
    }

    /// Reads once; how much came. Nothing comes any more after nothing.
    ///
    /// # Errors
    /// Of reading.
    pub fn poll_read(&mut self, mut io: impl AsyncRead + Unpin, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(self.bytes.get_mut(self.filled..).unwrap_or_default());
        ready!(Pin::new(&mut io).poll_read(context, &mut room))?;
        let came = room.filled().len();
        self.filled += came;
        Poll::Ready(Ok(came))
    }

    /// What was left, and what came.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.bytes.truncate(LEFT + READ);
        SCRATCH.set(std::mem::take(&mut self.bytes));
    }
}

/// Keeps what was not taken for the next time, and no memory for nothing.
pub fn keep(left: &mut Vec<u8>, rest: &[u8]) {
    left.clear();
    left.extend_from_slice(rest);
    if left.is_empty() && left.capacity() > LEFT / 4 {
        *left = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn what_was_left_comes_first_and_nothing_is_lost() {
        let sent: Vec<u8> = (0..400_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let mut context = Context::from_waker(Waker::noop());
        for step in [1, 7, 1000, 20_000, 100_000] {
            let (mut io, mut left, mut taken) = (std::io::Cursor::new(&sent[..]), Vec::new(), Vec::new());
            loop {
                let mut scratch = Scratch::behind(&left);
                let Poll::Ready(Ok(1..)) = scratch.poll_read(&mut io, &mut context) else { break };
                let (now, later) = scratch.bytes().split_at(scratch.bytes().len() / step * step);
                taken.extend_from_slice(now);
                keep(&mut left, later);
            }
            taken.extend_from_slice(&left);
            assert!(taken == sent, "{step}");
        }
    }
}
