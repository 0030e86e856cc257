//! A downstream that is not ours: tonic with the generated service. Counts spans by the service they say they are of.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use tokio::net::TcpListener;
use tonic::codec::CompressionEncoding;
use tonic::codegen::Service;

/// Trace and span.
type Id = (Vec<u8>, Vec<u8>);

/// Every span that came, by service.
#[derive(Clone, Default)]
struct Counting(Arc<Mutex<HashMap<String, Vec<Id>>>>);

pub struct Sink {
    pub address: SocketAddr,
    counting: Counting,
}

impl Sink {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counting = Counting::default();
        let service = TraceServiceServer::new(counting.clone()).accept_compressed(CompressionEncoding::Gzip);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service.clone();
                let serve = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let mut service = service.clone();
                    async move { service.call(request).await }
                });
                tokio::spawn(hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), serve));
            }
        });
        Self { address, counting }
    }

    /// All spans of a service that came, and how many different ones.
    pub fn of(&self, service: &str) -> (usize, usize) {
        let came = self.counting.0.lock().unwrap();
        let ids = came.get(service).map_or(&[][..], |ids| ids);
        (ids.len(), ids.iter().collect::<HashSet<_>>().len())
    }
}

#[tonic::async_trait]
impl TraceService for Counting {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        for group in request.into_inner().resource_spans {
            let ids = group.scope_spans.iter().flat_map(|scope| &scope.spans).map(|span| (span.trace_id.clone(), span.span_id.clone()));
            self.0.lock().unwrap().entry(service_of(&group)).or_default().extend(ids);
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

fn service_of(group: &ResourceSpans) -> String {
    let attributes = group.resource.iter().flat_map(|resource| &resource.attributes);
    let name = attributes.filter(|attribute| attribute.key == "service.name").find_map(|attribute| attribute.value.clone()?.value);
    match name {
        Some(Value::StringValue(name)) => name,
        other => panic!("service.name is {other:?}"),
    }
}
