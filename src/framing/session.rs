//! One connection: frames in, events out, and what is owed to the peer's protocol in between.

use std::collections::{BTreeMap, VecDeque};

use super::data::Partial;
use super::frame::{self, Head, PAYLOAD, flag, kind};
use super::heads::Block;
use super::hpack::{Decoder, Fields};
use super::output::Output;
use super::settings::{self, Peer};
use super::stream::Stream;
use super::{Code, PREFACE};

/// Bytes for fields told before: what everybody assumes until told otherwise (RFC 9113 §6.5.2).
const TABLE: usize = 4096;
/// The window of a connection before anything is said (RFC 9113 §6.9.2).
pub(super) const FIRST_WINDOW: u32 = 65_535;
/// Frames that carry no work which are taken between two ticks …
const MAX_NOISE: u32 = 2_000;
/// … and how many more each frame with work allows: some clients measure the round trip with every answer.
const NOISE_PER_WORK: u32 = 4;
/// Streams ended by an error between two ticks (rapid reset, CVE-2023-44487; made-you-reset, CVE-2025-8671).
const MAX_RESETS: u32 = 200;
/// Streams reset here of which frames may still be under way.
const REMEMBERED: usize = 128;

/// Which side this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes requests.
    Server,
    /// Sends them.
    Client,
}

/// What a peer may do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams at a time.
    pub streams: u32,
    /// Bytes it may send ahead on one stream …
    pub stream_window: u32,
    /// … and on all of them.
    pub connection_window: u32,
    /// Names and values of one head, 32 bytes more for each.
    pub header_list: u32,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'i> {
    /// The head of a request or of a response; [`Session::fields`] has what it says.
    Head {
        /// Of which stream.
        stream: u32,
        /// Nothing follows.
        end: bool,
    },
    /// Data.
    Data {
        /// Of which stream.
        stream: u32,
        /// Perhaps none.
        bytes: &'i [u8],
        /// Nothing follows.
        end: bool,
    },
    /// Trailers, and the end; [`Session::fields`] has what they say.
    Trailers {
        /// Of which stream.
        stream: u32,
    },
    /// The stream is over, by the peer's will or its error.
    Reset {
        /// Which stream.
        stream: u32,
        /// An error code.
        code: u32,
    },
    /// The peer takes no new streams, and has not taken those above `last`.
    GoAway {
        /// The last it took.
        last: u32,
        /// An error code.
        code: u32,
    },
}

/// The peer broke the rules: the connection ends once [`Session::output`] is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why} ({code:?})")]
pub struct Fault {
    /// As it is told.
    pub code: Code,
    /// In words.
    pub why: &'static str,
}

/// One side of a connection.
#[derive(Debug)]
pub struct Session {
    pub(super) role: Role,
    pub(super) limits: Limits,
    pub(super) decoder: Decoder,
    pub(super) peer: Peer,
    pub(super) greeted: bool,
    pub(super) streams: BTreeMap<u32, Stream>,
    /// The last stream of the peer, or of this side.
    pub(super) last: u32,
    pub(super) block: Option<Block>,
    /// What the head read last says of its body's length, once it was found to be well-formed.
    pub(super) judged: Option<Option<u64>>,
    /// A DATA frame of which not all has come.
    pub(super) partial: Option<Partial>,
    /// Bytes the peer may send, and those taken that it was not told of yet.
    pub(super) receive: i64,
    pub(super) taken: u32,
    /// Bytes that may be sent.
    pub(super) send: i64,
    /// Streams that may send, in turn.
    pub(super) turns: VecDeque<u32>,
    pub(super) output: Output,
    pub(super) leaving: bool,
    /// The peer takes no new streams.
    pub(super) left: bool,
    pub(super) reset: VecDeque<u32>,
    noise: u32,
    resets: u32,
    pub(super) pings: u64,
    pub(super) pongs: u64,
}

impl Session {
    /// A connection before its first byte; what is said first waits in the output.
    #[must_use]
    pub fn new(role: Role, limits: Limits) -> Self {
        let mut output = Output::default();
        let first = output.tail();
        if role == Role::Client {
            first.extend_from_slice(PREFACE);
        }
        settings::put(first, (role == Role::Server).then_some(limits.streams), limits.stream_window, limits.header_list);
        if let Some(more @ 1..) = limits.connection_window.checked_sub(FIRST_WINDOW) {
            frame::put_window(first, 0, more);
        }
        Self {
            role,
            limits,
            decoder: Decoder::new(TABLE, usize::try_from(limits.header_list).unwrap_or(usize::MAX)),
            peer: Peer::default(),
            greeted: false,
            streams: BTreeMap::new(),
            last: 0,
            block: None,
            judged: None,
            partial: None,
            receive: limits.connection_window.max(FIRST_WINDOW).into(),
            taken: 0,
            send: FIRST_WINDOW.into(),
            turns: VecDeque::new(),
            output,
            leaving: false,
            left: false,
            reset: VecDeque::new(),
            noise: 0,
            resets: 0,
            pings: 0,
            pongs: 0,
        }
    }

    /// Whether a head, or trailers, are on their way: nothing else may come before their end (RFC 9113 §6.10).
    #[must_use]
    pub const fn is_amid_fields(&self) -> bool {
        self.block.is_some()
    }

