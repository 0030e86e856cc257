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
