//! `/livez`, `/readyz` and `/metrics`.

use std::sync::Arc;

use crate::ingest::{Page, Pages};
use crate::runtime::Stop;
use crate::telemetry::{Counters, prometheus};

/// The health extension's pages. Ready means: listening, and not being stopped. A source or a runtime that is missing makes
/// the agent's numbers poorer, not the agent unready: spans pass all the same.
pub fn pages(counters: Arc<Counters>, stopping: Stop, version: &'static str) -> Arc<Pages> {
    let text = |status, body: &str| Page { status, content_type: "text/plain; charset=utf-8", body: body.to_owned() };
    Arc::new(move |path| match path {
        "/livez" => Some(text(200, "ok\n")),
        "/readyz" if stopping.requested() => Some(text(503, "stopping\n")),
        "/readyz" | "/" => Some(text(200, "ok\n")),
        "/metrics" => Some(Page {
            status: 200,
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            body: prometheus::page(&counters.snapshot(), version),
        }),
        _ => None,
    })
}
