//! Unix sockets, in and out.

use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use stallspan::config::meaning::Exporter;
use stallspan::export::Exporters;
use stallspan::runtime::Tasks;
use tokio::net::UnixStream;

use crate::downstream::{exporters, otlp};
use crate::rig::{Forward, Hop, Recorder, TRACES, call, framed, limits, receiver};

#[tokio::test]
async fn a_unix_socket_in_and_out_and_the_kernels_word_on_the_sender() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| format!("unix://{}", folder.path().join(name).display());
    let behind = {
        let mut receiver = receiver();
        receiver.grpc.as_mut().unwrap().endpoint = at("behind");
        receiver.http = None;
        let recorder = Recorder::accepting();
        (Hop::start_with(recorder.clone(), receiver, limits()).await, recorder)
    };
    let exporters = Exporters::open(&exporters(vec![("out", Exporter::OtlpGrpc(otlp(at("behind"))))]), &Tasks::new()).unwrap();
    assert_eq!(exporters.probe("out").await, Ok(at("behind")));
    let mut receiver = receiver();
    receiver.grpc.as_mut().unwrap().endpoint = at("front");
    let hop = Hop::start_with(Forward { exporters, names: vec!["out".to_owned()] }, receiver, limits()).await;

    let stream = UnixStream::connect(hop.unix()).await.unwrap();
    let (mut send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(call(&mut send, TRACES, &[], framed(false, b"x")).await.code(), "0");
    let got = behind.1.got.lock().unwrap().pop().unwrap();
    assert_eq!((got.body, got.peer.ip, got.peer.pid), (Bytes::from_static(b"x"), None, Some(std::process::id())));
    let path = hop.unix();
    hop.running.shutdown(std::time::Duration::from_secs(1)).await;
    assert!(!path.exists(), "the socket's file goes with it");
}
