//! Istio's proxies say who they are by `node_id`, often on each span and on the resource not at all. Pure.
//!
//! `sidecar~10.0.0.7~web-0.shop~shop.svc.cluster.local` names the pod's address, name and namespace: it is read as the
//! claims `k8s.pod.ip`, `k8s.pod.name` and `k8s.namespace.name` where the resource does not make them itself, so that the
//! configured rules apply. [istio, pilot/pkg/model `Proxy.ServiceNode`]

use std::net::IpAddr;

use crate::model::{ClaimValue, Claims, NODE_ID};
use crate::otlp::attribute::{self, SPAN_ATTRIBUTE};
use crate::otlp::wire::{Field, Fields, Value};

/// Proxies that stand for one pod; `ztunnel` stands for a node.
const KINDS: [&str; 4] = ["sidecar", "router", "waypoint", "ingress"];
/// Claims beside which a span's node id says nothing more about who it is.
const STRONGER: [&str; 4] = ["container.id", "k8s.pod.uid", "k8s.pod.ip", "k8s.pod.name"];

/// What a node id says.
#[derive(Debug, PartialEq, Eq)]
struct NodeId<'a> {
    ip: &'a str,
    pod: &'a str,
    namespace: &'a str,
}

impl<'a> NodeId<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let mut parts = text.split('~');
        let (kind, ip, name, _domain) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // Names of namespaces have no dot.
        let (pod, namespace) = name.rsplit_once('.')?;
        let whole = parts.next().is_none() && KINDS.contains(&kind) && ip.parse::<IpAddr>().is_ok();
        (whole && !pod.is_empty() && !namespace.is_empty()).then_some(Self { ip, pod, namespace })
    }
}

/// Completes the claims of a resource from its node id, else from the one on which all of its spans agree.
pub(super) fn complete<'a>(claims: &mut Claims, wanted: &[String], spans: impl Iterator<Item = &'a [u8]>) {
    if !wanted.iter().any(|name| name == NODE_ID) {
        return;
    }
    let on_resource = claims.attributes.iter().position(|(name, _)| name == NODE_ID).map(|at| claims.attributes.swap_remove(at).1);
    let text = match on_resource {
        Some(ClaimValue::Text(text)) => text,
        Some(ClaimValue::Int(_)) => return,
        None if STRONGER.iter().any(|name| claims.get(name).is_some()) => return,
        None => match agreed(spans) {
            Some(text) => text.to_owned(),
            None => return,
        },
    };
    let Some(id) = NodeId::of(&text) else { return };
    // Its address would be asked before a name that is claimed.
    let named = claims.get("k8s.pod.name").is_some();
    for (name, value) in [("k8s.pod.ip", id.ip), ("k8s.pod.name", id.pod), ("k8s.namespace.name", id.namespace)] {
        if claims.get(name).is_none() && !(named && name == "k8s.pod.ip") && wanted.iter().any(|one| one == name) {
            claims.attributes.push((name.to_owned(), ClaimValue::Text(value.to_owned())));
        }
    }
    claims.attributes.push((NODE_ID.to_owned(), ClaimValue::Text(text)));
}

/// The node id of all of these spans: a Collector may have put several proxies' under one resource.
fn agreed<'a>(mut spans: impl Iterator<Item = &'a [u8]>) -> Option<&'a str> {
    let first = node_id(spans.next()?)?;
    spans.all(|span| node_id(span) == Some(first)).then_some(first)
}

fn node_id(span: &[u8]) -> Option<&str> {
    Fields::of(span).map_while(Result::ok).find_map(|field| match field {
        Field { number: SPAN_ATTRIBUTE, value: Value::Len(key_value), .. } if attribute::key(key_value) == Some(NODE_ID.as_bytes()) => {
            attribute::claim_text(key_value)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::wire::push_len;

    const ID: &str = "sidecar~10.0.0.7~web-0.v2.shop~shop.svc.cluster.local";

    fn span(id: &str) -> Vec<u8> {
        let (mut value, mut key_value, mut span) = (Vec::new(), Vec::new(), b"\x0a\x02id".to_vec());
        push_len(&mut value, 1, id.as_bytes());
        push_len(&mut key_value, 1, NODE_ID.as_bytes());
        push_len(&mut key_value, 2, &value);
        push_len(&mut span, SPAN_ATTRIBUTE, &key_value);
        span
    }

    fn text(name: &str, value: &str) -> (String, ClaimValue) {
        (name.to_owned(), ClaimValue::Text(value.to_owned()))
    }

    fn check(on_resource: &[(&str, &str)], on_spans: &[&str], expected: &[(&str, &str)]) {
        let wanted = ["k8s.pod.ip", "k8s.pod.name", "k8s.namespace.name", NODE_ID].map(str::to_owned);
        let mut claims = Claims { attributes: on_resource.iter().map(|(name, value)| text(name, value)).collect(), ..Claims::default() };
        let spans: Vec<Vec<u8>> = on_spans.iter().map(|id| span(id)).collect();
        complete(&mut claims, &wanted, spans.iter().map(Vec::as_slice));
        let expected: Vec<_> = expected.iter().map(|(name, value)| text(name, value)).collect();
        assert_eq!(claims.attributes, expected, "{on_resource:?} {on_spans:?}");
    }

    const POD: [(&str, &str); 4] =
        [("k8s.pod.ip", "10.0.0.7"), ("k8s.pod.name", "web-0.v2"), ("k8s.namespace.name", "shop"), (NODE_ID, ID)];

    #[test]
    fn a_node_id_is_read_as_what_it_says_of_the_pod() {
        check(&[(NODE_ID, ID)], &[], &POD);
        check(&[], &[ID], &POD);
        check(&[], &[ID, ID, ID], &POD);
        check(&[(NODE_ID, ID)], &["42"], &POD);
    }

    #[test]
    fn what_the_resource_claims_itself_stays() {
        check(&[("k8s.pod.name", "mine")], &[ID], &[("k8s.pod.name", "mine")]);
        check(&[("k8s.pod.name", "mine"), (NODE_ID, ID)], &[], &[("k8s.pod.name", "mine"), ("k8s.namespace.name", "shop"), (NODE_ID, ID)]);
        check(&[("process.pid", "7")], &[ID], &[&[("process.pid", "7")], &POD[..]].concat());
        check(
            &[("k8s.pod.ip", "1.1.1.1"), (NODE_ID, ID)],
            &[],
            &[("k8s.pod.ip", "1.1.1.1"), ("k8s.pod.name", "web-0.v2"), ("k8s.namespace.name", "shop"), (NODE_ID, ID)],
        );
    }

    #[test]
    fn spans_that_do_not_agree_or_say_something_else_name_nobody() {
        check(&[], &[ID, "sidecar~10.0.0.8~web-1.shop~x"], &[]);
        check(&[], &[], &[]);
        for id in [
            "42",
            "",
            "ztunnel~10.0.0.7~a.b~c",
            "sidecar~x~a.b~c",
            "sidecar~10.0.0.7~a~c",
            "sidecar~10.0.0.7~a.b",
            "sidecar~10.0.0.7~.b~c~d",
        ] {
            check(&[], &[id], &[]);
            check(&[(NODE_ID, id)], &[], &[]);
        }
    }
}
