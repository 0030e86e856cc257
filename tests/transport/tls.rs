//! TLS on both sides, with certificates made here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use stallspan::config::meaning::{ClientTls, Exporter, OtlpExporter, Retry, ServerTls, TlsVersion};
use stallspan::export::Exporters;
use stallspan::model::{Answer, Signal};
use stallspan::runtime::Tasks;
use tokio::time::Instant;

use crate::downstream::{exporters, otlp};
use crate::rig::{Hop, PATIENCE, Recorder, limits, receiver};

/// A certificate authority and what it signs, as files.
pub struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        std::fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// Writes NAME.pem and NAME.key for these host names.
    fn sign(&self, name: &str, hosts: &[&str]) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let certificate = CertificateParams::new(hosts).unwrap().signed_by(&key, &self.issuer).unwrap();
        let files = (self.file(&format!("{name}.pem")), self.file(&format!("{name}.key")));
        std::fs::write(&files.0, certificate.pem()).unwrap();
        std::fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }

    pub fn server(&self, hosts: &[&str]) -> ServerTls {
        let (cert_file, key_file) = self.sign("server", hosts);
        ServerTls { cert_file, key_file, client_ca_file: None, min_version: TlsVersion::V1_2, reload_interval: None }
    }

    pub fn client(&self) -> ClientTls {
        ClientTls { ca_file: Some(self.ca()), ..ClientTls::default() }
    }
}

pub async fn server(tls: ServerTls) -> (Hop, Recorder) {
    let mut receiver = receiver();
    receiver.grpc.as_mut().unwrap().tls = Some(tls.clone());
    receiver.http.as_mut().unwrap().tls = Some(tls);
    let recorder = Recorder::accepting();
    (Hop::start_with(recorder.clone(), receiver, limits()).await, recorder)
}

/// An exporter for each transport, without second attempts.
fn opened(hop: &Hop, tls: &ClientTls) -> Exporters {
    let patient = |endpoint: String| {
        let base = otlp(endpoint);
        OtlpExporter { tls: Some(tls.clone()), timeout: PATIENCE, retry: Retry { enabled: false, ..base.retry }, ..base }
    };
    let config = exporters(vec![
        ("grpc", Exporter::OtlpGrpc(patient(hop.grpc().to_string()))),
        ("http", Exporter::OtlpHttp(patient(format!("https://{}", hop.http())))),
    ]);
    Exporters::open(&config, &Tasks::new()).unwrap()
}

async fn send(hop: &Hop, tls: &ClientTls) -> [Answer; 2] {
    send_over(&opened(hop, tls)).await
}

/// One attempt over each transport. A handshake that a starved machine did not finish says nothing, and is begun again.
async fn send_over(exporters: &Exporters) -> [Answer; 2] {
    let over = Instant::now() + PATIENCE;
    let one = async |name: &str| loop {
        let answer = exporters.send(&[name.to_owned()], Signal::Traces, Bytes::from_static(b"x"), over).await;
        let unfinished = answer.as_ref().is_err_and(|refusal| refusal.message.contains("no connection within"));
        if !unfinished || Instant::now() >= over {
            return answer;
        }
    };
    [one("grpc").await, one("http").await]
}

const SERVED: [Answer; 2] = [Ok(Bytes::new()), Ok(Bytes::new())];

async fn served(hop: &Hop, tls: &ClientTls) {
    assert_eq!(send(hop, tls).await, SERVED);
}

/// Files are looked at once a second at most.
async fn soon(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "what the files say is not used");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn refused(hop: &Hop, tls: &ClientTls, because: &str) {
    for answer in send(hop, tls).await {
        let refusal = answer.unwrap_err();
        assert!(refusal.message.contains(because), "{because}: {}", refusal.message);
    }
}

