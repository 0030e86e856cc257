//! Whose time a mesh proxy's own span was (design §6). Pure.
//!
//! Linkerd says `direction` and kind: an inbound CLIENT span is time in the application, an inbound SERVER span is proxy
//! and application, an outbound one the proxy's own; what the remote side took is on the remote side's spans. Envoy says
//! only the kind: SERVER for what comes in, CLIENT for what goes out.

use crate::model::{Match, Mesh, Scope, Subject};
use crate::otlp::attribute::{self, SPAN_ATTRIBUTE};
use crate::otlp::wire::{Field, Fields, Value};

/// `Span.kind`, and its values (trace/v1/trace.proto).
const SPAN_KIND: u32 = 6;
const SERVER: u64 = 2;
const CLIENT: u64 = 3;

/// Whom the spans of a resource are charged to.
pub(super) enum Charges<'a> {
    /// All of them to one.
    Plain(&'a Match),
    /// Each to a side of the pod.
    Proxy(Box<Sides>),
}

/// The sides of a pod whose proxy's spans these are.
pub(super) struct Sides {
    /// The proxy's own.
    own: Match,
    /// The application's containers.
    app: Match,
    /// Both.
    pod: Match,
}

impl<'a> Charges<'a> {
    pub(super) fn of(target: &'a Match) -> Self {
        match &target.mesh {
            Some(mesh) if mesh.of_proxy => {
                let Mesh { app, proxy, .. } = &**mesh;
                let all = || proxy.iter().chain(app).copied().collect();
                // A gateway has nothing but its proxy.
                let app_or_all = if app.is_empty() { all() } else { app.clone() };
                let own = if target.scope == Scope::Pod { side(target, proxy.clone()) } else { target.clone() };
                Self::Proxy(Box::new(Sides { own, app: side(target, app_or_all), pod: side(target, all()) }))
            }
            _ => Self::Plain(target),
        }
    }

    /// Whom this span is charged to.
    #[inline(always)]
    pub(super) fn of_span<'b>(&self, span: impl FnOnce() -> &'b [u8]) -> &Match {
        match self {
            Self::Plain(target) => target,
            Self::Proxy(sides) => match Time::of(span()) {
                Time::Proxy => &sides.own,
                Time::Application => &sides.app,
                Time::Both => &sides.pod,
            },
        }
    }
}

fn side(target: &Match, subjects: Vec<Subject>) -> Match {
    let scope = if subjects.len() == 1 { Scope::Container } else { Scope::Pod };
    Match { scope, subjects, process: None, ..target.clone() }
}

/// Where the time of a proxy's span went, as far as this pod goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Time {
    Proxy,
    Application,
    Both,
}

impl Time {
    #[cold]
    fn of(span: &[u8]) -> Self {
        let (mut kind, mut inbound) = (0, None);
        for field in Fields::of(span).map_while(Result::ok) {
            match field {
                Field { number: SPAN_KIND, value: Value::Varint(value), .. } => kind = value,
                Field { number: SPAN_ATTRIBUTE, value: Value::Len(key_value), .. } if attribute::key(key_value) == Some(b"direction") => {
                    inbound = attribute::claim_text(key_value).map(|direction| direction == "inbound");
                }
                _ => {}
            }
        }
        match (inbound, kind) {
            (Some(true), CLIENT) => Self::Application,
            (Some(true) | None, SERVER) => Self::Both,
            _ => Self::Proxy,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{ContainerKey, ProcessKey};
    use crate::otlp::wire::push_len;

    fn span(kind: u64, direction: Option<&str>) -> Vec<u8> {
        let mut bytes = b"\x2a\x01/\x30".to_vec();
        bytes.push(u8::try_from(kind).unwrap());
        if let Some(direction) = direction {
            let mut key_value = Vec::new();
            push_len(&mut key_value, 1, b"direction");
            let mut value = Vec::new();
            push_len(&mut value, 1, direction.as_bytes());
            push_len(&mut key_value, 2, &value);
            push_len(&mut bytes, SPAN_ATTRIBUTE, &key_value);
        }
        bytes
    }

    #[test]
    fn kind_and_direction_say_whose_time_it_was() {
        for (kind, direction, expected) in [
            (SERVER, Some("inbound"), Time::Both),
            (CLIENT, Some("inbound"), Time::Application),
            (SERVER, Some("outbound"), Time::Proxy),
            (CLIENT, Some("outbound"), Time::Proxy),
            (SERVER, None, Time::Both),
            (CLIENT, None, Time::Proxy),
            (1, None, Time::Proxy),
            (1, Some("inbound"), Time::Proxy),
            (CLIENT, Some("sideways"), Time::Proxy),
        ] {
            assert_eq!(Time::of(&span(kind, direction)), expected, "{kind} {direction:?}");
        }
        assert_eq!(Time::of(b"\xff\xff"), Time::Proxy, "a walker has looked at it before");
    }

    fn found(scope: Scope, subject: Subject, app: &[u64], of_proxy: bool) -> Match {
        let key = |number| Subject::Container(ContainerKey(number));
        let mesh = Mesh { app: app.iter().copied().map(key).collect(), proxy: vec![key(9)], of_proxy };
        Match { scope, subjects: vec![subject], container: None, pod_of: None, process: None, mesh: Some(Arc::new(mesh)) }
    }

    #[test]
    fn each_side_is_charged_with_its_own_containers() {
        let key = |number| Subject::Container(ContainerKey(number));
        let process = Subject::Process(ProcessKey { pid: 1, start_ticks: 1 });
        let (inbound_client, inbound_server, outbound) =
            (span(CLIENT, Some("inbound")), span(SERVER, Some("inbound")), span(CLIENT, Some("outbound")));
        let check = |target: &Match, span: &[u8], scope: Scope, subjects: &[Subject]| {
            let charges = Charges::of(target);
            let charged = charges.of_span(|| Box::leak(span.to_vec().into_boxed_slice()));
            assert_eq!((charged.scope, charged.subjects.as_slice()), (scope, subjects));
        };
        let by_process = found(Scope::Process, process, &[1], true);
        check(&by_process, &inbound_client, Scope::Container, &[key(1)]);
        check(&by_process, &inbound_server, Scope::Pod, &[key(9), key(1)]);
        check(&by_process, &outbound, Scope::Process, &[process]);
        let by_pod = found(Scope::Pod, key(1), &[1, 2], true);
        check(&by_pod, &inbound_client, Scope::Pod, &[key(1), key(2)]);
        check(&by_pod, &outbound, Scope::Container, &[key(9)]);
        let gateway = found(Scope::Pod, key(9), &[], true);
        check(&gateway, &inbound_server, Scope::Container, &[key(9)]);
        check(&gateway, &inbound_client, Scope::Container, &[key(9)]);
        let application = found(Scope::Container, key(1), &[1], false);
        check(&application, &outbound, Scope::Container, &[key(1)]);
    }
}
