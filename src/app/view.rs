//! What the hop sees of the node: who is who, and what happened to them when.

use std::sync::Arc;

use crate::config::meaning::{AssociationRule, Traces};
use crate::containers::resource_stamps;
use crate::diagnose::Hints;
use crate::enrich::{MeshDelay, NodeView, Seen};
use crate::model::{Claims, DelayKind, Match, Mono, Scope, Subject, TaskKey, Wall, Window};
use crate::source::Node;

/// Coverage with which a thread's own window is told. Below, the wider scope is, if it knows more.
const ENOUGH: f64 = 0.5;

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

    /// The thread that a span means by this number.
    fn task(&self, target: &Match, own_tid: u32, start: Wall) -> Option<TaskKey> {
        let start = self.instant(start)?;
        self.node.threads().find(&target.subjects, own_tid, start)
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
        self.node.history().window_of(&target.subjects, start, end)
    }

    fn seen(&self, target: &Match, start: Wall, end: Wall, thread: Option<u32>) -> Seen {
        let hints = Hints::default();
        let task = thread.and_then(|own_tid| self.task(target, own_tid, start));
        let own = task.map(|task| self.node.history().window(Subject::Task(task), start, end));
        if let Some(window) = own.as_ref().filter(|window| window.coverage >= ENOUGH) {
            return Seen { scope: Scope::Thread, window: window.clone(), hints };
        }
        let window = self.window(target, start, end, thread);
        match own {
            Some(own) if own.coverage > window.coverage => Seen { scope: Scope::Thread, window: own, hints },
            _ => Seen { scope: target.scope, window, hints },
        }
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