#[tokio::test]
async fn whom_the_client_trusts() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (hop, recorder) = server(authority.server(&["127.0.0.1"])).await;
    served(&hop, &authority.client()).await;
    refused(&hop, &other.client(), "invalid peer certificate").await;
    served(&hop, &ClientTls { insecure_skip_verify: true, ..other.client() }).await;
    assert_eq!(recorder.count(), 4);

    let (hop, _) = server(authority.server(&["otlp.example"])).await;
    refused(&hop, &authority.client(), "not valid for name").await;
    served(&hop, &ClientTls { server_name_override: Some("otlp.example".to_owned()), ..authority.client() }).await;
}

/// A certificate that signed itself as an authority does, as `openssl req -x509` makes it, valid until that year.
fn self_signed(authority: &Authority, name: &str, host: &str, until: i32) -> (PathBuf, PathBuf) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let files = (authority.file(&format!("{name}.pem")), authority.file(&format!("{name}.key")));
    std::fs::write(&files.0, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&files.1, key.serialize_pem()).unwrap();
    files
}

#[tokio::test]
async fn a_self_signed_certificate_that_is_the_trusted_file_itself_is_trusted() {
    let authority = Authority::new();
    let serving = |(cert_file, key_file): (PathBuf, PathBuf)| ServerTls { cert_file, key_file, ..authority.server(&["127.0.0.1"]) };
    let trusting = |file: &Path| ClientTls { ca_file: Some(file.to_owned()), ..ClientTls::default() };
    let own = self_signed(&authority, "own", "127.0.0.1", 4000);
    let (other, _) = self_signed(&authority, "other", "127.0.0.1", 4000);
    let (hop, _) = server(serving(own.clone())).await;
    served(&hop, &trusting(&own.0)).await;
    refused(&hop, &trusting(&other), "invalid peer certificate").await;
    refused(&hop, &ClientTls { server_name_override: Some("otlp.example".to_owned()), ..trusting(&own.0) }, "not valid for name").await;

    let expired = self_signed(&authority, "expired", "127.0.0.1", 2001);
    let (hop, _) = server(serving(expired.clone())).await;
    refused(&hop, &trusting(&expired.0), "expired").await;

    let (client, stranger) = (self_signed(&authority, "client", "client", 4000), self_signed(&authority, "stranger", "client", 4000));
    let (hop, recorder) = server(ServerTls { client_ca_file: Some(client.0.clone()), ..serving(own.clone()) }).await;
    let showing = |(cert, key): (PathBuf, PathBuf)| ClientTls { cert_file: Some(cert), key_file: Some(key), ..trusting(&own.0) };
    served(&hop, &showing(client)).await;
    for wrong in send(&hop, &showing(stranger)).await {
        assert!(wrong.is_err());
    }
    assert_eq!(recorder.count(), 2);
}

#[tokio::test]
async fn clients_that_have_to_show_a_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    let tls = ServerTls { client_ca_file: Some(authority.ca()), ..authority.server(&["127.0.0.1"]) };
    let (hop, recorder) = server(tls).await;
    let showing = |(cert, key): (PathBuf, PathBuf)| ClientTls { cert_file: Some(cert), key_file: Some(key), ..authority.client() };
    served(&hop, &showing(authority.sign("client", &["client"]))).await;
    for without in send(&hop, &authority.client()).await {
        assert!(without.is_err());
    }
    for wrong in send(&hop, &showing(other.sign("client", &["client"]))).await {
        assert!(wrong.is_err());
    }
    assert_eq!(recorder.count(), 2);
}

#[tokio::test]
async fn versions_below_the_least_are_not_spoken() {
    let authority = Authority::new();
    let tls = ServerTls { min_version: TlsVersion::V1_3, ..authority.server(&["127.0.0.1"]) };
    let (hop, _) = server(tls).await;
    served(&hop, &authority.client()).await;
    let old = rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(stallspan::runtime::pem::trusted(&authority.ca()).unwrap().authorities)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(hop.grpc()).await.unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    assert!(tokio_rustls::TlsConnector::from(std::sync::Arc::new(old)).connect(name, stream).await.is_err());
}

