//! What is kept of a stream.

use std::collections::VecDeque;

use bytes::Bytes;

/// A stream on which something may still come or go.
#[derive(Debug)]
pub struct Stream {
    /// Bytes the peer may send on it.
    pub receive: i64,
    /// Bytes taken that it was not told of yet.
    pub taken: u32,
    /// Bytes that may be sent on it.
    pub send: i64,
    /// The peer has sent all.
    pub remote_closed: bool,
    /// A response's head was read.
    pub headed: bool,
    /// What `content-length` says is still to come.
    pub expected: Option<u64>,
    /// What waits for a window.
    pub pending: VecDeque<Bytes>,
    /// What follows it.
    pub end: End,
    /// It stands in the queue of those that may send.
    pub queued: bool,
}

/// How this side ends a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Not yet.
    Open,
    /// With its last data.
    Data,
    /// With these trailers, a header block.
    Trailers(Bytes),
    /// It has.
    Done,
}

impl Stream {
    /// With nothing sent on it yet.
    #[must_use]
    pub fn new(receive: u32, send: i64) -> Self {
        Self {
            receive: receive.into(),
            taken: 0,
            send,
            remote_closed: false,
            headed: false,
            expected: None,
            pending: VecDeque::new(),
            end: End::Open,
            queued: false,
        }
    }

    /// Bytes that wait for a window.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.pending.iter().map(Bytes::len).sum()
    }

    /// Whether it can send something now: data within its window, or an end that needs none.
    #[must_use]
    pub fn may_send(&self) -> bool {
        match (self.pending.is_empty(), &self.end) {
            (false, _) => self.send > 0,
            (true, End::Data | End::Trailers(_)) => true,
            (true, End::Open | End::Done) => false,
        }
    }

    /// Nothing more comes or goes.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.remote_closed && self.end == End::Done
    }
}
