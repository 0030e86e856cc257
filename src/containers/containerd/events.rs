//! Listening to containerd. An event only says *where to look*: what is there is asked for afterwards, so that duplicate, late
//! and reordered events do no harm.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use containerd_client::services::v1::SubscribeRequest;
use containerd_client::services::v1::events_client::EventsClient;
use containerd_client::types::Envelope;
use prost::Message;
use tokio::sync::Notify;

use super::link::{Link, class_of};
use crate::containers::labels::MAX_NAME;
use crate::model::Absence;

/// Most containers waiting to be looked at; beyond that everything is listed once.
const MAX_CHANGED: usize = 1_024;
/// Largest event taken: task events carry the mounts of a root file system.
const MAX_EVENT: usize = 4 << 20;

/// Topics that can change what is known; the many `exec` events of probes are not among them.
const TOPICS: [&str; 11] = [
    "/containers/create",
    "/containers/update",
    "/containers/delete",
    "/tasks/create",
    "/tasks/start",
    "/tasks/exit",
    "/tasks/delete",
    "/tasks/resumed",
    "/sandboxes/create",
    "/sandboxes/start",
    "/sandboxes/exit",
];

/// What has to be looked at again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// These, as (namespace, id).
    Some(BTreeSet<(String, String)>),
    /// More than could be kept.
    Everything,
}

/// Containers that events have named since the last look.
#[derive(Debug)]
pub(super) struct Changes {
    waiting: Mutex<Changed>,
    arrived: Notify,
}

/// The part that all events of [`TOPICS`] share: the id comes first. `TaskExit` has the process's id second.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct TaskExit {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(string, tag = "2")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct TaskDelete {
    #[prost(string, tag = "5")]
    id: String,
}

impl Changes {
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::new(Changed::Some(BTreeSet::new())), arrived: Notify::new() }
    }

    /// Waits until something has changed, and takes it.
    pub(super) async fn take(&self) -> Changed {
        loop {
            self.arrived.notified().await;
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let taken = std::mem::replace(&mut *waiting, Changed::Some(BTreeSet::new()));
            if taken != Changed::Some(BTreeSet::new()) {
                return taken;
            }
        }
    }

    fn add(&self, namespace: String, id: String) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Changed::Some(keys) = &mut *waiting {
            keys.insert((namespace, id));
            if keys.len() > MAX_CHANGED {
                *waiting = Changed::Everything;
            }
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Listens until the connection breaks. `namespaces`: those that matter; empty for all.
    pub(super) async fn listen(&self, link: &Link, namespaces: &[String]) -> Absence {
        let filters = TOPICS.iter().map(|topic| format!("topic==\"{topic}\"")).collect();
        let mut client = EventsClient::new(link.channel()).max_decoding_message_size(MAX_EVENT);
        // grpc-go sends its response headers with the first event, so even this await has no time limit.
        let mut stream = match client.subscribe(SubscribeRequest { filters }).await {
            Ok(response) => response.into_inner(),
            Err(status) => return class_of(&status),
        };
        loop {
            match stream.message().await {
                Ok(Some(envelope)) => {
                    let wanted = namespaces.is_empty() || namespaces.contains(&envelope.namespace);
                    if let Some(id) = id_of(&envelope).filter(|_| wanted && envelope.namespace.len() <= MAX_NAME) {
                        self.add(envelope.namespace, id);
                    }
                }
                Ok(None) => return Absence::Unreachable,
                Err(status) => return class_of(&status),
            }
        }
    }
}

/// The container an event is about; `None` for events about other processes than a task's first.
fn id_of(envelope: &Envelope) -> Option<String> {
    let event = envelope.event.as_ref()?.value.as_slice();
    let id = match envelope.topic.as_str() {
        "/tasks/exit" => {
            let exit = TaskExit::decode(event).ok()?;
            (exit.id.is_empty() || exit.id == exit.container_id).then_some(exit.container_id)?
        }
        "/tasks/delete" => {
            let exec = TaskDelete::decode(event).ok()?.id;
            let id = Named::decode(event).ok()?.id;
            (exec.is_empty() || exec == id).then_some(id)?
        }
        _ => Named::decode(event).ok()?.id,
    };
    (!id.is_empty() && id.len() <= MAX_NAME).then_some(id)
}

#[cfg(test)]
mod tests {
    use containerd_client::events;

    use super::*;

    fn envelope(topic: &str, event: Vec<u8>) -> Envelope {
        let event = prost_types::Any { type_url: "containerd.events.Any".to_owned(), value: event };
        Envelope { topic: topic.to_owned(), namespace: "k8s.io".to_owned(), event: Some(event), timestamp: None }
    }

    #[test]
    fn an_event_says_which_container_to_look_at() {
        let id = || "web".to_owned();
        let start = events::TaskStart { container_id: id(), pid: 7 }.encode_to_vec();
        let exit = events::TaskExit { container_id: id(), id: id(), pid: 7, ..Default::default() }.encode_to_vec();
        let exec_exit = events::TaskExit { container_id: id(), id: "probe".to_owned(), pid: 9, ..Default::default() }.encode_to_vec();
        let delete = events::TaskDelete { container_id: id(), ..Default::default() }.encode_to_vec();
        let exec_delete = events::TaskDelete { container_id: id(), id: "probe".to_owned(), ..Default::default() }.encode_to_vec();
        let update = events::ContainerUpdate { id: id(), image: "i".to_owned(), ..Default::default() }.encode_to_vec();
        for (topic, event, expected) in [
            ("/tasks/start", start, Some("web")),
            ("/tasks/exit", exit, Some("web")),
            ("/tasks/exit", exec_exit, None),
            ("/tasks/delete", delete, Some("web")),
            ("/tasks/delete", exec_delete, None),
            ("/containers/update", update, Some("web")),
            ("/containers/delete", vec![0xff, 0xff], None),
            ("/containers/delete", Vec::new(), None),
        ] {
            assert_eq!(id_of(&envelope(topic, event)).as_deref(), expected, "{topic}");
        }
    }

    #[tokio::test]
    async fn a_flood_of_events_ends_in_one_listing() {
        let changes = Changes::new();
        for _ in 0..10_000 {
            changes.add("k8s.io".to_owned(), "web".to_owned());
        }
        assert_eq!(changes.take().await, Changed::Some(BTreeSet::from([("k8s.io".to_owned(), "web".to_owned())])));
        for number in 0..10_000 {
            changes.add("k8s.io".to_owned(), format!("web-{number}"));
        }
        assert_eq!(changes.take().await, Changed::Everything);
    }
}