#[tokio::test]
async fn a_certificate_changed_on_disk_is_used_and_half_a_file_is_not() {
    let (authority, next) = (Authority::new(), Authority::new());
    let tls = authority.server(&["127.0.0.1"]);
    let (cert, key) = (tls.cert_file.clone(), tls.key_file.clone());
    let (hop, _) = server(tls).await;
    served(&hop, &authority.client()).await;
    let put = |from: &Path, to: &Path| std::fs::copy(from, to).unwrap();
    let (new_cert, new_key) = next.sign("server", &["127.0.0.1"]);
    // Between the two copies the certificate has no key: the old pair goes on.
    put(&new_cert, &cert);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    served(&hop, &authority.client()).await;
    put(&new_key, &key);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    served(&hop, &next.client()).await;
    refused(&hop, &authority.client(), "invalid peer certificate").await;
}

#[tokio::test]
async fn whose_clients_are_let_in_changes_with_the_file() {
    let (authority, next) = (Authority::new(), Authority::new());
    let clients = authority.file("clients.pem");
    std::fs::copy(authority.ca(), &clients).unwrap();
    let tls = ServerTls { client_ca_file: Some(clients.clone()), ..authority.server(&["127.0.0.1"]) };
    let (hop, _) = server(tls).await;
    let showing = |(cert, key): (PathBuf, PathBuf)| ClientTls { cert_file: Some(cert), key_file: Some(key), ..authority.client() };
    let (old, new) = (showing(authority.sign("client", &["client"])), showing(next.sign("client", &["client"])));
    served(&hop, &old).await;
    std::fs::copy(next.ca(), &clients).unwrap();
    soon(async || send(&hop, &new).await == SERVED).await;
    assert!(send(&hop, &old).await.iter().all(Answer::is_err));
}

#[tokio::test]
async fn an_exporter_uses_what_its_files_say_by_now() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (hop, _) = server(ServerTls { client_ca_file: Some(authority.ca()), ..authority.server(&["127.0.0.1"]) }).await;
    let (trusted, cert, key) = (authority.file("trusted.pem"), authority.file("own.pem"), authority.file("own.key"));
    let put = |(from_cert, from_key): (PathBuf, PathBuf)| {
        std::fs::copy(from_cert, &cert).unwrap();
        std::fs::copy(from_key, &key).unwrap();
    };
    std::fs::copy(other.ca(), &trusted).unwrap();
    put(other.sign("client", &["client"]));
    let tls =
        ClientTls { ca_file: Some(trusted.clone()), cert_file: Some(cert.clone()), key_file: Some(key.clone()), ..ClientTls::default() };
    let exporters = opened(&hop, &tls);
    for answer in send_over(&exporters).await {
        let refusal = answer.unwrap_err();
        assert!(refusal.message.contains("invalid peer certificate"), "{}", refusal.message);
    }
    std::fs::copy(authority.ca(), &trusted).unwrap();
    // It is the server that does not trust now.
    let by_server = |answer: &Answer| answer.as_ref().is_err_and(|refusal| !refusal.message.contains("invalid peer certificate"));
    soon(async || send_over(&exporters).await.iter().all(by_server)).await;
    put(authority.sign("client", &["client"]));
    soon(async || send_over(&exporters).await == SERVED).await;
}

