//! In and out again: what a sender is told is what downstream said.

use bytes::Bytes;
use stallspan::config::meaning::{Compression, Exporter};
use stallspan::export::Exporters;
use stallspan::runtime::Tasks;

use crate::downstream::{Downstream, exporters, otlp};
use crate::peers::{self, TonicServer};
use crate::rig::{Forward, Hop, PROTOBUF, TRACES, call, framed, http1, http2, post};

async fn hop_to(exporter: Exporter) -> Hop {
    let exporters = Exporters::open(&exporters(vec![("out", exporter)]), &Tasks::new()).unwrap();
    Hop::start(Forward { exporters, names: vec!["out".to_owned()] }).await
}

#[tokio::test]
async fn real_client_to_real_server_with_every_compression() {
    let server = TonicServer::default();
    let address = server.start().await;
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let hop =
            hop_to(Exporter::OtlpGrpc(stallspan::config::meaning::OtlpExporter { compression, ..otlp(format!("http://{address}")) })).await;
        let request = peers::spans(100);
        let response = peers::client(hop.grpc()).await.export(request.clone()).await.unwrap().into_inner();
        assert_eq!(response, peers::partial(), "partial success is the downstream's");
        let (got, metadata) = server.got.lock().unwrap().pop().unwrap();
        assert_eq!(got, request);
        let agent = metadata.get("user-agent").unwrap().to_str().unwrap();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(agent, format!("OTel-OTLP-Exporter-Rust/{version} stallspan/{version}"));
    }
}

#[tokio::test]
async fn every_way_in_leads_every_way_out() {
    let answer = Bytes::from_static(b"\x0a\x02\x08\x03");
    let told = answer.clone();
    let downstream = Downstream::start(move |_| crate::downstream::Act::Accept(told.clone())).await;
    let ways = [Exporter::OtlpGrpc(downstream.grpc_exporter()), Exporter::OtlpHttp(downstream.http_exporter())];
    for way in ways {
        let hop = hop_to(way).await;
        let reply = call(&mut http2(hop.grpc()).await, TRACES, &[], framed(false, b"by gRPC")).await;
        assert_eq!((reply.code(), &reply.body), ("0", &framed(false, &answer)));
        let reply = post(&mut http1(hop.http()).await, "POST", "/v1/traces", &[PROTOBUF], Bytes::from_static(b"by HTTP")).await;
        assert_eq!((reply.status, reply.body), (200, answer.clone()));
    }
    let got: Vec<_> = downstream.got.lock().unwrap().iter().map(|got| (got.path.clone(), got.body.clone())).collect();
    let framed = |text: &str| framed(false, text.as_bytes());
    assert_eq!(
        got,
        [
            (TRACES.to_owned(), framed("by gRPC")),
            (TRACES.to_owned(), framed("by HTTP")),
            ("/v1/traces".to_owned(), Bytes::from_static(b"by gRPC")),
            ("/v1/traces".to_owned(), Bytes::from_static(b"by HTTP")),
        ]
    );
}

#[tokio::test]
async fn json_in_and_json_out() {
    let answer = Bytes::from_static(br#"{"partialSuccess":{"rejectedLogRecords":"2"}}"#);
    let told = answer.clone();
    let downstream = Downstream::start(move |_| crate::downstream::Act::Accept(told.clone())).await;
    let encoding = stallspan::config::meaning::Encoding::Json;
    let exporter = stallspan::config::meaning::OtlpExporter { encoding, ..downstream.http_exporter() };
    let hop = hop_to(Exporter::OtlpHttp(exporter)).await;
    let body =
        Bytes::from_static(br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":9,"body":{"stringValue":"x"}}]}]}]}"#);
    let reply = post(&mut http1(hop.http()).await, "POST", "/v1/logs", &[("content-type", "application/json")], body.clone()).await;
    assert_eq!((reply.status, &reply.body), (200, &answer));
    let got = downstream.last();
    assert_eq!((got.body, got.headers["content-type"].to_str().unwrap()), (body, "application/json"));
}

#[tokio::test]
async fn requests_and_answers_of_many_sizes_pass_unchanged() {
    let downstream = Downstream::start(|_| crate::downstream::Act::Accept(Bytes::new())).await;
    let hop = hop_to(Exporter::OtlpGrpc(downstream.grpc_exporter())).await;
    let mut client = http2(hop.grpc()).await;
    for length in [0, 1, 16_379, 16_380, 16_384, 65_530, 65_536, 99_999] {
        let body = crate::rig::bytes(length);
        assert_eq!(call(&mut client, TRACES, &[], framed(false, &body)).await.code(), "0", "{length}");
        assert_eq!(downstream.last().body, framed(false, &body));
    }
}
