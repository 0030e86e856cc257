//! Header blocks: heads of requests and of answers, and trailers.

use super::fields::{check_trailers, response_fields};
use super::frame::{self, Head, flag};
use super::session::{Event, Fault, Role, Session};
use super::stream::Stream;
use super::{Code, request_fields};

/// Compressed bytes of one header block …
const MAX_BLOCK: usize = 64 * 1024;
/// … and the frames it may come in.
const MAX_CONTINUATIONS: u32 = 16;

/// A header block that is not whole yet.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) stream: u32,
    end: bool,
    bytes: Vec<u8>,
    frames: u32,
}

impl Session {
    pub(super) fn headers_frame<'i>(&mut self, head: Head, payload: &[u8]) -> Result<Option<Event<'i>>, Fault> {
        if head.stream == 0 {
            return Err(self.fail(Code::ProtocolError, "HEADERS for the connection"));
        }
        let Some(bytes) = frame::unpadded(head, payload) else {
            return Err(self.fail(Code::ProtocolError, "more padding than headers"));
        };
        let end = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.whole_block(head.stream, end, bytes);
        }
        self.block = Some(Block { stream: head.stream, end, bytes: bytes.to_vec(), frames: 0 });
        Ok(None)
    }

    pub(super) fn continuation_frame<'i>(&mut self, head: Head, payload: &[u8]) -> Result<Option<Event<'i>>, Fault> {
        let Some(block) = &mut self.block else {
            return Err(self.fail(Code::ProtocolError, "CONTINUATION of nothing"));
        };
        block.frames += 1;
        block.bytes.extend_from_slice(payload);
        if block.frames > MAX_CONTINUATIONS || block.bytes.len() > MAX_BLOCK {
            return Err(self.fail(Code::EnhanceYourCalm, "headers without end"));
        }
        if !head.has(flag::END_HEADERS) {
            return Ok(None);
        }
        match self.block.take() {
            Some(block) => self.whole_block(block.stream, block.end, &block.bytes),
            None => Ok(None),
        }
    }

    fn whole_block<'i>(&mut self, id: u32, end: bool, bytes: &[u8]) -> Result<Option<Event<'i>>, Fault> {
        // Read whatever becomes of it: the state of compression is the connection's.
        let Ok(same) = self.decoder.read(bytes) else {
            return Err(self.fail(Code::CompressionError, "headers cannot be decompressed"));
        };
        if !same {
            self.judged = None;
        }
        match self.role {
            Role::Server if !self.streams.contains_key(&id) => self.request_head(id, end),
            Role::Client if !self.streams.get(&id).is_some_and(|stream| stream.headed) => self.response_head(id, end),
            _ => self.trailers(id, end),
        }
    }

    fn request_head<'i>(&mut self, id: u32, end: bool) -> Result<Option<Event<'i>>, Fault> {
        if id.is_multiple_of(2) {
            return Err(self.fail(Code::ProtocolError, "a client's streams are odd"));
        }
        if id <= self.last {
            return if self.reset.contains(&id) {
                self.noise(1).map(|()| None)
            } else {
                Err(self.fail(Code::StreamClosed, "HEADERS of a closed stream"))
            };
        }
        if self.leaving {
            // Above what was told as the last: the client knows that it was not taken.
            return self.noise(1).map(|()| None);
        }
        self.last = id;
        self.work();
        if self.streams.len() >= usize::try_from(self.limits.streams).unwrap_or(usize::MAX) {
            return self.stream_error(id, Code::RefusedStream);
        }
        let expected = match self.judged {
            Some(expected) => expected,
            None if self.fields().too_large() => None,
            None => match request_fields(self.fields()) {
                Ok(request) => *self.judged.insert(request.length),
                Err(code) => return self.stream_error(id, code),
            },
        };
        if end && expected.is_some_and(|expected| expected > 0) {
            return self.stream_error(id, Code::ProtocolError);
        }
        let mut stream = Stream::new(self.limits.stream_window, self.peer.window);
        (stream.remote_closed, stream.expected) = (end, expected);
        self.streams.insert(id, stream);
        Ok(Some(Event::Head { stream: id, end }))
    }

    fn response_head<'i>(&mut self, id: u32, end: bool) -> Result<Option<Event<'i>>, Fault> {
        if self.is_idle(id) {
            return Err(self.fail(Code::ProtocolError, "an answer to nothing"));
        }
        let told = response_fields(self.decoder.fields());
        let Some(stream) = self.streams.get_mut(&id) else { return self.noise(1).map(|()| None) };
        match told {
            // One that is not the last: nothing here waits for it.
            Ok(([b'1', ..], _)) if !end => self.noise(1).map(|()| None),
            Ok(([b'1', ..], _)) => self.stream_error(id, Code::ProtocolError),
            Ok((_, Some(1..))) if end => self.stream_error(id, Code::ProtocolError),
            Ok((_, length)) => {
                (stream.headed, stream.remote_closed, stream.expected) = (true, end, length);
                self.work();
                self.forget_if_over(id);
                Ok(Some(Event::Head { stream: id, end }))
            }
            Err(code) => self.stream_error(id, code),
        }
    }

    fn trailers<'i>(&mut self, id: u32, end: bool) -> Result<Option<Event<'i>>, Fault> {
        let Some(stream) = self.streams.get_mut(&id) else { return self.noise(1).map(|()| None) };
        let wrong = match () {
            () if stream.remote_closed => Some(Code::StreamClosed),
            () if !end || stream.expected.is_some_and(|left| left > 0) => Some(Code::ProtocolError),
            () => check_trailers(self.decoder.fields()).err(),
        };
        if let Some(code) = wrong {
            return self.stream_error(id, code);
        }
        stream.remote_closed = true;
        self.forget_if_over(id);
        Ok(Some(Event::Trailers { stream: id }))
    }
}
