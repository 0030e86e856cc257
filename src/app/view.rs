//! What the hop sees of the node: who is who, and what happened to them when.

use std::sync::Arc;

use crate::config::meaning::{AssociationRule, Traces};
use crate::containers::resource_stamps;
use crate::enrich::{MeshDelay, NodeView};
use crate::model::{Claims, DelayKind, Match, Mono, Subject, Wall, Window};
use crate::source::Node;

/// The real [`NodeView`].
#[derive(Clone, Debug)]
pub struct View {
    node: Arc<Node>,
    rules: Arc<[AssociationRule]>,
    trust_claims: bool,
    about: Arc<[(&'static str, String)]>,
}

impl View {
    /// `about`: resource attributes true of the whole node (`host.name`, `k8s.node.name`).
    pub fn new(node: Arc<Node>, traces: &Traces, about: Arc<[(&'static str, String)]>) -> Self {
        Self { node, rules: traces.association.clone().into(), trust_claims: traces.trust_claims, about }
    }

    /// The instant of the kernel's clock at which a span of this end was over; `None` before the first clock reading.
    pub fn instant(&self, end: Wall) -> Option<Mono> {
        self.node.history().to_mono(end)
    }
}

impl NodeView for View {
    fn identify(&self, claims: &Claims) -> Option<Match> {
        let index = self.node.index();
        let found = index.identify(claims, &self.rules)?;
        (self.trust_claims || index.owner_agrees(&found, claims.peer)).then_some(found)
    }

    fn window(&self, target: &Match, start: Wall, end: Wall, _thread: Option<u32>) -> Window {
        let mut window = self.node.history().window_of(&target.subjects, start, end);
        // Only where the throttled part has to be concluded from the cgroup's clock do the CPUs matter.
        if window.throttled_ns.is_none() && window.throttled_clock_ns.is_some_and(|growth| growth > 0) {
            window.cpus = self.node.index().allowed_cpus(target);
        }
        window
    }

    fn mesh(&self, target: &Match, start: Wall, end: Wall) -> MeshDelay {
        let Some(mesh) = &target.mesh else { return MeshDelay::default() };
        let history = self.node.history();
        let waited = |side: &[Subject]| match side {
            [] => None,
            side => history.window_of(side, start, end).delay_ns.get(DelayKind::Cpu),
        };
        MeshDelay { app_cpu_ns: waited(&mesh.app), proxy_cpu_ns: waited(&mesh.proxy) }
    }

    fn wall(&self, instant: Mono) -> Wall {
        self.node.history().to_wall(instant).unwrap_or_default()
    }

    fn stamps(&self, target: &Match) -> Vec<(&'static str, String)> {
        let mut stamps = resource_stamps(target);
        stamps.extend(self.about.iter().cloned());
        stamps
    }
}
