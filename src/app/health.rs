//! `/livez`, `/readyz`, `/metrics` and, where it is asked for, `/debug/spans`.

use std::sync::Arc;

use crate::ingest::{Page, Pages};
use crate::runtime::Stop;
use crate::runtime::clock::instant_now;
use crate::telemetry::{Counters, prometheus};

use super::recent::Recent;

/// The health extension's pages. Ready means: listening, and not being stopped. A source or a runtime that is missing makes
/// the agent's numbers poorer, not the agent unready: spans pass all the same.
pub fn pages(counters: Arc<Counters>, recent: Option<Arc<Recent>>, stopping: Stop, version: &'static str) -> Arc<Pages> {
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
        "/debug/spans" => recent.as_ref().map(|recent| text(200, &recent.page(instant_now()))),
        _ => None,
    })
}
