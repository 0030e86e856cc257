//! What a hop in Rust usually is, to measure stallspan against: tonic and prost, every span decoded, eight attributes pushed
//! onto it, encoded, and sent on by a tonic client. It keeps nothing, checks nothing and knows no container.
//!
//! `forwarder LISTEN DOWNSTREAM`, both `host:port`.

use std::process::ExitCode;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use tokio::net::TcpListener;
use tonic::codegen::Service;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

/// Largest message, as stallspan's peers in the figures take it.
const LARGEST: usize = 64 << 20;

#[derive(Clone)]
struct Forwarder {
    downstream: TraceServiceClient<Channel>,
}

#[tonic::async_trait]
impl TraceService for Forwarder {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut request = request.into_inner();
        let groups = request.resource_spans.iter_mut().flat_map(|group| &mut group.scope_spans);
        for span in groups.flat_map(|scope| &mut scope.spans) {
            span.attributes.extend(added());
        }
        self.downstream.clone().export(request).await
    }
}

/// Eight attributes such as stallspan writes: texts and doubles.
fn added() -> [KeyValue; 8] {
    let text = |text: &str| Value::StringValue(text.to_owned());
    [
        ("stallspan.scope", text("container")),
        ("stallspan.source", text("bpf")),
        ("stallspan.verdict", text("neighbor")),
        ("stallspan.delay.cpu", Value::DoubleValue(0.012)),
        ("stallspan.delay.throttled", Value::DoubleValue(0.001)),
        ("stallspan.stalled", Value::DoubleValue(0.011)),
        ("stallspan.coverage", Value::DoubleValue(1.0)),
        ("stallspan.resolution", Value::DoubleValue(0.0)),
    ]
    .map(|(key, value)| KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(downstream)) = (arguments.next(), arguments.next()) else { return ExitCode::from(2) };
    match forward(&listen, downstream).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(_why) => ExitCode::FAILURE,
    }
}

async fn forward(listen: &str, downstream: String) -> Result<(), Box<dyn std::error::Error>> {
    let channel = Endpoint::try_from(format!("http://{downstream}"))?.tcp_nodelay(true).connect_lazy();
    let client = TraceServiceClient::new(channel).max_encoding_message_size(LARGEST);
    let service = TraceServiceServer::new(Forwarder { downstream: client }).max_decoding_message_size(LARGEST);
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service.clone();
        let serve = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let mut service = service.clone();
            async move { service.call(request).await }
        });
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        // As tonic's own server has them.
        builder.initial_stream_window_size(1 << 20).initial_connection_window_size(1 << 20);
        #[expect(clippy::disallowed_methods, reason = "a program of its own, not a room of stallspan")]
        tokio::spawn(builder.serve_connection(TokioIo::new(stream), serve));
    }
}
