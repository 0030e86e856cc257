//! What a peer announces (RFC 9113 §6.5.2), and what is announced here.

use super::Code;
use super::frame::{self, PAYLOAD, kind};

/// Largest window (RFC 9113 §6.9.1).
pub const LARGEST_WINDOW: i64 = (1 << 31) - 1;

const ENABLE_PUSH: u16 = 0x2;
const MAX_CONCURRENT_STREAMS: u16 = 0x3;
const INITIAL_WINDOW_SIZE: u16 = 0x4;
const MAX_FRAME_SIZE: u16 = 0x5;
const MAX_HEADER_LIST_SIZE: u16 = 0x6;

/// What the peer announced.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Bytes that may be sent on a new stream.
    pub window: i64,
    /// Largest payload it takes.
    pub frame: usize,
    /// Streams it takes at a time.
    pub streams: usize,
}

impl Default for Peer {
    /// Before it said anything. There is no limit of streams then; a hundred is what is recommended as the least.
    fn default() -> Self {
        Self { window: 65_535, frame: PAYLOAD, streams: 100 }
    }
}

impl Peer {
    /// Takes a SETTINGS payload. `from_client`: only a client may speak of push.
    ///
    /// # Errors
    /// The error that ends the connection.
    pub fn take(&mut self, payload: &[u8], from_client: bool) -> Result<(), Code> {
        let (settings, []) = payload.as_chunks::<6>() else { return Err(Code::FrameSizeError) };
        for [a, b, value @ ..] in settings {
            let value = u32::from_be_bytes(*value);
            let size = usize::try_from(value).unwrap_or(usize::MAX);
            match u16::from_be_bytes([*a, *b]) {
                ENABLE_PUSH if value > 1 || (value == 1 && !from_client) => return Err(Code::ProtocolError),
                MAX_CONCURRENT_STREAMS => self.streams = size,
                INITIAL_WINDOW_SIZE if i64::from(value) > LARGEST_WINDOW => return Err(Code::FlowControlError),
                INITIAL_WINDOW_SIZE => self.window = value.into(),
                MAX_FRAME_SIZE if !(PAYLOAD..1 << 24).contains(&size) => return Err(Code::ProtocolError),
                MAX_FRAME_SIZE => self.frame = size,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Writes what is announced here. A client forbids push, a server limits streams.
pub fn put(into: &mut Vec<u8>, streams: Option<u32>, window: u32, header_list: u32) {
    let first = match streams {
        Some(streams) => (MAX_CONCURRENT_STREAMS, streams),
        None => (ENABLE_PUSH, 0),
    };
    let mut payload = Vec::with_capacity(18);
    for (id, value) in [first, (INITIAL_WINDOW_SIZE, window), (MAX_HEADER_LIST_SIZE, header_list)] {
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame::put(into, kind::SETTINGS, 0, 0, &payload);
}