#[tokio::test]
async fn an_exporter_speaks_no_version_below_its_least() {
    let authority = Authority::new();
    let (cert, key) = authority.sign("server", &["127.0.0.1"]);
    let chain: Vec<_> = rustls::pki_types::pem::PemObject::pem_file_iter(cert).unwrap().map(Result::unwrap).collect();
    let key = rustls::pki_types::pem::PemObject::from_pem_file(key).unwrap();
    let mut old = rustls::ServerConfig::builder_with_provider(std::sync::Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    old.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(old));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (least, spoken) in [(TlsVersion::V1_2, true), (TlsVersion::V1_3, false)] {
        let tls = ClientTls { min_version: Some(least), ..authority.client() };
        let base = otlp(listener.local_addr().unwrap().to_string());
        let config = OtlpExporter { tls: Some(tls), retry: Retry { enabled: false, ..base.retry }, ..base };
        let exporters = Exporters::open(&exporters(vec![("out", Exporter::OtlpGrpc(config))]), &Tasks::new()).unwrap();
        let sending = async move {
            let over = Instant::now() + PATIENCE;
            exporters.send(&["out".to_owned()], Signal::Traces, Bytes::new(), over).await
        };
        let shaken = async { acceptor.accept(listener.accept().await.unwrap().0).await.is_ok() };
        let mut sending = std::pin::pin!(sending);
        let shaken = tokio::select! {
            biased;
            shaken = shaken => shaken,
            answer = &mut sending => panic!("{answer:?} before the handshake was over"),
        };
        assert_eq!(shaken, spoken, "{least:?}");
    }
}

#[tokio::test]
async fn plain_text_and_silence_end_the_handshake() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let authority = Authority::new();
    let (hop, _) = server(authority.server(&["127.0.0.1"])).await;
    for sent in ["GET / HTTP/1.1\r\n\r\n", ""] {
        let mut stream = tokio::net::TcpStream::connect(hop.http()).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("closed").unwrap_or(0);
    }
    assert_eq!(hop.counters.handshakes_failed.get(), 2);
    served(&hop, &authority.client()).await;
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new();
    let good = authority.server(&["127.0.0.1"]);
    let (_, other_key) = authority.sign("other", &["other"]);
    std::fs::write(authority.file("empty.pem"), "").unwrap();
    for (tls, named) in [
        (ServerTls { cert_file: authority.file("missing.pem"), ..good.clone() }, "missing.pem"),
        (ServerTls { cert_file: authority.file("empty.pem"), ..good.clone() }, "empty.pem"),
        (ServerTls { key_file: other_key, ..good.clone() }, "do not fit together"),
        (ServerTls { client_ca_file: Some(authority.file("empty.pem")), ..good.clone() }, "empty.pem"),
    ] {
        let mut receiver = receiver();
        receiver.grpc.as_mut().unwrap().tls = Some(tls);
        let handler = std::sync::Arc::new(Recorder::accepting());
        let tasks = Tasks::new();
        let failed = stallspan::ingest::serve(&receiver, limits(), handler, &tasks, std::sync::Arc::default()).await;
        let why = failed.err().unwrap().to_string();
        assert!(why.contains(named) && why.contains("127.0.0.1:0"), "{why}");
        let client = ClientTls { ca_file: Some(authority.file("missing.pem")), ..ClientTls::default() };
        let exporter = Exporter::OtlpGrpc(OtlpExporter { tls: Some(client), ..otlp("host:4317".to_owned()) });
        let why = Exporters::open(&exporters(vec![("out", exporter)]), &tasks).unwrap_err().to_string();
        assert!(why.contains("missing.pem") && why.contains("`out`"), "{why}");
    }
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_over_tls_on_one_port() {
    let authority = Authority::new();
    let (hop, recorder) = server(authority.server(&["127.0.0.1"])).await;
    let mut config = rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(stallspan::runtime::pem::trusted(&authority.ca()).unwrap().authorities)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = tokio::net::TcpStream::connect(hop.http()).await.unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    let stream = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut send, connection) = hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("https://test/v1/traces").header("content-type", "application/x-protobuf");
    let response = send.send_request(request.body(http_body_util::Full::new(Bytes::from_static(b"x"))).unwrap()).await.unwrap();
    assert_eq!((response.status().as_u16(), recorder.count()), (200, 1));
}
