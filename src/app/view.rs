//! What the hop sees of the node: who is who, and what happened to them when.

use std::sync::Arc;

use crate::config::meaning::{AssociationRule, Traces};
use crate::containers::resource_stamps;
use crate::diagnose::Hints;
use crate::enrich::{MeshDelay, NodeView, Seen};
use crate::model::{Claims, ContainerKey, DelayKind, Match, Mono, Scope, Subject, TaskKey, Wall, Window};
use crate::source::{Crowd, Node};

/// Coverage with which a thread's own window is told. Below, the wider scope is, if it knows more.
const ENOUGH: f64 = 0.5;

/// Waits below this are not judged, whoever ran: the contract's least.
const HARDLY_NS: u64 = 1_000_000;

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

    /// What helps to judge a window in which nobody saw who ran.
    fn hints(&self, target: &Match, scope: Scope, window: &Window, start: Wall, end: Wall) -> Hints {
        let hardly_waited = window.delay_ns.get(DelayKind::Cpu).is_some_and(|ns| ns < HARDLY_NS);
        if window.self_ns.is_some() || window.coverage == 0.0 || hardly_waited {
            return Hints::default();
        }
        let of_subject = target.subjects.iter().filter_map(|subject| match subject {
            Subject::Container(key) => Some(*key),
            Subject::Process(_) | Subject::Task(_) => None,
        });
        let part = matches!(scope, Scope::Thread | Scope::Process);
        let keys: Vec<ContainerKey> = match (&target.container, part) {
            (Some(container), true) => vec![container.key],
            _ => of_subject.collect(),
        };
        let crowds: Vec<Crowd> = keys.iter().filter_map(|key| self.node.crowd(*key)).collect();
        if crowds.is_empty() || crowds.len() < keys.len() {
            return Hints { beside_ns: if part { u64::MAX } else { 0 }, ..Hints::default() };
        }
        let cpus = self.node.cpus();
        let sum = |each: &dyn Fn(&Crowd) -> Option<u32>| crowds.iter().map(each).try_fold(0_u32, |sum, one| Some(sum.saturating_add(one?)));
        let clock_runs = window.throttled_ns.is_none() && window.throttled_clock_ns.is_some_and(|ns| ns > 0);
        let beside_ns = if part && clock_runs { self.beside(&keys, window, start, end) } else { 0 };
        Hints {
            cpus: sum(&|crowd| cpus.map(|cpus| cpus.min(crowd.tasks))),
            tasks: sum(&|crowd| Some(crowd.tasks)),
            // Of several containers on the same CPUs it is not known who may use which.
            allowed: if crowds.len() == 1 { sum(&|crowd| crowd.allowed) } else { cpus },
            beside_ns,
        }
    }

    /// What other tasks of the container waited.
    fn beside(&self, keys: &[ContainerKey], window: &Window, start: Wall, end: Wall) -> u64 {
        let whole: Vec<Subject> = keys.iter().copied().map(Subject::Container).collect();
        let whole = self.node.history().window_of(&whole, start, end).delay_ns.get(DelayKind::Cpu);
        let own = window.delay_ns.get(DelayKind::Cpu);
        // Not less than 1: 0 would mean that there is nobody else.
        whole.zip(own).map_or(u64::MAX, |(whole, own)| whole.saturating_sub(own).max(1))
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
        let task = thread.and_then(|own_tid| self.task(target, own_tid, start));
        let own = task.map(|task| self.node.history().window(Subject::Task(task), start, end));
        let (scope, window) = match own {
            Some(own) if own.coverage >= ENOUGH => (Scope::Thread, own),
            own => {
                let wider = self.window(target, start, end, thread);
                let better = own.filter(|own| own.coverage > wider.coverage);
                better.map_or((target.scope, wider), |own| (Scope::Thread, own))
            }
        };
        let hints = self.hints(target, scope, &window, start, end);
        Seen { scope, window, hints }
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
