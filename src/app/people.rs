//! From what containerd tells to who is who: pids resolved through the host, the index brought up to date.

use std::sync::Arc;

use crate::containers::{Home, Init, RuntimeContainer, RuntimeTask, RuntimeUpdate};
use crate::host::Host;
use crate::model::Wall;
use crate::runtime::clock::{instant_now, mono_now};
use crate::source::{Node, SamplerHandle};

/// Applies news from the runtime.
#[derive(Debug)]
pub struct People {
    host: Arc<Host>,
    node: Arc<Node>,
    sampler: SamplerHandle,
}

impl People {
    pub fn new(host: Arc<Host>, node: Arc<Node>, sampler: SamplerHandle) -> Self {
        Self { host, node, sampler }
    }

    /// One piece of news. The host is asked before the index is locked.
    pub fn take(&self, update: RuntimeUpdate) {
        let now = mono_now();
        match update {
            RuntimeUpdate::Status(status) => return self.node.set_containerd(status),
            RuntimeUpdate::Reconcile(list) => {
                let list = list.into_iter().map(|container| self.with_init(container)).collect();
                self.node.index_mut().reconcile(list, now);
            }
            RuntimeUpdate::Upsert(container) => {
                let (container, init) = self.with_init(container);
                self.node.index_mut().upsert(container, init, now);
            }
            RuntimeUpdate::Gone { namespace, id } => self.node.index_mut().remove(&namespace, &id, now),
        }
        // Asked for by the call itself; nobody waits: processes are placed anew where the index has moved.
        drop(self.sampler.rescan(instant_now()));
    }

    fn with_init(&self, container: RuntimeContainer) -> (RuntimeContainer, Option<Init>) {
        let init = match container.task {
            RuntimeTask::Running { pid } => self.init(pid),
            RuntimeTask::Unknown | RuntimeTask::Stopped => None,
        };
        (container, init)
    }

    /// The first process of a task; `None` where it is gone or cannot be read.
    fn init(&self, pid: u32) -> Option<Init> {
        let process = self.host.attach(pid).ok()?;
        let memberships = self.host.memberships(pid).ok()?;
        // Asked after the memberships were read: they were this process's.
        process.alive().then(|| Init {
            process: process.key(),
            home: Home::of(&memberships),
            started: self.started(process.key().start_ticks),
        })
    }

    fn started(&self, start_ticks: u64) -> Option<Wall> {
        let identity = self.host.identity();
        let since_boot = u128::from(start_ticks) * 1_000_000_000 / u128::from(identity.clock_ticks.max(1));
        Some(Wall(identity.boot?.0.saturating_add(u64::try_from(since_boot).ok()?)))
    }
}
