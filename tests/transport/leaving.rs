//! Requests that downstream did not take: those above the last stream of its GOAWAY, and those it refuses with REFUSED_STREAM
//! (RFC 9113 §6.8, §8.7). Nobody has seen them, so they are sent again at once, whatever is configured of retries.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use stallspan::config::meaning::{Exporter, OtlpExporter, Retry};
use stallspan::export::Exporters;
use stallspan::framing::{Event, Limits, PREFACE, Role, Session, put_field};
use stallspan::model::Signal;
use stallspan::runtime::Tasks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::downstream::{exporters, otlp};
use crate::rig::PATIENCE;
use crate::session::written;

const LIMITS: Limits = Limits { streams: 100, stream_window: 65_535, connection_window: 65_535, header_list: 16_384 };

/// How it leaves those alone that it does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    /// GOAWAY that names the first stream as the last; the connection ends once that is answered.
    GoAway,
    /// RST_STREAM for the second; the connection goes on.
    Refuse,
}

impl Leave {
    /// The frame that says so.
    fn frame(self, first: u32, second: u32) -> Vec<u8> {
        let head = |length: u8, kind: u8, stream: u32| [&[0, 0, length, kind, 0][..], &stream.to_be_bytes()].concat();
        match self {
            Self::GoAway => [head(8, 7, 0), first.to_be_bytes().to_vec(), vec![0; 4]].concat(),
            Self::Refuse => [head(4, 3, second), 7_u32.to_be_bytes().to_vec()].concat(),
        }
    }
}

/// Takes the first of two requests only; everything else it answers. What it has answered.
struct Fickle {
    address: SocketAddr,
    answered: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Fickle {
    async fn start(leave: Leave) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fickle = Self { address: listener.local_addr().unwrap(), answered: Arc::default() };
        let answered = Arc::clone(&fickle.answered);
        tokio::spawn(async move {
            let mut leave = Some(leave);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, leave.take(), Arc::clone(&answered)));
            }
        });
        fickle
    }
}

async fn serve(mut stream: TcpStream, mut leave: Option<Leave>, answered: Arc<Mutex<Vec<Vec<u8>>>>) -> std::io::Result<()> {
    let mut preface = vec![0; PREFACE.len()];
    stream.read_exact(&mut preface).await?;
    let mut session = Session::new(Role::Server, LIMITS);
    let (mut came, mut whole, mut bodies) = (Vec::new(), Vec::new(), std::collections::BTreeMap::<u32, Vec<u8>>::new());
    loop {
        let mut rest = came.as_slice();
        while let Some(event) = session.next(&mut rest).unwrap() {
            if let Event::Data { stream, bytes, end } = event {
                bodies.entry(stream).or_default().extend_from_slice(bytes);
                whole.extend(end.then_some(stream));
            }
        }
        let used = came.len() - rest.len();
        came.drain(..used);
        let mut last_words = Vec::new();
        match (leave, &whole[..]) {
            (Some(how), [first, second]) => {
                last_words = how.frame(*first, *second);
                answer(&mut session, *first);
                answered.lock().unwrap().push(bodies[first].clone());
                whole.clear();
            }
            (Some(_), _) => {}
            (None, all) => {
                all.iter().for_each(|stream| answer(&mut session, *stream));
                answered.lock().unwrap().extend(all.iter().map(|stream| bodies[stream].clone()));
                whole.clear();
            }
        }
        stream.write_all(&[last_words.clone(), written(&mut session)].concat()).await?;
        if !last_words.is_empty() && leave.take() == Some(Leave::GoAway) {
            return stream.shutdown().await;
        }
        if stream.read_buf(&mut came).await? == 0 {
            return Ok(());
        }
    }
}

/// Accepted, with an empty message.
fn answer(session: &mut Session, stream: u32) {
    let (mut head, mut end) = (Vec::new(), Vec::new());
    put_field(&mut head, b":status", b"200", false);
    put_field(&mut head, b"content-type", b"application/grpc", false);
    put_field(&mut end, b"grpc-status", b"0", false);
    session.head(stream, &head, false);
    session.data(stream, &[0; 5], Bytes::new(), false);
    session.end_with(stream, end.into());
    session.pump();
}

#[tokio::test]
async fn what_downstream_did_not_take_is_sent_again_and_nothing_twice() {
    for leave in [Leave::GoAway, Leave::Refuse] {
        let fickle = Fickle::start(leave).await;
        let base = otlp(format!("http://{}", fickle.address));
        let never_again = Exporter::OtlpGrpc(OtlpExporter { retry: Retry { enabled: false, ..base.retry }, ..base });
        let exporters = Exporters::open(&exporters(vec![("out", never_again)]), &Tasks::new()).unwrap();
        let to = ["out".to_owned()];
        let send = |body: &'static [u8]| exporters.send(&to, Signal::Traces, Bytes::from_static(body), Instant::now() + PATIENCE);
        let (one, other) = tokio::join!(send(b"one"), send(b"other"));
        assert_eq!((one, other), (Ok(Bytes::new()), Ok(Bytes::new())), "{leave:?}");
        let mut answered = fickle.answered.lock().unwrap().clone();
        answered.sort();
        assert_eq!(answered, [&b"\0\0\0\0\x03one"[..], b"\0\0\0\0\x05other"], "{leave:?}");
    }
}
