//! Own telemetry on its way out: the OpenTelemetry SDK's providers, one for each signal that has exporters.

mod courier;
mod guard;
mod metrics;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{ExporterBuildError, LogExporter, MetricExporter, Protocol, RetryPolicy, SpanExporter};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{BatchConfigBuilder as LogBatch, BatchLogProcessor, SdkLoggerProvider};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{BatchConfigBuilder as SpanBatch, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider};
use tokio::sync::oneshot;
use tracing::Subscriber;
use tracing_subscriber::registry::LookupSpan;

use super::{Counters, Setup, StartError};
use crate::model::Signal;
use crate::otlp::metric_names::{SCHEMA_URL, SCOPE, key};
use crate::runtime::clock;
use courier::{Courier, Destination};
use guard::Guarded;

pub use courier::Outlet;

/// Records and spans waiting at most; what comes on top is lost, and the SDK says how many.
const MAX_QUEUE: usize = 2_048;

/// Records and spans in one export.
const MAX_BATCH: usize = 512;

/// Time between exports of logs and spans.
const BATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Providers of the signals that have exporters.
#[derive(Debug)]
pub(super) struct Own {
    destination: Arc<Destination>,
    logs: Option<SdkLoggerProvider>,
    spans: Option<SdkTracerProvider>,
    meters: Option<SdkMeterProvider>,
}

impl Own {
    /// Builds what the configuration asks for; nothing where it asks for nothing.
    pub(super) fn start(setup: &Setup<'_>, counters: &Arc<Counters>) -> Result<Self, StartError> {
        let destination = Arc::new(Destination::default());
        let courier = |signal: Signal, exporters: &[String]| Courier::new(signal, exporters, &destination, counters, &setup.runtime);
        let config = setup.config;
        let resource = resource(setup);
        let logs = wanted(&config.log_exporters)
            .map(|exporters| logger_provider(courier(Signal::Logs, exporters), resource.clone()))
            .transpose()
            .map_err(|error| refused(Signal::Logs, &error))?;
        let spans = wanted(&config.trace_exporters)
            .map(|exporters| tracer_provider(courier(Signal::Traces, exporters), resource.clone(), config.sampling_ratio))
            .transpose()
            .map_err(|error| refused(Signal::Traces, &error))?;
        let meters = wanted(&config.metric_exporters)
            .map(|exporters| meter_provider(courier(Signal::Metrics, exporters), resource, setup.metric_interval))
            .transpose()
            .map_err(|error| refused(Signal::Metrics, &error))?;
        if let Some(meters) = &meters {
            metrics::register(meters, counters);
        }
        Ok(Self { destination, logs, spans, meters })
    }

    pub(super) fn connect(&self, outlet: Arc<dyn Outlet>) {
        self.destination.connect(outlet);
    }

    /// Our log records as OTLP ones.
    pub(super) fn log_layer<S>(&self) -> Option<Guarded<impl tracing_subscriber::Layer<S> + use<S>>>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        self.logs.as_ref().map(|provider| Guarded::new(OpenTelemetryTracingBridge::new(provider)))
    }

    /// Spans about our own work.
    pub(super) fn span_layer<S>(&self) -> Option<tracing_opentelemetry::OpenTelemetryLayer<S, SdkTracer>>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        self.spans.as_ref().map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer(SCOPE)))
    }

    /// Flushes and ends every provider, side by side, and comes back at the deadline at the latest. The SDK's own calls block
    /// and do not all keep to a time-out, so each gets a thread that may be left behind.
    pub(super) async fn shutdown(&self, deadline: Duration) {
        let begin = clock::mono_now();
        let mut endings = Vec::new();
        if let Some(logs) = self.logs.clone() {
            endings.extend(aside("flush-logs", move || drop(logs.shutdown_with_timeout(deadline))));
        }
        if let Some(spans) = self.spans.clone() {
            endings.extend(aside("flush-spans", move || drop(spans.shutdown_with_timeout(deadline))));
        }
        if let Some(meters) = self.meters.clone() {
            endings.extend(aside("flush-metrics", move || drop(meters.shutdown_with_timeout(deadline))));
        }
        for ending in endings {
            let left = deadline.saturating_sub(Duration::from_nanos(clock::mono_now().since(begin)));
            let _in_time_or_not = tokio::time::timeout(left, ending).await;
        }
    }
}

