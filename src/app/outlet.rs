//! The agent's own telemetry leaves through the same exporters as everything else, never through the hop.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use crate::export::Exporters;
use crate::model::{Answer, Signal};
use crate::runtime::clock::instant_now;
use crate::telemetry::Outlet;

/// Longest that one export of own telemetry is retried.
const PATIENCE: Duration = Duration::from_secs(10);

/// The export room as telemetry sees it.
#[derive(Debug)]
pub struct OwnOutlet(pub Exporters);

impl Outlet for OwnOutlet {
    fn send<'a>(&'a self, signal: Signal, exporters: &'a [String], body: Bytes) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        Box::pin(self.0.send(exporters, signal, body, instant_now() + PATIENCE))
    }
}
