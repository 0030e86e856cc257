//! What the hop sees of the node: who is who, and what happened to them when.

use std::sync::Arc;

use crate::config::meaning::AssociationRule;
use crate::containers::resource_stamps;
use crate::enrich::NodeView;
use crate::model::{Claims, Match, Mono, Wall, Window};
use crate::source::Node;

/// The real [`NodeView`].
#[derive(Clone, Debug)]
pub struct View {
    node: Arc<Node>,
    rules: Arc<[AssociationRule]>,
    about: Arc<[(&'static str, String)]>,
}

impl View {
    /// `about`: resource attributes true of the whole node (`host.name`, `k8s.node.name`).
    pub fn new(node: Arc<Node>, rules: Arc<[AssociationRule]>, about: Arc<[(&'static str, String)]>) -> Self {
        Self { node, rules, about }
    }

    /// The instant of the kernel's clock at which a span of this end was over; `None` before the first clock reading.
    pub fn instant(&self, end: Wall) -> Option<Mono> {
        self.node.history().to_mono(end)
    }
}

impl NodeView for View {
    fn identify(&self, claims: &Claims) -> Option<Match> {
        self.node.index().identify(claims, &self.rules)
    }

    fn window(&self, target: &Match, start: Wall, end: Wall, _thread: Option<u32>) -> Window {
        self.node.history().window_of(&target.subjects, start, end)
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
