//! Keeps own telemetry from telling about itself: exporting a record must never make another record.

use opentelemetry::Context as OtelContext;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::runtime::clock;
use crate::telemetry::OUR_TARGET;
use crate::telemetry::limit::{Limiter, Ruling};

/// Rooms whose events are about exporting.
const EXPORTING_ROOMS: [&str; 2] = ["stallspan::export", "stallspan::telemetry"];

/// A layer that gets only what may be exported, and no more of it than a person could read.
pub(in crate::telemetry) struct Guarded<L> {
    inner: L,
    limiter: Limiter,
}

impl<L> Guarded<L> {
    pub(super) fn new(inner: L) -> Self {
        Self { inner, limiter: Limiter::default() }
    }
}

impl<S: Subscriber, L: Layer<S>> Layer<S> for Guarded<L> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        if is_about_exporting(metadata.target()) || OtelContext::is_current_telemetry_suppressed() {
            return;
        }
        if matches!(self.limiter.rule(metadata.callsite(), clock::mono_now()), Ruling::Pass { .. }) {
            self.inner.on_event(event, context);
        }
    }
}

/// Whether events of this target are about exporting: those of our exporters, and of every library, for each of them (hyper, h2,
/// tonic, rustls, the SDK) may have a part in it.
fn is_about_exporting(target: &str) -> bool {
    let within = |room: &str| target.strip_prefix(room).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    !within(OUR_TARGET) || EXPORTING_ROOMS.into_iter().any(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_exporting_is_told_by_its_target() {
        #[track_caller]
        fn check(target: &str, expected: bool) {
            assert_eq!(is_about_exporting(target), expected, "{target}");
        }
        check("stallspan", false);
        check("stallspan::app", false);
        check("stallspan::exporters_of_all_kinds", false);
        check("stallspan::export", true);
        check("stallspan::export::grpc", true);
        check("stallspan::telemetry::own", true);
        for library in ["hyper::proto::h1", "h2::client", "tonic", "opentelemetry_sdk", "opentelemetry-otlp", "rustls", "stallspandex"] {
            check(library, true);
        }
    }
}
