//! Room `enrich`: trace request bytes + a view of the node -> trace request bytes. Pure.

use crate::model::{Claims, Match, Wall, Window};

/// What enrichment asks of the node. The real one stands in `app`; tests bring their own.
pub trait NodeView {
    /// Whose spans a resource's are; `None` when nobody here.
    fn identify(&self, claims: &Claims) -> Option<Match>;
    /// What happened to them between two instants of the sender's wall clock. `thread`: an OS thread id in the
    /// sender's pid namespace, where thread scope is on.
    fn window(&self, target: &Match, start: Wall, end: Wall, thread: Option<u32>) -> Window;
}
