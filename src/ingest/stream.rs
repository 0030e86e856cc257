//! A connection's bytes: the first of them looked at to tell HTTP/2 from HTTP/1.1, all of them watched for idleness.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::runtime::Io;
use crate::runtime::clock::instant_now;

/// What an HTTP/2 client sends first (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads until it is clear whether the peer speaks HTTP/2. `None`: it went away first.
///
/// # Errors
/// Of reading.
pub async fn speaks_http2(io: &mut (dyn Io + '_)) -> io::Result<Option<(bool, Bytes)>> {
    let mut read = BytesMut::with_capacity(HTTP2_PREFACE.len());
    loop {
        let same = read.iter().zip(HTTP2_PREFACE).all(|(a, b)| a == b);
        if !same || read.len() >= HTTP2_PREFACE.len() {
            return Ok(Some((same, read.freeze())));
        }
        let mut rest = io.take(u64::try_from(HTTP2_PREFACE.len() - read.len()).unwrap_or(1));
        if rest.read_buf(&mut read).await? == 0 {
            return Ok(None);
        }
    }
}

/// What a connection is doing.
#[derive(Debug)]
pub struct Activity {
    start: Instant,
    active: AtomicUsize,
    /// Milliseconds from `start` to when the last request ended, or the first byte of the next head came.
    since: AtomicU64,
    in_head: AtomicBool,
    unread: AtomicBool,
}

impl Activity {
    /// Of a connection taken now.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            start: instant_now(),
            active: AtomicUsize::new(0),
            since: AtomicU64::new(0),
            in_head: AtomicBool::new(true),
            unread: AtomicBool::new(false),
        })
    }

    /// A request's head is complete; the request lasts until the guard is dropped.
    #[must_use]
    pub fn request(self: &Arc<Self>) -> Busy {
        self.active.fetch_add(1, Ordering::SeqCst);
        self.in_head.store(false, Ordering::SeqCst);
        Busy(Arc::clone(self))
    }

    /// When the connection is to be closed if nothing happens until then; `None` while requests are being served.
    #[must_use]
    pub fn due(&self, head_timeout: Duration, idle_timeout: Duration) -> Option<Instant> {
        if self.active.load(Ordering::SeqCst) > 0 {
            return None;
        }
        let since = self.start.checked_add(Duration::from_millis(self.since.load(Ordering::SeqCst)))?;
        since.checked_add(if self.in_head.load(Ordering::SeqCst) { head_timeout } else { idle_timeout })
    }

    /// A request was refused before its body was read: its bytes are still coming.
    pub fn left_unread(&self) {
        self.unread.store(true, Ordering::SeqCst);
    }

    /// Whether bytes may still be coming that nobody reads.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        self.unread.load(Ordering::SeqCst)
    }

    fn mark(&self) {
        let now = instant_now().duration_since(self.start).as_millis();
        self.since.store(u64::try_from(now).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    fn bytes_came(&self) {
        if self.active.load(Ordering::SeqCst) == 0 && !self.in_head.swap(true, Ordering::SeqCst) {
            self.mark();
        }
    }
}

/// A request being served.
#[derive(Debug)]
pub struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.mark();
        self.0.active.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A connection whose first bytes were already read.
pub struct Watched {
    first: Bytes,
    io: Box<dyn Io>,
    activity: Arc<Activity>,
}

impl Watched {
    /// `first` is read before what `io` has.
    pub fn new(first: Bytes, io: Box<dyn Io>, activity: Arc<Activity>) -> Self {
        Self { first, io, activity }
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.has_remaining() {
            let length = self.first.len().min(into.remaining());
            into.put_slice(&self.first.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, into))?;
        if into.filled().len() > before {
            self.activity.bytes_came();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn the_preface_is_told_from_anything_else_and_nothing_is_lost() {
        for (sent, http2) in [
            (HTTP2_PREFACE.to_vec(), Some(true)),
            ([HTTP2_PREFACE, b"more"].concat(), Some(true)),
            (b"POST /v1/traces HTTP/1.1\r\n".to_vec(), Some(false)),
            (b"PRI * HTTP/1.1\r\n\r\n".to_vec(), Some(false)),
            (b"P".to_vec(), None),
            (b"".to_vec(), None),
        ] {
            let (mut client, server) = tokio::io::duplex(7);
            let writer = tokio::spawn({
                let sent = sent.clone();
                async move { client.write_all(&sent).await.unwrap() }
            });
            let mut server: Box<dyn Io> = Box::new(server);
            let told = speaks_http2(&mut *server).await.unwrap();
            assert_eq!(told.as_ref().map(|(http2, _)| *http2), http2);
            if let Some((_, first)) = told {
                let mut all = Vec::new();
                Watched::new(first, server, Activity::new()).read_to_end(&mut all).await.unwrap();
                assert_eq!(all, sent);
            }
            writer.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn idle_and_head_times_are_told_apart() {
        let (head, idle) = (Duration::from_secs(10), Duration::from_secs(60));
        let activity = Activity::new();
        let start = activity.start;
        let due = || activity.due(head, idle).map(|due| due.duration_since(start).as_secs());
        assert_eq!(due(), Some(10), "a new connection has to send a head");
        tokio::time::advance(Duration::from_secs(3)).await;
        let request = activity.request();
        assert_eq!(due(), None, "a request may take as long as its own limits allow");
        tokio::time::advance(Duration::from_secs(30)).await;
        drop(request);
        assert_eq!(due(), Some(93), "idle since 33 s");
        tokio::time::advance(Duration::from_secs(7)).await;
        activity.bytes_came();
        activity.bytes_came();
        assert_eq!(due(), Some(50), "the next head began at 40 s");
    }
}
