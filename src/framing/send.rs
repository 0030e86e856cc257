//! What this side says: heads, data within the peer's windows, ends.

use bytes::Bytes;

use super::Code;
use super::frame::{self, Head, flag, kind};
use super::output::COPIED;
use super::session::{Role, Session};
use super::stream::{End, Stream};

/// No more data is made into frames while so many bytes wait for the socket: what is no frame yet can still be taken back.
const AHEAD: usize = 256 * 1024;
/// The last number a client may use.
const LAST_STREAM: u32 = 0x7fff_ffff;

impl Session {
    /// Whether a client may send a request now.
    #[must_use]
    pub fn may_open(&self) -> bool {
        !self.is_leaving() && self.streams.len() < self.peer.streams
    }

    /// Whether no new stream will be opened.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.left || self.leaving || self.last >= LAST_STREAM - 2
    }

    /// Whether a stream is open.
    #[must_use]
    pub fn has(&self, id: u32) -> bool {
        self.streams.contains_key(&id)
    }

    /// Opens a stream with a request's head, a header block; its number.
    pub fn open(&mut self, window: u32, block: &[u8]) -> u32 {
        let id = if self.last == 0 { 1 } else { self.last + 2 };
        self.last = id;
        self.streams.insert(id, Stream::new(window, self.peer.window));
        self.put_block(id, block, false);
        id
    }

    /// Answers with a head; `end`: nothing follows.
    pub fn head(&mut self, id: u32, block: &[u8], end: bool) {
        if !self.streams.contains_key(&id) {
            return;
        }
        self.put_block(id, block, end);
        if end {
            self.done(id);
        }
    }

    /// Sends data, a few bytes and what follows them, now or when the peer has room; `end`: nothing follows.
    pub fn data(&mut self, id: u32, first: &[u8], body: Bytes, end: bool) {
        let at_once = self.may_say_at_once(id);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let length = first.len().saturating_add(body.len());
        let window = usize::try_from(stream.send.min(self.send)).unwrap_or(0);
        if at_once && (1..COPIED).contains(&length) && length <= window {
            let sent = i64::try_from(length).unwrap_or(i64::MAX);
            stream.send -= sent;
            self.send -= sent;
            let flags = if end { flag::END_STREAM } else { 0 };
            let tail = self.output.tail();
            tail.extend_from_slice(&Head { length, kind: kind::DATA, flags, stream: id }.bytes());
            tail.extend_from_slice(first);
            tail.extend_from_slice(&body);
            if end {
                self.done(id);
            }
            return;
        }
        stream.pending.extend([Bytes::copy_from_slice(first), body].into_iter().filter(|piece| !piece.is_empty()));
        if end {
            stream.end = End::Data;
        }
        self.take_a_turn(id);
    }

    /// Ends a stream with trailers, a header block, once all data went out.
    pub fn end_with(&mut self, id: u32, block: Bytes) {
        if self.may_say_at_once(id) {
            self.put_block(id, &block, true);
            return self.done(id);
        }
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.end = End::Trailers(block);
        self.take_a_turn(id);
    }

    /// Whether nothing waits, neither of a stream nor of any other: what is short need not wait for a turn.
    fn may_say_at_once(&self, id: u32) -> bool {
        let idle = self.streams.get(&id).is_some_and(|stream| stream.pending.is_empty() && stream.end == End::Open);
        idle && self.turns.is_empty() && self.output.len() < AHEAD
    }

    /// Ends a stream at once.
    pub fn reset(&mut self, id: u32, code: Code) {
        self.streams.remove(&id);
        frame::put_reset(self.output.tail(), id, code);
        self.remember(id);
    }

    /// Takes no new streams; those that are open go on.
    pub fn goodbye(&mut self, code: Code) {
        let last = if self.role == Role::Server { self.last } else { 0 };
        if !self.leaving || code != Code::NoError {
            frame::put_goaway(self.output.tail(), last, code, "");
        }
        self.leaving = true;
    }

    /// Says that no new streams will be taken, and takes those that the peer opens before it has heard of it: it has when
    /// it answers the ping behind (RFC 9113 §6.8).
    pub fn announce_goodbye(&mut self) {
        frame::put_goaway(self.output.tail(), LAST_STREAM, Code::NoError, "");
        self.ping();
    }

    /// Ends the connection of a peer that pings too often; gRPC clients know the word, and ping less often then.
    pub fn too_many_pings(&mut self) {
        frame::put_goaway(self.output.tail(), self.last, Code::EnhanceYourCalm, "too_many_pings");
        self.leaving = true;
    }

    /// Asks for a sign of life.
    pub fn ping(&mut self) {
        frame::put(self.output.tail(), kind::PING, 0, 0, b"stallspn");
    }

    /// Lets a stream send what it may.
    pub(super) fn take_a_turn(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.may_send()
            && !stream.queued
        {
            stream.queued = true;
            self.turns.push_back(id);
        }
        self.pump();
    }

    /// Makes frames of what may be sent, a frame a stream in turn. To be called whenever output was written.
    pub fn pump(&mut self) {
        while self.output.len() < AHEAD
            && let Some(id) = self.turns.pop_front()
        {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.queued = false;
            if !stream.pending.is_empty() && self.send <= 0 {
                stream.queued = true;
                self.turns.push_front(id);
                return;
            }
            let ended = self.one_frame(id);
            if ended {
                self.done(id);
            } else if let Some(stream) = self.streams.get_mut(&id)
                && stream.may_send()
            {
                stream.queued = true;
                self.turns.push_back(id);
            }
        }
    }

    /// One frame of a stream; whether it ended the stream.
    fn one_frame(&mut self, id: u32) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        if let (true, End::Trailers(block)) = (stream.pending.is_empty(), &mut stream.end) {
            let block = std::mem::take(block);
            self.put_block(id, &block, true);
            return true;
        }
        let window = usize::try_from(stream.send.min(self.send)).unwrap_or(0);
        let waiting = stream.waiting();
        let length = waiting.min(window).min(self.peer.frame);
        let end = length == waiting && stream.end == End::Data;
        if length == 0 && !end {
            return false;
        }
        let sent = i64::try_from(length).unwrap_or(i64::MAX);
        stream.send -= sent;
        self.send -= sent;
        let flags = if end { flag::END_STREAM } else { 0 };
        self.output.tail().extend_from_slice(&Head { length, kind: kind::DATA, flags, stream: id }.bytes());
        let mut left = length;
        while let Some(first) = stream.pending.front_mut() {
            let piece = first.split_to(left.min(first.len()));
            left -= piece.len();
            if first.is_empty() {
                stream.pending.pop_front();
            }
            self.output.push(piece);
            if left == 0 {
                break;
            }
        }
        end
    }

    fn put_block(&mut self, id: u32, block: &[u8], end: bool) {
        let end = if end { flag::END_STREAM } else { 0 };
        let most = self.peer.frame;
        let (mut kind, mut rest) = (kind::HEADERS, block);
        loop {
            let (piece, after) = rest.split_at_checked(most).unwrap_or((rest, &[]));
            let flags = if after.is_empty() { flag::END_HEADERS } else { 0 } | if kind == kind::HEADERS { end } else { 0 };
            frame::put(self.output.tail(), kind, flags, id, piece);
            if after.is_empty() {
                return;
            }
            (kind, rest) = (kind::CONTINUATION, after);
        }
    }

    /// This side has said all it has to say.
    fn done(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.end = End::Done;
        if self.role == Role::Server && !stream.remote_closed {
            // The answer is complete; what the client still sends is not needed (RFC 9113 §8.1).
            return self.reset(id, Code::NoError);
        }
        self.forget_if_over(id);
    }

    pub(super) fn forget_if_over(&mut self, id: u32) {
        if self.streams.get(&id).is_some_and(Stream::is_over) {
            self.streams.remove(&id);
        }
    }
}
