//! Room `enrich`: trace request bytes + a view of the node -> trace request bytes. Pure.
//!
//! Three steps, so that the wiring can wait between them without holding anything:
//!
//! 1. [`scan()`] checks the request and notes where its spans lie, when they ran, and what their resources claim;
//! 2. [`Scan::identify`] asks the [`NodeView`] whose they are (the wiring then sees to readings that cover their ends);
//! 3. [`apply()`] writes what is known onto every span whose container is known, and copies everything else.
//!
//! Deliberately not here: transports, waiting, association rules (the view's `identify`), the verdict's rules (handed in
//! with the [`Settings`]). Enrichment never fails: what cannot be enriched is passed on as it came, and counted.

mod apply;
mod bars;
mod istio;
mod measure;
mod mesh;
mod run;
mod scan;
mod settings;
#[cfg(test)]
mod tests;

use crate::diagnose::Hints;
use crate::model::{Claims, Match, Mono, Scope, Stamps, Wall, Window};

pub use crate::otlp::walk::NotProtobuf;
pub use apply::{Enriched, Kept, Lent, Skipped, apply, apply_onto, room_needed};
pub use scan::{GroupView, Scan, scan, scan_little, scan_with_pauses};
pub use settings::{EventSettings, Settings};

/// What enrichment asks of the node. The real one stands in `app`; tests bring their own.
pub trait NodeView {
    /// Whose spans a resource's are; `None` when nobody here.
    fn identify(&self, claims: &Claims) -> Option<Match>;

    /// What happened to them between two instants of the sender's wall clock. `thread`: an OS thread id in the
    /// sender's pid namespace, where thread scope is on.
    fn window(&self, target: &Match, start: Wall, end: Wall, thread: Option<u32>) -> Window;

    /// The wall clock's reading at an instant of the kernel's clock: where a stall event stands on its span.
    fn wall(&self, instant: Mono) -> Wall;

    /// What the window describes: the target's own scope, or the thread where the view resolved it.
    fn scope(&self, target: &Match, thread: Option<u32>) -> Scope {
        let _ = thread;
        target.scope
    }

    /// Both at once, with what else is known of whom the window describes: what enrichment asks for.
    /// Written over what was seen of the span before.
    fn seen(&self, seen: &mut Seen, target: &Match, start: Wall, end: Wall, thread: Option<u32>) {
        *seen = Seen { scope: self.scope(target, thread), window: self.window(target, start, end, thread), hints: Hints::default() };
    }

    /// CPU wait of a mesh pod's application and of its proxy between two instants; absent where there is no proxy.
    fn mesh(&self, target: &Match, start: Wall, end: Wall) -> MeshDelay {
        let _ = (target, start, end);
        MeshDelay::default()
    }

    /// Looks at many spans of one target, one after the other: what is the same for all of them is looked up once. To be used
    /// for spans whose thread is not asked for, of a target that is no part of a mesh. Nothing else may be asked of the view meanwhile:
    /// it may hold locks.
    fn look_at(&self, target: &Match, work: &mut dyn FnMut(&mut dyn Look)) {
        work(&mut OneByOne { view: self, target });
    }

    /// Resource attributes to add where absent: names of the container, its pod and its node.
    fn stamps<'a>(&'a self, _target: &'a Match) -> Stamps<'a> {
        Stamps::new()
    }
}

/// What is asked of the node for spans of one target.
pub trait Look {
    /// As [`NodeView::seen`], of no thread, in place of what was seen of the span before.
    fn seen(&mut self, seen: &mut Seen, start: Wall, end: Wall);

    /// As [`NodeView::mesh`].
    fn mesh(&self, start: Wall, end: Wall) -> MeshDelay;

    /// As [`NodeView::wall`].
    fn wall(&self, instant: Mono) -> Wall;
}

/// Asks for each of them.
struct OneByOne<'v, V: ?Sized> {
    view: &'v V,
    target: &'v Match,
}

impl<V: NodeView + ?Sized> Look for OneByOne<'_, V> {
    fn seen(&mut self, seen: &mut Seen, start: Wall, end: Wall) {
        self.view.seen(seen, self.target, start, end, None);
    }

    fn mesh(&self, start: Wall, end: Wall) -> MeshDelay {
        self.view.mesh(self.target, start, end)
    }

    fn wall(&self, instant: Mono) -> Wall {
        self.view.wall(instant)
    }
}

/// A window, and whom it describes.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What the numbers describe.
    pub scope: Scope,
    /// The numbers.
    pub window: Window,
    /// What helps to judge them.
    pub hints: Hints,
}

/// CPU wait of the two sides of a pod with a mesh proxy, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeshDelay {
    /// The application containers'.
    pub app_cpu_ns: Option<u64>,
    /// The proxy container's.
    pub proxy_cpu_ns: Option<u64>,
}
