//! HTTP/2 at both ends of the measured systems: our own framing on a socket. It costs a few microseconds a request, so that
//! what is measured is the system that has the most to do, and none of them waits for load to come.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use stallspan::framing::{Event, Limits, PREFACE, Role, Session};
use stallspan::runtime::{Scratch, poll_send, scratch};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Pieces of one `writev`.
const PIECES: usize = 64;
/// What the other side may cost is counted for this long.
const TICK: Duration = Duration::from_secs(1);

/// One end of a connection.
pub struct Peer {
    stream: TcpStream,
    pub session: Session,
    /// What is no whole frame yet.
    input: Vec<u8>,
    ticked: Instant,
}

impl Peer {
    /// The end that sends requests.
    pub fn client(stream: TcpStream) -> Self {
        Self::new(stream, Role::Client)
    }

    /// The end that takes them; `None` where whoever connected says nothing.
    pub async fn server(mut stream: TcpStream) -> Option<Self> {
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface).await.ok()?;
        assert_eq!(preface, PREFACE, "a client of HTTP/2");
        Some(Self::new(stream, Role::Server))
    }

    fn new(stream: TcpStream, role: Role) -> Self {
        stream.set_nodelay(true).unwrap();
        let limits = Limits { streams: 100, stream_window: 1 << 20, connection_window: 16 << 20, header_list: 16 * 1024 };
        Self { stream, session: Session::new(role, limits), input: Vec::new(), ticked: Instant::now() }
    }

    /// Reads what there is, shows each event, writes what is to be said; ready once the other side is gone.
    pub fn poll(&mut self, context: &mut Context<'_>, mut show: impl FnMut(&mut Session, Event<'_>)) -> Poll<()> {
        loop {
            let mut scratch = Scratch::behind(&self.input);
            let more = match scratch.poll_read(&mut self.stream, context) {
                Poll::Pending => false,
                Poll::Ready(Ok(1..)) => true,
                Poll::Ready(_) => return Poll::Ready(()),
            };
            if more {
                let mut rest = scratch.bytes();
                while let Some(event) = self.session.next(&mut rest).unwrap() {
                    show(&mut self.session, event);
                }
                scratch::keep(&mut self.input, rest);
            }
            if self.ticked.elapsed() >= TICK {
                self.ticked = Instant::now();
                self.session.tick();
            }
            if let Poll::Ready(Err(_)) = poll_send::<PIECES>(&mut self.stream, &mut self.session, context) {
                return Poll::Ready(());
            }
            if !more {
                return Poll::Pending;
            }
        }
    }
}
