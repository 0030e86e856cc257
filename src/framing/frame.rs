//! Frames (RFC 9113 §4 and §6): their heads, and the small ones whole.

use super::Code;

/// Bytes of a frame's head.
pub const HEAD: usize = 9;
/// Largest payload that anybody takes, and what is taken here (RFC 9113 §4.2).
pub const PAYLOAD: usize = 16_384;

/// Frame types (RFC 9113 §6).
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    pub const END_STREAM: u8 = 0x1;
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes that follow.
    pub length: usize,
    /// One of [`kind`], or one that nobody knows.
    pub kind: u8,
    /// Of [`flag`].
    pub flags: u8,
    /// 0: the connection.
    pub stream: u32,
}

impl Head {
    /// `None` while fewer than nine bytes are there.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = *bytes.first_chunk::<HEAD>()?;
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
        Some(Self { length, kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff })
    }

    /// As bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; HEAD] {
        let [_, a, b, c] = u32::try_from(self.length).unwrap_or(u32::MAX).to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }

    /// Whether a flag is set.
    #[must_use]
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Writes a frame whole.
pub fn put(into: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    into.extend_from_slice(&Head { length: payload.len(), kind, flags, stream }.bytes());
    into.extend_from_slice(payload);
}

/// Writes an announcement of bytes that may be sent.
pub fn put_window(into: &mut Vec<u8>, stream: u32, bytes: u32) {
    put(into, kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
}

/// Writes the end of a stream by an error.
pub fn put_reset(into: &mut Vec<u8>, stream: u32, code: Code) {
    put(into, kind::RST_STREAM, 0, stream, &(code as u32).to_be_bytes());
}

/// Writes the end of a connection; `why`: a word for the peer's log.
pub fn put_goaway(into: &mut Vec<u8>, last: u32, code: Code, why: &str) {
    let [last, code] = [last, code as u32].map(u32::to_be_bytes);
    put(into, kind::GOAWAY, 0, 0, &[&last, &code, why.as_bytes()].concat());
}

/// Takes padding and priority out of a payload (RFC 9113 §6.1 and §6.2); `None` where there is more of them than payload.
#[must_use]
pub fn unpadded(head: Head, mut payload: &[u8]) -> Option<&[u8]> {
    let mut padding = 0;
    if head.has(flag::PADDED) {
        let (length, rest) = payload.split_first()?;
        (padding, payload) = (usize::from(*length), rest);
    }
    if head.kind == kind::HEADERS && head.has(flag::PRIORITY) {
        payload = payload.get(5..)?;
    }
    payload.get(..payload.len().checked_sub(padding)?)
}

/// The four bytes of a number; `None` where the payload has another length.
#[must_use]
pub fn number(payload: &[u8]) -> Option<u32> {
    payload.try_into().ok().map(u32::from_be_bytes)
}