impl Drop for Own {
    /// An agent that could not start has providers but no outlet: they must not wait for one while they are dropped.
    fn drop(&mut self) {
        self.destination.close();
    }
}

/// Runs something that blocks on a thread of its own; `None` where there is no thread to be had.
fn aside(name: &str, work: impl FnOnce() + Send + 'static) -> Option<oneshot::Receiver<()>> {
    let (done, ended) = oneshot::channel();
    let run = move || {
        work();
        let _still_waited_for = done.send(());
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(run).ok().map(|_detached| ended)
}

fn wanted(exporters: &[String]) -> Option<&[String]> {
    Some(exporters).filter(|exporters| !exporters.is_empty())
}

fn refused(signal: Signal, error: &ExporterBuildError) -> StartError {
    StartError::Exporter { signal: signal.word(), reason: error.to_string() }
}

/// Who we are. The environment is not asked: `service.name` is `stallspan` whatever `OTEL_SERVICE_NAME` of the node says.
fn resource(setup: &Setup<'_>) -> Resource {
    let mut attributes = vec![
        KeyValue::new(key::SERVICE_VERSION, setup.version.to_owned()),
        KeyValue::new(key::SERVICE_INSTANCE_ID, setup.host_name.to_owned()),
        KeyValue::new(key::HOST_NAME, setup.host_name.to_owned()),
    ];
    attributes.extend(setup.node_name.map(|node| KeyValue::new(key::K8S_NODE_NAME, node.to_owned())));
    Resource::builder_empty().with_service_name(SCOPE).with_schema_url(attributes, SCHEMA_URL).build()
}

/// Settings common to the three exporters. The address is never dialled: the courier takes the body and leaves the rest.
fn in_process<B: WithHttpConfig + WithExportConfig>(exporter: B, courier: Courier) -> B {
    exporter
        .with_http_client(courier)
        .with_endpoint("http://in-process.invalid")
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(courier::TIMEOUT)
        // Retries are the exporters' below the outlet; twice would be a storm.
        .with_retry_policy(RetryPolicy::disabled())
}

fn logger_provider(courier: Courier, resource: Resource) -> Result<SdkLoggerProvider, ExporterBuildError> {
    let exporter = in_process(LogExporter::builder().with_http(), courier).build()?;
    let config = LogBatch::default()
        .with_max_queue_size(MAX_QUEUE)
        .with_max_export_batch_size(MAX_BATCH)
        .with_scheduled_delay(BATCH_INTERVAL)
        .build();
    let processor = BatchLogProcessor::builder(exporter).with_batch_config(config).build();
    Ok(SdkLoggerProvider::builder().with_resource(resource).with_log_processor(processor).build())
}

fn tracer_provider(courier: Courier, resource: Resource, ratio: f64) -> Result<SdkTracerProvider, ExporterBuildError> {
    let exporter = in_process(SpanExporter::builder().with_http(), courier).build()?;
    let config = SpanBatch::default()
        .with_max_queue_size(MAX_QUEUE)
        .with_max_export_batch_size(MAX_BATCH)
        .with_scheduled_delay(BATCH_INTERVAL)
        .build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)));
    Ok(SdkTracerProvider::builder().with_resource(resource).with_sampler(sampler).with_span_processor(processor).build())
}

fn meter_provider(courier: Courier, resource: Resource, interval: Duration) -> Result<SdkMeterProvider, ExporterBuildError> {
    let exporter = in_process(MetricExporter::builder().with_http(), courier).build()?;
    let reader = PeriodicReader::builder(exporter).with_interval(interval).build();
    Ok(SdkMeterProvider::builder().with_resource(resource).with_reader(reader).build())
}
