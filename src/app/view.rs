//! What the hop sees of the node: who is who, and what happened to them when.

use std::sync::Arc;

use crate::config::meaning::{AssociationRule, Traces};
use crate::containers::resource_stamps;
use crate::diagnose::Hints;
use crate::enrich::{self, MeshDelay, NodeView, Seen};
use crate::history::{self, Store};
use crate::model::{Claims, ContainerKey, DelayKind, Match, Mono, Scope, Stamps, Subject, TaskKey, Wall, Window};
use crate::source::Node;

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
        if needs_no_hints(window) {
            return Hints::default();
        }
        self.company(target, scope).hints(window, |keys| beside(&self.node.history(), keys, window, start, end))
    }

    /// Who else there is in a scope's containers.
    fn company<'t>(&self, target: &'t Match, scope: Scope) -> Company<'t> {
        let part = matches!(scope, Scope::Thread | Scope::Process);
        let company = Company { target, part, known: None };
        let (mut number, mut sums) = (0, Hints { cpus: Some(0), tasks: Some(0), allowed: Some(0), beside_ns: 0 });
        let cpus = self.node.cpus();
        for key in company.keys() {
            let Some(crowd) = self.node.crowd(key) else { return Company { target, part, known: None } };
            let add = |sum: &mut Option<u32>, one: Option<u32>| *sum = sum.zip(one).map(|(sum, one)| sum.saturating_add(one));
            add(&mut sums.cpus, cpus.map(|cpus| cpus.min(crowd.tasks)));
            add(&mut sums.tasks, Some(crowd.tasks));
            add(&mut sums.allowed, crowd.allowed);
            number += 1;
        }
        // Of several containers on the same CPUs it is not known who may use which.
        let allowed = if number == 1 { sums.allowed } else { cpus };
        Company { target, part, known: (number > 0).then_some(Hints { allowed, ..sums }) }
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

/// Who saw who ran, and who hardly waited, needs no hints.
fn needs_no_hints(window: &Window) -> bool {
    let hardly_waited = window.delay_ns.get(DelayKind::Cpu).is_some_and(|ns| ns < HARDLY_NS);
    window.self_ns.is_some() || window.coverage == 0.0 || hardly_waited
}

/// What other tasks of the container waited.
fn beside(history: &Store, keys: &[Subject], window: &Window, start: Wall, end: Wall) -> u64 {
    let whole = history.window_of(keys, start, end).delay_ns.get(DelayKind::Cpu);
    let own = window.delay_ns.get(DelayKind::Cpu);
    // Not less than 1: 0 would mean that there is nobody else.
    whole.zip(own).map_or(u64::MAX, |(whole, own)| whole.saturating_sub(own).max(1))
}

/// Who else there is in a scope's containers, whatever the window.
struct Company<'t> {
    target: &'t Match,
    /// The scope is less than its container.
    part: bool,
    /// `None` where of one of the containers nothing is known.
    known: Option<Hints>,
}

impl Company<'_> {
    fn keys(&self) -> impl Iterator<Item = ContainerKey> {
        let whole = self.target.container.as_ref().filter(|_| self.part).map(|container| container.key);
        let of_subject = |subject: &Subject| match subject {
            Subject::Container(key) => Some(*key),
            Subject::Process(_) | Subject::Task(_) => None,
        };
        let subjects = if whole.is_some() { [].as_slice() } else { self.target.subjects.as_slice() };
        whole.into_iter().chain(subjects.iter().filter_map(of_subject))
    }

    /// `beside`: what other tasks of these waited.
    fn hints(&self, window: &Window, beside: impl FnOnce(&[Subject]) -> u64) -> Hints {
        let Some(known) = self.known else {
            return Hints { beside_ns: if self.part { u64::MAX } else { 0 }, ..Hints::default() };
        };
        let clock_runs = window.throttled_ns.is_none() && window.throttled_clock_ns.is_some_and(|ns| ns > 0);
        let beside_ns = if self.part && clock_runs { beside(&self.keys().map(Subject::Container).collect::<Vec<_>>()) } else { 0 };
        Hints { beside_ns, ..known }
    }
}

/// Looks at one target's spans with the history at hand.
struct AtHand<'v> {
    history: history::Look<'v>,
    scope: Scope,
    company: Company<'v>,
}

impl enrich::Look for AtHand<'_> {
    fn seen(&mut self, seen: &mut Seen, start: Wall, end: Wall) {
        let Seen { scope, window, hints } = seen;
        *scope = self.scope;
        self.history.window(window, start, end);
        *hints = if needs_no_hints(window) {
            Hints::default()
        } else {
            self.company.hints(window, |keys| beside(self.history.store(), keys, window, start, end))
        };
    }

    fn mesh(&self, _: Wall, _: Wall) -> MeshDelay {
        MeshDelay::default()
    }

    fn wall(&self, instant: Mono) -> Wall {
        self.history.wall(instant).unwrap_or_default()
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

    fn seen(&self, seen: &mut Seen, target: &Match, start: Wall, end: Wall, thread: Option<u32>) {
        let Seen { scope, window, hints } = seen;
        let onto = |window: &mut Window, subjects: &[Subject]| self.node.history().window_onto(window, subjects, start, end);
        let task = thread.and_then(|own_tid| self.task(target, own_tid, start));
        *scope = if task.is_some() { Scope::Thread } else { target.scope };
        match task {
            Some(task) => onto(window, &[Subject::Task(task)]),
            None => onto(window, &target.subjects),
        }
        if task.is_some() && window.coverage < ENOUGH {
            let mut wider = Window::default();
            onto(&mut wider, &target.subjects);
            if wider.coverage >= window.coverage {
                (*scope, *window) = (target.scope, wider);
            }
        }
        *hints = self.hints(target, *scope, window, start, end);
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

    fn look_at(&self, target: &Match, work: &mut dyn FnMut(&mut dyn enrich::Look)) {
        // Before the history is locked: never two locks at once.
        let company = self.company(target, target.scope);
        let history = self.node.history();
        work(&mut AtHand { history: history.look(&target.subjects), scope: target.scope, company });
    }

    fn stamps<'a>(&'a self, target: &'a Match) -> Stamps<'a> {
        let mut stamps = resource_stamps(target);
        stamps.extend(self.about.iter().map(|(key, value)| (*key, value.as_str())));
        stamps
    }
}
