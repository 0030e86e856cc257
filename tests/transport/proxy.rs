//! Exporters behind a proxy of the environment: tunnels for gRPC and TLS, whole URLs for plain HTTP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use stallspan::config::meaning::{ClientTls, Exporter, OtlpExporter, Retry};
use stallspan::export::{Exporters, Proxies};
use stallspan::model::{Answer, Code, Signal};
use stallspan::runtime::Tasks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::downstream::{Downstream, exporters, otlp};
use crate::rig::PATIENCE;
use crate::tls::{Authority, server};

/// Nobody can resolve it: who gets there went through the proxy.
const NAME: &str = "collector.invalid";

/// Sends everything to one address, whatever it is asked for.
struct Proxy {
    address: SocketAddr,
    /// Heads of requests to it.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn to(target: SocketAddr) -> Self {
        Self::answering(target, "HTTP/1.1 200 Connection established\r\n\r\n").await
    }

    /// `answer`: to CONNECT.
    async fn answering(target: SocketAddr, answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let asked = Arc::clone(&proxy.asked);
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let asked = Arc::clone(&asked);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(near.read_u8().await?);
                    }
                    let text = String::from_utf8(head.clone()).unwrap();
                    let mut far = TcpStream::connect(target).await?;
                    match text.starts_with("CONNECT ") {
                        true => near.write_all(answer.as_bytes()).await?,
                        // Downstream takes a whole URL too.
                        false => far.write_all(&head).await?,
                    }
                    asked.lock().unwrap().push(text);
                    tokio::io::copy_bidirectional(&mut near, &mut far).await
                });
            }
        });
        proxy
    }

    /// As the environment of the agent would name it.
    fn environment(&self, none: &'static str) -> Proxies {
        let url = format!("http://me:s3cret@{}", self.address);
        Proxies::read(|name| match name {
            "HTTP_PROXY" | "HTTPS_PROXY" => Some(url.clone()),
            "NO_PROXY" => Some(none.to_owned()),
            _ => None,
        })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn send(exporter: Exporter, proxies: &Proxies) -> Answer {
    let exporters = Exporters::open_through(&exporters(vec![("out", exporter)]), proxies, &Tasks::new()).unwrap();
    exporters.send(&["out".to_owned()], Signal::Traces, Bytes::from_static(b"x"), Instant::now() + PATIENCE).await
}

fn once(endpoint: String) -> OtlpExporter {
    let base = otlp(endpoint);
    OtlpExporter { retry: Retry { enabled: false, ..base.retry }, ..base }
}

/// "Basic me:s3cret".
const AUTHORIZATION: &str = "proxy-authorization: Basic bWU6czNjcmV0\r\n";

#[tokio::test]
async fn grpc_goes_through_a_tunnel() {
    let downstream = Downstream::accepting().await;
    let proxy = Proxy::to(downstream.address).await;
    let answer = send(Exporter::OtlpGrpc(otlp(format!("http://{NAME}:4317"))), &proxy.environment("other.example")).await;
    assert_eq!(answer, Ok(Bytes::new()));
    let head = format!("CONNECT {NAME}:4317 HTTP/1.1\r\nhost: {NAME}:4317\r\n{AUTHORIZATION}\r\n");
    assert_eq!(proxy.asked(), [head]);
    assert!(!downstream.last().headers.contains_key("proxy-authorization"), "that was for the proxy alone");
}

#[tokio::test]
async fn plain_http_asks_the_proxy_for_the_whole_url() {
    let downstream = Downstream::accepting().await;
    let proxy = Proxy::to(downstream.address).await;
    let exporter = Exporter::OtlpHttp(otlp(format!("http://{NAME}:4318/base")));
    assert_eq!(send(exporter, &proxy.environment("")).await, Ok(Bytes::new()));
    let asked = proxy.asked();
    assert!(asked[0].starts_with(&format!("POST http://{NAME}:4318/base/v1/traces HTTP/1.1\r\n")), "{asked:?}");
    assert!(asked[0].contains(AUTHORIZATION) && asked[0].contains(&format!("host: {NAME}:4318\r\n")), "{asked:?}");
    assert_eq!(downstream.last().path, "/base/v1/traces");
}

#[tokio::test]
async fn tls_is_spoken_with_the_server_and_not_with_the_proxy() {
    let authority = Authority::new();
    let (hop, recorder) = server(authority.server(&[NAME])).await;
    for grpc in [true, false] {
        let proxy = Proxy::to(if grpc { hop.grpc() } else { hop.http() }).await;
        let trusting = |endpoint: String| OtlpExporter { tls: Some(ClientTls { ..authority.client() }), ..otlp(endpoint) };
        let exporter = match grpc {
            true => Exporter::OtlpGrpc(trusting(format!("{NAME}:4317"))),
            false => Exporter::OtlpHttp(trusting(format!("https://{NAME}"))),
        };
        assert_eq!(send(exporter, &proxy.environment("")).await, Ok(Bytes::new()));
        let port = if grpc { 4317 } else { 443 };
        assert!(proxy.asked()[0].starts_with(&format!("CONNECT {NAME}:{port} HTTP/1.1\r\n")), "{:?}", proxy.asked());
    }
    assert_eq!(recorder.count(), 2);
}

#[tokio::test]
async fn what_is_excepted_and_what_is_here_is_reached_directly() {
    let downstream = Downstream::accepting().await;
    let proxy = Proxy::to(downstream.address).await;
    for exporter in [Exporter::OtlpGrpc(downstream.grpc_exporter()), Exporter::OtlpHttp(downstream.http_exporter())] {
        assert_eq!(send(exporter, &proxy.environment("")).await, Ok(Bytes::new()), "loopback");
    }
    let why = send(Exporter::OtlpGrpc(once(format!("http://{NAME}:4317"))), &proxy.environment(".invalid")).await.unwrap_err();
    assert!(why.message.contains("cannot be resolved"), "{}", why.message);
    assert_eq!((proxy.asked().len(), downstream.count()), (0, 2));
}

#[tokio::test]
async fn a_proxy_that_refuses_or_is_not_there_is_named_without_its_password() {
    let downstream = Downstream::accepting().await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (answer, because) in [
        (Some("HTTP/1.1 403 Forbidden\r\n\r\n"), "refuses: HTTP/1.1 403 Forbidden"),
        (Some("HTTP/1.1 407 Who are you\r\n\r\n"), "asks for a user and a password"),
        (None, "refused"),
    ] {
        let proxy = match answer {
            Some(answer) => Proxy::answering(downstream.address, answer).await,
            None => Proxy { address: gone, asked: Arc::default() },
        };
        let refusal = send(Exporter::OtlpGrpc(once(format!("http://{NAME}:4317"))), &proxy.environment("")).await.unwrap_err();
        assert_eq!(refusal.code, Code::Unavailable, "worth another try");
        let told = refusal.message;
        assert!(told.contains(because) && told.contains(&proxy.address.to_string()) && !told.contains("s3cret"), "{told}");
    }
    assert_eq!(downstream.count(), 0);
}
