//! DATA frames. One that has not come whole is told in the pieces in which it comes, so that its bytes are copied once, to
//! where they belong.

use super::Code;
use super::frame::{self, Head, flag, kind};
use super::session::{Event, FIRST_WINDOW, Fault, Role, Session};

/// A DATA frame of which not all has come. It was judged when it began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partial {
    stream: u32,
    left: usize,
    end: bool,
}

impl Session {
    pub(super) fn data_frame<'i>(&mut self, head: Head, payload: &'i [u8]) -> Result<Option<Event<'i>>, Fault> {
        let Some(bytes) = frame::unpadded(head, payload) else {
            return Err(self.fail(Code::ProtocolError, "more padding than data"));
        };
        match self.judge(head, bytes.len())? {
            Some(event) => Ok(event),
            None => Ok(Some(self.came(head.stream, bytes, true, head.has(flag::END_STREAM)))),
        }
    }

    /// Begins with a frame that has not come whole, if it can be told in pieces: what is to be told at once.
    pub(super) fn begin_partial<'i>(&mut self, head: Head, input: &mut &'i [u8]) -> Result<Option<Option<Event<'i>>>, Fault> {
        let plain = head.kind == kind::DATA && !head.has(flag::PADDED) && self.greeted && self.block.is_none();
        let Some((_, rest)) = input.split_at_checked(frame::HEAD).filter(|(_, rest)| plain && !rest.is_empty()) else {
            return Ok(None);
        };
        *input = rest;
        self.partial = Some(Partial { stream: head.stream, left: head.length, end: head.has(flag::END_STREAM) });
        self.judge(head, head.length).map(|told| Some(told.flatten()))
    }

    /// The next piece of a frame that had not come whole; `None`: nothing has come, or nobody wants it any more.
    pub(super) fn more_of<'i>(&mut self, partial: Partial, input: &mut &'i [u8]) -> Option<Event<'i>> {
        let (bytes, rest) = input.split_at_checked(partial.left).unwrap_or((input, &[]));
        *input = rest;
        let left = partial.left - bytes.len();
        self.partial = (left > 0).then_some(Partial { left, ..partial });
        let wanted = !bytes.is_empty() && self.streams.contains_key(&partial.stream);
        wanted.then(|| self.came(partial.stream, bytes, left == 0, partial.end && left == 0))
    }

    /// Whether a frame with so much data may come. `Some`: it may not, and this is what is told of that.
    fn judge<'i>(&mut self, head: Head, length: usize) -> Result<Option<Option<Event<'i>>>, Fault> {
        let size = u32::try_from(head.length).unwrap_or(u32::MAX);
        if head.stream == 0 || self.is_idle(head.stream) {
            return Err(self.fail(Code::ProtocolError, "DATA for no stream"));
        }
        self.receive -= i64::from(size);
        if self.receive < 0 {
            return Err(self.fail(Code::FlowControlError, "more data than the connection's window"));
        }
        self.give_back(size);
        let end = head.has(flag::END_STREAM);
        if length == 0 && !end {
            self.noise(1)?;
        } else {
            self.work();
        }
        let Some(stream) = self.streams.get_mut(&head.stream) else {
            // Under way when it was reset here; anything else comes after the end.
            return if self.reset.contains(&head.stream) {
                self.noise(1).map(|()| Some(None))
            } else {
                self.stream_error(head.stream, Code::StreamClosed).map(Some)
            };
        };
        stream.receive -= i64::from(size);
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let expected = stream.expected.map(|expected| expected.checked_sub(length));
        let wrong = match expected {
            _ if stream.remote_closed => Some(Code::StreamClosed),
            _ if stream.receive < 0 => Some(Code::FlowControlError),
            _ if self.role == Role::Client && !stream.headed => Some(Code::ProtocolError),
            Some(None) => Some(Code::ProtocolError),
            Some(Some(1..)) if end => Some(Code::ProtocolError),
            _ => None,
        };
        if let Some(code) = wrong {
            return self.stream_error(head.stream, code).map(Some);
        }
        stream.expected = expected.flatten();
        stream.taken += size;
        Ok(None)
    }

    /// Data that may come, has. `whole`: with it, its frame.
    fn came<'i>(&mut self, id: u32, bytes: &'i [u8], whole: bool, end: bool) -> Event<'i> {
        if let Some(stream) = self.streams.get_mut(&id) {
            if end {
                stream.remote_closed = true;
            } else if whole && stream.taken >= self.limits.stream_window / 2 {
                frame::put_window(self.output.tail(), id, stream.taken);
                stream.receive += i64::from(stream.taken);
                stream.taken = 0;
            }
        }
        self.forget_if_over(id);
        Event::Data { stream: id, bytes, end }
    }

    /// Announces room for what was taken, not for every frame.
    fn give_back(&mut self, size: u32) {
        self.taken += size;
        if self.taken >= self.limits.connection_window.max(FIRST_WINDOW) / 2 {
            frame::put_window(self.output.tail(), 0, self.taken);
            self.receive += i64::from(self.taken);
            self.taken = 0;
        }
    }
}