    /// The fields of the head or the trailers told last.
    #[must_use]
    pub fn fields(&self) -> &Fields {
        self.decoder.fields()
    }

    /// What is to be written.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Streams that are open.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Bytes the peer may send now.
    #[cfg(test)]
    pub fn receive_window(&self) -> i64 {
        self.receive
    }

    /// Takes the connection's window back.
    #[cfg(test)]
    pub fn receive_at_most(&mut self, bytes: i64) {
        self.receive = bytes;
    }

    /// How many pings the peer sent.
    #[must_use]
    pub fn pings(&self) -> u64 {
        self.pings
    }

    /// How many pings were answered by the peer.
    #[must_use]
    pub fn pongs(&self) -> u64 {
        self.pongs
    }

    /// To be called every second or so: what a peer may cost, it may cost between two of these.
    pub fn tick(&mut self) {
        (self.noise, self.resets) = (0, 0);
    }

    /// The next event of `input`, from which whole frames are taken; `None` where no whole frame is left.
    ///
    /// # Errors
    /// Where the connection cannot go on.
    pub fn next<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Event<'i>>, Fault> {
        loop {
            if let Some(partial) = self.partial.take() {
                match self.more_of(partial, input) {
                    Some(event) => return Ok(Some(event)),
                    None if self.partial.is_some() => return Ok(None),
                    None => {}
                }
            }
            let Some(head) = Head::read(input) else { return Ok(None) };
            if head.length > PAYLOAD {
                return Err(self.fail(Code::FrameSizeError, "a frame is larger than announced"));
            }
            let Some((frame, rest)) = input.split_at_checked(frame::HEAD + head.length) else {
                match self.begin_partial(head, input)? {
                    Some(None) => continue,
                    Some(event) => return Ok(event),
                    None => return Ok(None),
                }
            };
            *input = rest;
            let payload = frame.get(frame::HEAD..).unwrap_or_default();
            if !self.greeted && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
                return Err(self.fail(Code::ProtocolError, "the first frame is not SETTINGS"));
            }
            if let Some(event) = self.frame(head, payload)? {
                return Ok(Some(event));
            }
        }
    }

    fn frame<'i>(&mut self, head: Head, payload: &'i [u8]) -> Result<Option<Event<'i>>, Fault> {
        if let Some(block) = &self.block
            && (head.kind != kind::CONTINUATION || head.stream != block.stream)
        {
            return Err(self.fail(Code::ProtocolError, "a header block was broken off"));
        }
        match head.kind {
            kind::DATA => return self.data_frame(head, payload),
            kind::HEADERS => return self.headers_frame(head, payload),
            kind::CONTINUATION => return self.continuation_frame(head, payload),
            _ => {}
        }
        self.noise(1)?;
        match head.kind {
            kind::RST_STREAM => self.reset_frame(head, payload),
            kind::SETTINGS => self.settings_frame(head, payload).map(|()| None),
            kind::PING => self.ping_frame(head, payload).map(|()| None),
            kind::GOAWAY => self.goaway_frame(head, payload),
            kind::WINDOW_UPDATE => self.window_frame(head, payload),
            kind::PRIORITY if head.stream == 0 => Err(self.fail(Code::ProtocolError, "PRIORITY for the connection")),
            kind::PRIORITY if payload.len() != 5 => Ok(self.stream_error(head.stream, Code::FrameSizeError)?),
            kind::PUSH_PROMISE => Err(self.fail(Code::ProtocolError, "PUSH_PROMISE was forbidden")),
            _ => Ok(None),
        }
    }

    /// Whether no stream of this number was ever opened.
    pub(super) fn is_idle(&self, stream: u32) -> bool {
        stream > self.last || stream.is_multiple_of(2)
    }

    /// Counts frames that carry no work.
    pub(super) fn noise(&mut self, frames: u32) -> Result<(), Fault> {
        self.noise += frames;
        if self.noise > MAX_NOISE { Err(self.fail(Code::EnhanceYourCalm, "frames without work")) } else { Ok(()) }
    }

    pub(super) fn work(&mut self) {
        self.noise = self.noise.saturating_sub(NOISE_PER_WORK);
    }

    pub(super) fn reset_too_often(&mut self) -> Result<(), Fault> {
        self.resets += 1;
        if self.role == Role::Server && self.resets > MAX_RESETS {
            return Err(self.fail(Code::EnhanceYourCalm, "streams opened to be reset"));
        }
        Ok(())
    }

    /// Ends a stream for the peer's error.
    pub(super) fn stream_error<'i>(&mut self, stream: u32, code: Code) -> Result<Option<Event<'i>>, Fault> {
        let known = self.streams.contains_key(&stream);
        self.reset(stream, code);
        self.reset_too_often()?;
        Ok(known.then_some(Event::Reset { stream, code: code as u32 }))
    }

    /// Ends the connection for the peer's error.
    pub(super) fn fail(&mut self, code: Code, why: &'static str) -> Fault {
        self.goodbye(code);
        Fault { code, why }
    }

    /// Remembers a stream that was reset here for as long as frames of it may be under way.
    pub(super) fn remember(&mut self, stream: u32) {
        if self.reset.len() == REMEMBERED {
            self.reset.pop_front();
        }
        self.reset.push_back(stream);
    }
}
