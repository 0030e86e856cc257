//! Resources into requests of bounded size.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use super::About;
use crate::otlp::metric_names::{SCHEMA_URL, SCOPE};

/// Largest request written, in bytes: receivers take 4 MiB unless told otherwise, and some count the frame.
pub const MAX_REQUEST_BYTES: usize = 3 << 20;

/// Tag and length prefix of one `ResourceMetrics` in a request.
const MAX_PREFIX_BYTES: usize = 11;

/// Requests being filled.
#[derive(Default)]
pub(super) struct Batch {
    full: Vec<Bytes>,
    open: Vec<ResourceMetrics>,
    open_bytes: usize,
}

impl Batch {
    /// Adds a resource with its metrics; one without any leaves no trace. A resource too large for one request is split between
    /// metrics: OTLP allows one resource in several messages.
    pub(super) fn push(&mut self, resource: Resource, metrics: Vec<Metric>, about: &About) {
        if metrics.is_empty() {
            return;
        }
        let message = envelope(resource, metrics, about);
        let size = message.encoded_len().saturating_add(MAX_PREFIX_BYTES);
        if size > MAX_REQUEST_BYTES {
            self.split(message, about);
            return;
        }
        if self.open_bytes.saturating_add(size) > MAX_REQUEST_BYTES {
            self.close();
        }
        self.open_bytes = self.open_bytes.saturating_add(size);
        self.open.push(message);
    }

    pub(super) fn into_requests(mut self) -> Vec<Bytes> {
        self.close();
        self.full
    }

    fn split(&mut self, message: ResourceMetrics, about: &About) {
        let ResourceMetrics { resource, scope_metrics, .. } = message;
        let resource = resource.unwrap_or_default();
        let mut metrics: Vec<_> = scope_metrics.into_iter().flat_map(|scope| scope.metrics).collect();
        let half = metrics.len() / 2;
        // A single metric is bounded by the number of CPUs and by the length of attributes: it fits.
        if half > 0 {
            let rest = metrics.split_off(half);
            self.push(resource.clone(), metrics, about);
            self.push(resource, rest, about);
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            let resource_metrics = std::mem::take(&mut self.open);
            self.full.push(ExportMetricsServiceRequest { resource_metrics }.encode_to_vec().into());
            self.open_bytes = 0;
        }
    }
}

fn envelope(resource: Resource, metrics: Vec<Metric>, about: &About) -> ResourceMetrics {
    let scope = InstrumentationScope { name: SCOPE.to_owned(), version: about.version.clone(), ..InstrumentationScope::default() };
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, schema_url: SCHEMA_URL.to_owned() }];
    ResourceMetrics { resource: Some(resource), scope_metrics, schema_url: SCHEMA_URL.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_too_large_for_one_request_is_split_between_its_metrics() {
        let large = |number| Metric { name: format!("m{number}"), description: "d".repeat(MAX_REQUEST_BYTES / 3), ..Metric::default() };
        let mut batch = Batch::default();
        batch.push(Resource::default(), (0..7).map(large).collect(), &About::default());
        let requests = batch.into_requests();
        assert!(requests.iter().all(|request| request.len() <= MAX_REQUEST_BYTES));
        let names: Vec<_> = requests
            .iter()
            .flat_map(|bytes| ExportMetricsServiceRequest::decode(bytes.clone()).expect("our own bytes").resource_metrics)
            .flat_map(|resource| resource.scope_metrics)
            .flat_map(|scope| scope.metrics)
            .map(|metric| metric.name)
            .collect();
        assert_eq!(names, ["m0", "m1", "m2", "m3", "m4", "m5", "m6"]);
    }
}
