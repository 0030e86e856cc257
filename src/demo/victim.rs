//! The victim: a single-threaded service that works in requests and reports each with the OpenTelemetry SDK.
//!
//! Beside each request it notes what the kernel told its thread in `/proc/thread-self/schedstat` before and after:
//! one JSON line a request on standard output.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use opentelemetry::trace::{Span as _, SpanBuilder, SpanKind, TraceContextExt as _, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider};
use serde::{Deserialize, Serialize};

use crate::model::Mono;
use crate::runtime::clock::{mono_now, thread_cpu_now};

use super::children::pin_to;

/// What the hidden command `demo-victim` is told.
#[derive(Clone, Debug)]
pub struct VictimArgs {
    /// The hop.
    pub endpoint: String,
    /// How long to work.
    pub seconds: f64,
    /// The contested CPU.
    pub cpu: usize,
    /// Its own `container.id`, where it has a cgroup of its own.
    pub container_id: Option<String>,
}

/// What the kernel told the victim's working thread about one request.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Truth {
    /// Trace id of the request's span, hex.
    pub trace_id: String,
    /// Growth of `run_delay` over the request, ns.
    pub run_delay_ns: u64,
}

/// The steps of a request and the CPU time each one takes.
const STEPS: [(&str, u64); 3] = [("load cart", 4_000_000), ("price items", 9_000_000), ("render page", 5_000_000)];

/// Spans are sent between two requests, not beside them: where threads cannot be told apart, what the SDK's threads wait
/// for would stand on the spans and not in the working thread's own account. And seldom: meanwhile the victim does not wait,
/// but polled totals spread what it waited before and after over that time too. The SDK keeps 2048 spans, a minute's worth
/// of crowded requests and a quarter of that of quick ones.
const FLUSH_EVERY_NS: u64 = 10_000_000_000;
/// Between the first span and the first that counts: some of the agent's readings.
const WARM_UP: Duration = Duration::from_millis(250);
/// How long the SDK waits for them to be sent (`forceflush_timeout` of its batch processor).
const PATIENCE_OF_SDK: Duration = Duration::from_secs(5);
/// How long a starved machine may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The SDK does not send by itself.
const NEVER: Duration = Duration::from_secs(3600);

/// Body of the hidden command `demo-victim`.
///
/// # Errors
/// When standard input closes before the go, the exporter cannot be built, or the kernel has no schedstat.
pub fn victim_main(args: &VictimArgs) -> anyhow::Result<()> {
    let mut go = [0_u8; 1];
    std::io::stdin().read_exact(&mut go)?;
    // The SDK's own threads stay off the contested CPU: they start before the pinning.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let provider = {
        let _inside = runtime.enter();
        provider(args)?
    };
    let tracer = provider.tracer("stallspan-demo");
    pin_to(args.cpu);
    // From the first span on the agent reads this thread by itself, and the second has its history.
    tracer.build(about(SpanBuilder::from_name("warm up"))).end();
    flush(&provider)?;
    std::thread::park_timeout(WARM_UP);
    let deadline = mono_now().plus(Duration::from_secs_f64(args.seconds).as_nanos().try_into().unwrap_or(u64::MAX));
    let mut out = std::io::stdout().lock();
    let mut flushed = mono_now();
    while mono_now() < deadline {
        let truth = request(&tracer)?;
        serde_json::to_writer(&mut out, &truth)?;
        out.write_all(b"\n")?;
        if mono_now().since(flushed) >= FLUSH_EVERY_NS {
            flush(&provider)?;
            flushed = mono_now();
        }
    }
    flush(&provider)?;
    provider.shutdown_with_timeout(Duration::from_secs(2))?;
    Ok(())
}

/// Sends what there is. What the SDK no longer waits for, it goes on sending.
fn flush(provider: &SdkTracerProvider) -> anyhow::Result<()> {
    let since = |instant: Mono| Duration::from_nanos(mono_now().since(instant));
    let begun = mono_now();
    loop {
        let tried = mono_now();
        match provider.force_flush() {
            Err(_) if since(tried) >= PATIENCE_OF_SDK && since(begun) < PATIENCE => {}
            told => return Ok(told?),
        }
    }
}

fn provider(args: &VictimArgs) -> anyhow::Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(args.endpoint.clone()).build()?;
    let batches = BatchConfigBuilder::default().with_scheduled_delay(NEVER).build();
    let mut attributes = vec![KeyValue::new("service.name", "checkout")];
    match &args.container_id {
        Some(id) => attributes.push(KeyValue::new("container.id", id.clone())),
        None => attributes.push(KeyValue::new("process.pid", i64::from(std::process::id()))),
    }
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let resource = Resource::builder_empty().with_attributes(attributes).build();
    Ok(SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource).build())
}

fn request(tracer: &SdkTracer) -> anyhow::Result<Truth> {
    let before = own_run_delay_ns()?;
    let span = about(SpanBuilder::from_name("GET /checkout").with_kind(SpanKind::Server)).start(tracer);
    let trace_id = span.span_context().trace_id().to_string();
    let context = Context::current_with_span(span);
    for (name, cpu_ns) in STEPS {
        let mut step = tracer.build_with_context(about(SpanBuilder::from_name(name).with_kind(SpanKind::Internal)), &context);
        work(cpu_ns);
        step.end();
    }
    context.span().end();
    let run_delay_ns = own_run_delay_ns()?.saturating_sub(before);
    Ok(Truth { trace_id, run_delay_ns })
}

/// The span of this thread.
fn about(span: SpanBuilder) -> SpanBuilder {
    span.with_attributes([KeyValue::new("thread.id", i64::from(rustix::thread::gettid().as_raw_nonzero().get()))])
}

/// Uses this much CPU time, however long the wall clock says it takes.
fn work(cpu_ns: u64) {
    let until = thread_cpu_now().saturating_add(cpu_ns);
    while thread_cpu_now() < until {
        std::hint::spin_loop();
    }
}

/// Second field of `schedstat` (`sched_info.run_delay`, ns) of this thread.
#[expect(
    clippy::disallowed_methods,
    reason = "the victim is an application: it asks the kernel about itself, not through the agent's host room"
)]
fn own_run_delay_ns() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split_ascii_whitespace().nth(1).unwrap_or_default().parse()?)
}
