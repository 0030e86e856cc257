//! Proxies of the agent's environment.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::agent::{Agent, to_grpc_quietly};
use crate::claims::{bytes, recent};
use crate::downstream::{Downstream, until};
use crate::sender::{Grpc, TRACES};

/// Leads every tunnel to one address, whatever it is asked for. `tls`: as it is spoken to.
async fn proxy(target: SocketAddr, tls: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let tls = tls.clone();
            tokio::spawn(async move {
                match tls {
                    None => tunnel(near, target).await,
                    Some(tls) => tunnel(tls.accept(near).await?, target).await,
                }
            });
        }
    });
    address
}

async fn tunnel(mut near: impl AsyncRead + AsyncWrite + Unpin, target: SocketAddr) -> std::io::Result<(u64, u64)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(near.read_u8().await?);
    }
    near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut near, &mut TcpStream::connect(target).await?).await
}

/// An agent whose downstream has a name that nobody can resolve.
fn agent(target: SocketAddr, environment: &[(&str, &str)]) -> Agent {
    let configuration = to_grpc_quietly(target).replace(&target.to_string(), "collector.invalid:4317");
    Agent::start_in(&configuration, &["--set", "service.telemetry.logs.level=trace", "--set", "receivers.otlp.max_wait=10s"], environment)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_goes_through_the_proxy_of_its_environment_and_tells_no_password() {
    let downstream = Downstream::accepting().await;
    let url = format!("http://me:s3cret@{}", proxy(downstream.address, None).await);
    let agent = agent(downstream.address, &[("HTTPS_PROXY", &url), ("NO_PROXY", "other.example")]);
    assert_eq!(Grpc::once(agent.grpc(), TRACES, &bytes(vec![], vec![recent()])).await.code(), 0);
    assert_eq!(downstream.of("traces").len(), 1);
    let told = |text: &str| agent.log().iter().any(|line| line.contains(text));
    until("it tells so", || told("through a proxy").then_some(())).await;
    assert!(told("(HTTPS_PROXY)") && !told("s3cret") && !told("czNjcmV0"), "{:#?}", agent.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_spoken_to_over_tls_is_one_that_the_host_trusts() {
    let downstream = Downstream::accepting().await;
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], private).unwrap();
    let url = format!("https://{}", proxy(downstream.address, Some(TlsAcceptor::from(Arc::new(config)))).await);
    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("trusted.pem");
    std::fs::write(&trusted, certificate.pem()).unwrap();
    let trusting = agent(downstream.address, &[("HTTPS_PROXY", &url), ("SSL_CERT_FILE", trusted.to_str().unwrap())]);
    assert_eq!(Grpc::once(trusting.grpc(), TRACES, &bytes(vec![], vec![recent()])).await.code(), 0);
    assert_eq!(downstream.of("traces").len(), 1);
    // The host's own authorities know nothing of it.
    let wary = agent(downstream.address, &[("HTTPS_PROXY", &url)]);
    let refused = Grpc::once(wary.grpc(), TRACES, &bytes(vec![], vec![recent()])).await;
    let told = refused.grpc("grpc-message");
    assert!(refused.code() == 14 && told.contains("invalid peer certificate"), "{told}");
    assert_eq!(downstream.of("traces").len(), 1);
}
