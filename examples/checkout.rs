//! A service that sends its spans to stallspan, or to a Collector in front of it, with the ordinary OpenTelemetry SDK.
//! Nothing in it knows stallspan: where its spans go and who it is come from the standard variables.
//!
//! ```sh
//! export OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 OTEL_SERVICE_NAME=checkout
//! export OTEL_RESOURCE_ATTRIBUTES=process.pid=$$     # or container.id, k8s.pod.uid, … : whichever you know
//! exec cargo run --release --example checkout -- --requests 200 --cpu-ms 5 --threads 2
//! ```
//!
//! Each request burns some CPU time inside one span. For comparison, the service prints at its end what the kernel told it
//! of its waiting (`run_delay`) meanwhile, one JSON object a span: of the span's own thread, which `stallspan.scope` = `thread`
//! is held against, and of all its threads together, which is what `container` means.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program of its own: it prints, reads clocks and starts threads")]

use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow};
use clap::Parser;
use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, SpanKind, Tracer as _, TracerProvider as _};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use rustix::time::{ClockId, clock_gettime};

/// Works in requests and traces each.
#[derive(Parser)]
struct Arguments {
    /// Requests of each thread, one after the other.
    #[arg(long, default_value_t = 100)]
    requests: u32,
    /// CPU time of one request, milliseconds.
    #[arg(long, default_value_t = 10)]
    cpu_ms: u64,
    /// Threads that work.
    #[arg(long, default_value_t = 1)]
    threads: u32,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // The exporter speaks gRPC on a runtime of its own: one thread is plenty for it.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _inside = runtime.enter();
    let provider = SdkTracerProvider::builder().with_batch_exporter(SpanExporter::builder().with_tonic().build()?).build();
    let tracer = provider.tracer("checkout");

    let all_done = Barrier::new(usize::try_from(arguments.threads)?);
    let lines = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..arguments.threads).map(|_| scope.spawn(|| work(&tracer, &arguments, &all_done))).collect();
        workers.into_iter().map(|worker| worker.join().map_err(|_panic| anyhow!("a worker panicked"))?).collect::<Result<Vec<_>>>()
    })?;
    lines.concat().iter().for_each(|line| println!("{line}"));

    provider.force_flush().context("sending the last spans")?;
    Ok(provider.shutdown()?)
}

fn work(tracer: &SdkTracer, arguments: &Arguments, all_done: &Barrier) -> Result<Vec<String>> {
    let cpu = Duration::from_millis(arguments.cpu_ms);
    let lines = (0..arguments.requests).map(|number| request(tracer, number, cpu)).collect();
    // A thread that ends takes its numbers with it: the others would see the process wait less than before.
    all_done.wait();
    lines
}

/// One request, and what the kernel says of the time it took.
fn request(tracer: &SdkTracer, number: u32, cpu: Duration) -> Result<String> {
    let before = Waited::now()?;
    let start = SystemTime::now();
    let mut span = tracer.span_builder("POST /checkout").with_kind(SpanKind::Server).with_start_time(start).start(tracer);
    span.set_attribute(KeyValue::new("checkout.request", i64::from(number)));
    // The thread as the kernel numbers it in this pid namespace: with `traces.threads.enabled` the span gets its waiting alone.
    span.set_attribute(KeyValue::new("thread.id", i64::from(rustix::thread::gettid().as_raw_nonzero().get())));

    burn(cpu);

    let end = SystemTime::now();
    span.end_with_timestamp(end);
    let after = Waited::now()?;
    Ok(format!(
        r#"{{"trace_id":"{}","span_id":"{}","start_ns":{},"end_ns":{},"thread_ns":{},"process_ns":{}}}"#,
        span.span_context().trace_id(),
        span.span_context().span_id(),
        start.duration_since(SystemTime::UNIX_EPOCH)?.as_nanos(),
        end.duration_since(SystemTime::UNIX_EPOCH)?.as_nanos(),
        after.thread_ns - before.thread_ns,
        after.process_ns - before.process_ns,
    ))
}

/// Nanoseconds runnable and not running.
struct Waited {
    thread_ns: u64,
    process_ns: u64,
}

impl Waited {
    fn now() -> Result<Self> {
        let mut process_ns = 0;
        for task in std::fs::read_dir("/proc/self/task")? {
            process_ns += run_delay_ns(&task?.path())?;
        }
        Ok(Self { thread_ns: run_delay_ns("/proc/thread-self".as_ref())?, process_ns })
    }
}

/// The second number of a task's schedstat.
fn run_delay_ns(task: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(task.join("schedstat"))?;
    Ok(text.split_whitespace().nth(1).context("the kernel was built without CONFIG_SCHED_INFO")?.parse()?)
}

/// Keeps this thread busy until it has had so much of a CPU, however long that takes on the wall.
fn burn(cpu: Duration) {
    let cpu_now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default();
    let end = cpu_now() + cpu;
    while cpu_now() < end {
        (0..2_000).for_each(|_| std::hint::spin_loop());
    }
}
