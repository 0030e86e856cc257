//! The `debug` exporter: what passes, on standard output.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;

use crate::config::meaning::Verbosity;
use crate::model::{Answer, Code, Refusal, Signal};
use crate::runtime::Tasks;

/// A `debug` exporter.
#[derive(Debug)]
pub struct DebugExporter {
    verbosity: Verbosity,
    tasks: Tasks,
    /// One writer at a time: a terminal that is not read from blocks one thread, not all.
    turn: Arc<Mutex<()>>,
}

impl DebugExporter {
    /// Writes nothing yet.
    #[must_use]
    pub fn new(verbosity: Verbosity, tasks: Tasks) -> Self {
        Self { verbosity, tasks, turn: Arc::default() }
    }

    /// Writes one request.
    ///
    /// # Errors
    /// Where standard output cannot be written to.
    pub async fn send(&self, signal: Signal, body: Bytes) -> Answer {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let text = render(self.verbosity, signal, &body);
        let written = self.tasks.blocking("debug exporter", move || {
            let _turn = turn;
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        });
        match written.await {
            Ok(Ok(())) => Ok(Bytes::new()),
            Ok(Err(why)) => Err(Refusal::new(Code::Unavailable, format!("standard output cannot be written to: {why}"))),
            Err(_) => Err(Refusal::new(Code::Internal, "writing to standard output failed")),
        }
    }
}

fn render(_verbosity: Verbosity, signal: Signal, body: &[u8]) -> String {
    format!("{} {} bytes\n", signal.word(), body.len())
}
