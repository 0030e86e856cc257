//! Frames that steer: settings, windows, resets, pings, goodbyes.

use super::Code;
use super::frame::{self, Head, flag, kind};
use super::session::{Event, Fault, Role, Session};
use super::settings::LARGEST_WINDOW;

impl Session {
    pub(super) fn reset_frame<'i>(&mut self, head: Head, payload: &[u8]) -> Result<Option<Event<'i>>, Fault> {
        if head.stream == 0 || self.is_idle(head.stream) {
            return Err(self.fail(Code::ProtocolError, "RST_STREAM for no stream"));
        }
        let Some(code) = frame::number(payload) else {
            return Err(self.fail(Code::FrameSizeError, "RST_STREAM of a wrong size"));
        };
        if self.streams.remove(&head.stream).is_none() {
            return Ok(None);
        }
        self.reset_too_often()?;
        Ok(Some(Event::Reset { stream: head.stream, code }))
    }

    pub(super) fn settings_frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(self.fail(Code::ProtocolError, "SETTINGS for a stream"));
        }
        if head.has(flag::ACK) {
            return if payload.is_empty() { Ok(()) } else { Err(self.fail(Code::FrameSizeError, "SETTINGS of a wrong size")) };
        }
        let before = self.peer.window;
        if let Err(code) = self.peer.take(payload, self.role == Role::Server) {
            return Err(self.fail(code, "SETTINGS that cannot be"));
        }
        self.greeted = true;
        let more = self.peer.window - before;
        let mut overflow = false;
        for (id, stream) in &mut self.streams {
            stream.send += more;
            overflow |= stream.send > LARGEST_WINDOW;
            if stream.may_send() && !stream.queued {
                stream.queued = true;
                self.turns.push_back(*id);
            }
        }
        if overflow {
            return Err(self.fail(Code::FlowControlError, "a window larger than can be"));
        }
        frame::put(self.output.tail(), kind::SETTINGS, flag::ACK, 0, &[]);
        self.pump();
        Ok(())
    }

    pub(super) fn ping_frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(self.fail(Code::ProtocolError, "PING for a stream"));
        }
        if payload.len() != 8 {
            return Err(self.fail(Code::FrameSizeError, "PING of a wrong size"));
        }
        if head.has(flag::ACK) {
            self.pongs += 1;
        } else {
            self.pings += 1;
            frame::put(self.output.tail(), kind::PING, flag::ACK, 0, payload);
        }
        Ok(())
    }

    pub(super) fn goaway_frame<'i>(&mut self, head: Head, payload: &[u8]) -> Result<Option<Event<'i>>, Fault> {
        if head.stream != 0 {
            return Err(self.fail(Code::ProtocolError, "GOAWAY for a stream"));
        }
        let Some(([last, code], _)) = payload.as_chunks::<4>().0.split_first_chunk::<2>() else {
            return Err(self.fail(Code::FrameSizeError, "GOAWAY of a wrong size"));
        };
        self.left = true;
        Ok(Some(Event::GoAway { last: u32::from_be_bytes(*last) & 0x7fff_ffff, code: u32::from_be_bytes(*code) }))
    }

    pub(super) fn window_frame<'i>(&mut self, head: Head, payload: &[u8]) -> Result<Option<Event<'i>>, Fault> {
        let Some(more) = frame::number(payload).map(|more| i64::from(more & 0x7fff_ffff)) else {
            return Err(self.fail(Code::FrameSizeError, "WINDOW_UPDATE of a wrong size"));
        };
        if head.stream == 0 {
            self.send += more;
            match () {
                () if more == 0 => return Err(self.fail(Code::ProtocolError, "WINDOW_UPDATE by nothing")),
                () if self.send > LARGEST_WINDOW => return Err(self.fail(Code::FlowControlError, "a window larger than can be")),
                () => self.pump(),
            }
            return Ok(None);
        }
        if self.is_idle(head.stream) {
            return Err(self.fail(Code::ProtocolError, "WINDOW_UPDATE for no stream"));
        }
        let Some(stream) = self.streams.get_mut(&head.stream) else { return Ok(None) };
        stream.send += more;
        match () {
            () if more == 0 => self.stream_error(head.stream, Code::ProtocolError),
            () if stream.send > LARGEST_WINDOW => self.stream_error(head.stream, Code::FlowControlError),
            () => {
                self.take_a_turn(head.stream);
                Ok(None)
            }
        }
    }
}
