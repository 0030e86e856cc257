//! Carries what the SDK's OTLP exporters have written to our own exporters, without a socket between.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use opentelemetry::Context;
use opentelemetry::context::FutureExt;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;
use tokio::sync::SetOnce;
use tokio::time::timeout;

use crate::model::{Answer, Code, Refusal, Signal};
use crate::telemetry::Counters;

/// Of one export of own telemetry, waiting for the outlet included. Short: what waits here is held in memory.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// Where own telemetry leaves the process. The wiring puts the `export` room behind it.
pub trait Outlet: Send + Sync + 'static {
    /// Sends one export request (protobuf) through the exporters of these names.
    fn send<'a>(&'a self, signal: Signal, exporters: &'a [String], body: Bytes) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;
}

/// The outlet, once there is one: exporters are built after the log has begun. `None` once it is known that none will come.
#[derive(Default)]
pub(super) struct Destination {
    outlet: SetOnce<Option<Arc<dyn Outlet>>>,
}

impl Destination {
    /// The first outlet stays.
    pub(super) fn connect(&self, outlet: Arc<dyn Outlet>) {
        let _first_stays = self.outlet.set(Some(outlet));
    }

    /// Nobody will connect any more: what still waits for an outlet fails at once. An outlet that is there stays.
    pub(super) fn close(&self) {
        let _first_stays = self.outlet.set(None);
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Destination").field("connected", &self.outlet.initialized()).finish()
    }
}

/// The HTTP client of the SDK's exporters.
#[derive(Clone, Debug)]
pub(super) struct Courier {
    signal: Signal,
    exporters: Arc<[String]>,
    destination: Arc<Destination>,
    counters: Arc<Counters>,
    runtime: Handle,
}

impl Courier {
    pub(super) fn new(
        signal: Signal,
        exporters: &[String],
        destination: &Arc<Destination>,
        counters: &Arc<Counters>,
        runtime: &Handle,
    ) -> Self {
        Self {
            signal,
            exporters: exporters.into(),
            destination: Arc::clone(destination),
            counters: Arc::clone(counters),
            runtime: runtime.clone(),
        }
    }

    /// Carries one body. `None` where nobody accepted it.
    ///
    /// The SDK calls from threads of its own, which know no tokio: the work runs on the agent's runtime, marked so that nothing
    /// said meanwhile is itself exported, and a panic or the end of the runtime is a failed export and no more.
    async fn carry(&self, body: Bytes) -> Option<Bytes> {
        let (signal, exporters, destination) = (self.signal, Arc::clone(&self.exporters), Arc::clone(&self.destination));
        let delivery = async move {
            match destination.outlet.wait().await {
                Some(outlet) => outlet.send(signal, &exporters, body).await,
                None => Err(Refusal::new(Code::Unavailable, "the agent has no exporters")),
            }
        };
        let silent = Context::new().with_telemetry_suppressed();
        let delivered = self.runtime.spawn(async move { timeout(TIMEOUT, delivery).await }.with_context(silent)).await;
        let answer = delivered.ok().and_then(Result::ok).and_then(Answer::ok);
        if answer.is_none() {
            self.counters.telemetry_failed(signal);
        }
        answer
    }
}

impl HttpClient for Courier {
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let mut response = Response::new(Bytes::new());
            match self.carry(request.into_body()).await {
                Some(body) => *response.body_mut() = body,
                None => *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE,
            }
            Ok(response)
        })
    }
}
