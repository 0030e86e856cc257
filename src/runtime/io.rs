//! A connection of any kind, behind one name.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::framing::Session;

/// TCP, unix or TLS.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Writes what a session has to say, `PIECES` slices at a time; ready once all is written and flushed.
pub fn poll_send<const PIECES: usize>(
    mut io: impl AsyncWrite + Unpin,
    session: &mut Session,
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let mut wrote = false;
    while !session.output().is_empty() {
        let count = {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let used = session.output().pieces(&mut pieces);
            ready!(Pin::new(&mut io).poll_write_vectored(context, pieces.get(..used).unwrap_or_default()))?
        };
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        session.output().advance(count);
        session.pump();
        wrote = true;
    }
    if wrote { Pin::new(&mut io).poll_flush(context) } else { Poll::Ready(Ok(())) }
}
