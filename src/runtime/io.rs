//! A connection of any kind, behind one name.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::framing::Session;

/// Congestion control where both ends are one host: nothing is congested there, and one that paces, such as BBR, which many
/// hosts have as their default, spends timers on it. Everybody may ask for it (`TCP_CONG_NON_RESTRICTED`, net/ipv4/tcp_cong.c).
const WITHIN_THE_HOST: &str = "reno";

/// Messages are whole when they are written: waiting for more to send with them (Nagle), or for the next one's instant, only
/// delays them. A socket that refuses works without.
pub fn send_at_once(stream: &TcpStream) {
    let _later = stream.set_nodelay(true);
    let ends = stream.local_addr().and_then(|local| Ok((local.ip(), stream.peer_addr()?.ip())));
    if ends.is_ok_and(|(local, peer)| local == peer) {
        let _slower = sockopt::set_tcp_congestion(stream, WITHIN_THE_HOST);
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn within_the_host_nothing_waits_and_nothing_is_paced() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        for end in [near, far] {
            send_at_once(&end);
            assert_eq!(sockopt::tcp_congestion(&end).unwrap(), WITHIN_THE_HOST);
            assert!(end.nodelay().unwrap());
        }
    }
}
