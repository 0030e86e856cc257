//! The embedded receiver: an OTLP server of our own that keeps what it is sent.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use crate::ingest::{Handler, Request};
use crate::model::{Answer, Signal};

/// Spans kept; a demo makes some hundreds.
const SPANS_MAX: usize = 20_000;

/// What arrived.
#[derive(Clone, Debug, Default)]
pub struct Received {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    spans: Vec<Span>,
    metrics: Vec<ExportMetricsServiceRequest>,
}

impl Received {
    /// Spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.inner.lock().map(|inner| inner.spans.clone()).unwrap_or_default()
    }

    /// Metric requests of the newest collections.
    pub fn metrics(&self) -> Vec<ExportMetricsServiceRequest> {
        self.inner.lock().map(|inner| inner.metrics.clone()).unwrap_or_default()
    }

    fn keep(&self, request: &Request) {
        let Ok(mut inner) = self.inner.lock() else { return };
        match request.signal {
            Signal::Traces => {
                let Ok(traces) = ExportTraceServiceRequest::decode(&*request.body) else { return };
                let spans = traces.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
                let room = SPANS_MAX.saturating_sub(inner.spans.len());
                inner.spans.extend(spans.take(room));
            }
            Signal::Metrics => {
                let Ok(metrics) = ExportMetricsServiceRequest::decode(&*request.body) else { return };
                inner.metrics.push(metrics);
            }
            Signal::Logs => (),
        }
    }
}

impl Handler for Received {
    fn handle(&self, request: Request) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
        self.keep(&request);
        Box::pin(std::future::ready(Ok(Bytes::new())))
    }
}

/// The double (or int) value of an attribute.
pub fn number(attributes: &[KeyValue], key: &str) -> Option<f64> {
    match attributes.iter().find(|kv| kv.key == key)?.value.as_ref()?.value.as_ref()? {
        Value::DoubleValue(value) => Some(*value),
        _ => None,
    }
}

/// The string value of an attribute.
pub fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    match attributes.iter().find(|kv| kv.key == key)?.value.as_ref()?.value.as_ref()? {
        Value::StringValue(value) => Some(value),
        _ => None,
    }
}
