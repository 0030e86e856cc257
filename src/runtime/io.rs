//! A connection of any kind, behind one name.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::framing::Session;

/// Congestion control where nothing is congested. One that paces, such as BBR, which many hosts have as their default, spends
/// timers on it. Everybody may ask for it (`TCP_CONG_NON_RESTRICTED`, net/ipv4/tcp_cong.c).
const WITHIN_THE_HOST: &str = "reno";

/// No pacing between loopback addresses. To be asked for before the socket connects or listens, from which those that it
/// accepts have it: whoever was once established with BBR stays paced (`sk_pacing_status`, net/ipv4/tcp_bbr.c). A socket that
/// refuses works without.
pub fn unpaced_within_the_host(socket: impl AsFd, address: IpAddr) {
    if address.to_canonical().is_loopback() {
        let _paced = sockopt::set_tcp_congestion(socket, WITHIN_THE_HOST);
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
    use tokio::net::TcpSocket;

    use super::*;

    #[tokio::test]
    async fn within_the_host_connections_begin_with_a_control_that_does_not_pace() {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpSocket::new_v4().unwrap();
        unpaced_within_the_host(&listener, address.ip());
        listener.bind(address).unwrap();
        let listener = listener.listen(1).unwrap();
        let near = TcpSocket::new_v4().unwrap();
        unpaced_within_the_host(&near, address.ip());
        let near = near.connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        for end in [near, far] {
            assert_eq!(sockopt::tcp_congestion(&end).unwrap(), WITHIN_THE_HOST);
        }
        let elsewhere = TcpSocket::new_v4().unwrap();
        let before = sockopt::tcp_congestion(&elsewhere).unwrap();
        unpaced_within_the_host(&elsewhere, [10, 0, 0, 1].into());
        assert_eq!(sockopt::tcp_congestion(&elsewhere).unwrap(), before);
    }
}
