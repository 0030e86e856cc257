//! The agent's own telemetry leaves through the same exporters as everything else, never through the hop.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::export::Exporters;
use crate::model::{Answer, Code, Refusal, Signal};
use crate::runtime::clock::instant_now;
use crate::telemetry::Outlet;

/// Longest that one export of own telemetry is retried.
const PATIENCE: Duration = Duration::from_secs(10);

/// The export room as telemetry sees it.
#[derive(Debug)]
pub struct OwnOutlet(Mutex<Option<Exporters>>);

impl OwnOutlet {
    pub fn new(exporters: Exporters) -> Self {
        Self(Mutex::new(Some(exporters)))
    }

    /// Lets go of the exporters, and with them of their connections: telemetry itself lasts as long as the process.
    pub fn close(&self) {
        self.open().take();
    }

    fn open(&self) -> MutexGuard<'_, Option<Exporters>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlet for OwnOutlet {
    fn send<'a>(&'a self, signal: Signal, exporters: &'a [String], body: Bytes) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        let open = self.open().clone();
        Box::pin(async move {
            match open {
                Some(open) => open.send(exporters, signal, body, instant_now() + PATIENCE).await,
                None => Err(Refusal::new(Code::Unavailable, "the agent has stopped")),
            }
        })
    }
}
