//! Asking containerd what there is: everything, or one container.

use std::collections::{BTreeMap, HashMap};

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::namespaces_client::NamespacesClient;
use containerd_client::services::v1::sandbox::store_client::StoreClient;
use containerd_client::services::v1::sandbox::{StoreGetRequest, StoreListRequest};
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{
    Container, GetContainerRequest, GetRequest, ListContainersRequest, ListNamespacesRequest, ListTasksRequest,
};
use containerd_client::tonic::{Code, Status};
use containerd_client::types::Sandbox as StoredSandbox;
use containerd_client::types::v1::{Process, Status as TaskStatus};

use super::link::{Link, MAX_MESSAGE, class_of, within};
use crate::containers::MAX_CONTAINERS;
use crate::containers::labels::{KUBERNETES_NAMESPACE, MAX_NAME, Sandbox, bounded, given_name, is_sandbox, kubernetes_names, sandbox};
use crate::containers::record::{RuntimeContainer, RuntimeTask};
use crate::model::{Absence, Wall};

/// Most namespaces looked into.
const MAX_NAMESPACES: usize = 64;

/// The questions, over one connection.
#[derive(Debug)]
pub(super) struct Lister {
    link: Link,
    namespaces: Vec<String>,
    /// containerd before 1.7 has no sandbox store.
    has_sandbox_store: bool,
}

impl Lister {
    /// `namespaces`: those to look into; empty for all.
    pub(super) fn new(link: Link, namespaces: Vec<String>) -> Self {
        Self { link, namespaces, has_sandbox_store: true }
    }

    /// Whether it still answers.
    pub(super) async fn probe(&self) -> Result<(), Absence> {
        self.all_namespaces().await.map(drop)
    }

    /// Everything there is.
    pub(super) async fn everything(&mut self) -> Result<Vec<RuntimeContainer>, Absence> {
        let namespaces = if self.namespaces.is_empty() { self.all_namespaces().await? } else { self.namespaces.clone() };
        let mut found = Vec::new();
        for namespace in namespaces.iter().take(MAX_NAMESPACES) {
            self.namespace(namespace, &mut found).await?;
        }
        Ok(found)
    }

    /// One container; `None` when it is not there.
    pub(super) async fn one(&mut self, namespace: &str, id: &str) -> Result<Option<RuntimeContainer>, Absence> {
        let Some(request) = within(namespace, GetContainerRequest { id: id.to_owned() }) else { return Ok(None) };
        let mut containers = ContainersClient::new(self.link.channel()).max_decoding_message_size(MAX_MESSAGE);
        let stored = if namespace == KUBERNETES_NAMESPACE { self.stored_sandbox(id).await? } else { None };
        let container = match self.link.call(containers.get(request)).await {
            Ok(response) => response.into_inner().container,
            Err(status) if is_not_found(&status) => None,
            Err(status) => return Err(class_of(&status)),
        };
        let task = self.task(namespace, id).await;
        Ok(match (container, stored) {
            (Some(container), stored) => describe(namespace, &container, task, stored),
            (None, Some(stored)) => Some(only_stored(namespace, id, stored)),
            (None, None) => None,
        })
    }

    async fn all_namespaces(&self) -> Result<Vec<String>, Absence> {
        let mut client = NamespacesClient::new(self.link.channel()).max_decoding_message_size(MAX_MESSAGE);
        let listed = self.link.call(client.list(ListNamespacesRequest::default())).await.map_err(|status| class_of(&status))?;
        Ok(listed.into_inner().namespaces.into_iter().map(|namespace| namespace.name).collect())
    }

    async fn namespace(&mut self, namespace: &str, found: &mut Vec<RuntimeContainer>) -> Result<(), Absence> {
        let tasks = self.tasks(namespace).await;
        let mut stored = if namespace == KUBERNETES_NAMESPACE { self.stored_sandboxes().await? } else { BTreeMap::new() };
        let room = MAX_CONTAINERS.saturating_sub(found.len());
        let described = self.containers(namespace, room, |container| {
            let task =
                tasks.as_ref().map_or(RuntimeTask::Unknown, |tasks| tasks.get(&container.id).copied().unwrap_or(RuntimeTask::Stopped));
            describe(namespace, container, task, stored.remove(&container.id))
        });
        let described = described.await.map_err(|status| class_of(&status))?;
        found.extend(described);
        let left = MAX_CONTAINERS.saturating_sub(found.len());
        found.extend(stored.into_iter().take(left).map(|(id, sandbox)| only_stored(namespace, &id, sandbox)));
        Ok(())
    }

    /// Container by container: the bound is on one, so that no single tenant's huge labels can hide all others.
    async fn containers(
        &self,
        namespace: &str,
        room: usize,
        mut describe: impl FnMut(&Container) -> Option<RuntimeContainer>,
    ) -> Result<Vec<RuntimeContainer>, Status> {
        let Some(request) = within(namespace, ListContainersRequest::default()) else { return Ok(Vec::new()) };
        let mut client = ContainersClient::new(self.link.channel()).max_decoding_message_size(MAX_MESSAGE);
        let listing = async {
            let mut described = Vec::new();
            let mut stream = client.list_stream(request).await?.into_inner();
            while let Some(message) = stream.message().await? {
                if described.len() < room {
                    described.extend(message.container.as_ref().and_then(&mut describe));
                }
            }
            Ok(described)
        };
        self.link.call(listing).await
    }

    /// `None` where the tasks could not be asked: a shim that hangs must not hide the containers.
    async fn tasks(&self, namespace: &str) -> Option<HashMap<String, RuntimeTask>> {
        let mut client = TasksClient::new(self.link.channel()).max_decoding_message_size(MAX_MESSAGE);
        let request = within(namespace, ListTasksRequest::default())?;
        let listed = self.link.call(client.list(request)).await.ok()?.into_inner();
        Some(listed.tasks.iter().map(|process| (name_of_task(process).to_owned(), state_of(process))).collect())
    }

    async fn task(&self, namespace: &str, id: &str) -> RuntimeTask {
        let mut client = TasksClient::new(self.link.channel()).max_decoding_message_size(MAX_MESSAGE);
        let Some(request) = within(namespace, GetRequest { container_id: id.to_owned(), exec_id: String::new() }) else {
            return RuntimeTask::Unknown;
        };
        match self.link.call(client.get(request)).await {
            Ok(response) => response.into_inner().process.as_ref().map_or(RuntimeTask::Stopped, state_of),
            Err(status) if is_not_found(&status) => RuntimeTask::Stopped,
            Err(_) => RuntimeTask::Unknown,
        }
    }

    async fn stored_sandboxes(&mut self) -> Result<BTreeMap<String, Sandbox>, Absence> {
        let Some(request) = self.to_store(StoreListRequest::default()) else { return Ok(BTreeMap::new()) };
        let mut client = StoreClient::new(self.link.channel()).max_decoding_message_size(MAX_MESSAGE);
        let listed = self.link.call(client.list(request)).await;
        let listed = self.unless_without_store(listed)?.map(|response| response.into_inner().list).unwrap_or_default();
        Ok(listed.into_iter().take(MAX_CONTAINERS).filter_map(|one| Some((bounded_id(&one.sandbox_id)?, read_stored(&one)?))).collect())
    }

    async fn stored_sandbox(&mut self, id: &str) -> Result<Option<Sandbox>, Absence> {
        let Some(request) = self.to_store(StoreGetRequest { sandbox_id: id.to_owned() }) else { return Ok(None) };
        let mut client = StoreClient::new(self.link.channel()).max_decoding_message_size(MAX_MESSAGE);
        let answer = self.link.call(client.get(request)).await;
        let stored = self.unless_without_store(answer)?.and_then(|response| response.into_inner().sandbox);
        Ok(stored.as_ref().and_then(read_stored))
    }

    fn to_store<T>(&self, message: T) -> Option<containerd_client::tonic::Request<T>> {
        within(KUBERNETES_NAMESPACE, message).filter(|_| self.has_sandbox_store)
    }

    fn unless_without_store<T>(&mut self, answer: Result<T, Status>) -> Result<Option<T>, Absence> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(status) if status.code() == Code::Unimplemented => {
                self.has_sandbox_store = false;
                Ok(None)
            }
            Err(status) if is_not_found(&status) => Ok(None),
            Err(status) => Err(class_of(&status)),
        }
    }
}

fn is_not_found(status: &Status) -> bool {
    status.code() == Code::NotFound
}

/// `Tasks.List` fills `id`, and `container_id` only in newer versions.
fn name_of_task(process: &Process) -> &str {
    if process.container_id.is_empty() { &process.id } else { &process.container_id }
}

fn state_of(process: &Process) -> RuntimeTask {
    if process.status == TaskStatus::Stopped as i32 || process.pid == 0 {
        return RuntimeTask::Stopped;
    }
    RuntimeTask::Running { pid: process.pid }
}

fn bounded_id(id: &str) -> Option<String> {
    (!id.is_empty() && id.len() <= MAX_NAME).then(|| id.to_owned())
}

fn read_stored(stored: &StoredSandbox) -> Option<Sandbox> {
    let mut found = sandbox(&stored.extensions.get("metadata")?.value)?;
    if found.names.pod_uid.is_none() {
        found.names = kubernetes_names(KUBERNETES_NAMESPACE, &stored.labels);
    }
    Some(found)
}

/// A pod whose sandbox is no container (a virtual machine): only its names and addresses are of use.
fn only_stored(namespace: &str, id: &str, stored: Sandbox) -> RuntimeContainer {
    RuntimeContainer {
        namespace: namespace.to_owned(),
        id: id.to_owned(),
        kubernetes: stored.names,
        sandbox: true,
        pod_ips: stored.pod_ips,
        ..RuntimeContainer::default()
    }
}

fn describe(namespace: &str, container: &Container, task: RuntimeTask, stored: Option<Sandbox>) -> Option<RuntimeContainer> {
    let is_sandbox = is_sandbox(namespace, &container.labels);
    let copied = || sandbox(&container.extensions.get("io.cri-containerd.sandbox.metadata")?.value);
    let pod = if is_sandbox { stored.or_else(copied) } else { None };
    Some(RuntimeContainer {
        namespace: namespace.to_owned(),
        id: bounded_id(&container.id)?,
        name: given_name(&container.labels),
        image: bounded(&container.image),
        created: container.created_at.as_ref().and_then(wall_of),
        kubernetes: kubernetes_names(namespace, &container.labels),
        sandbox: is_sandbox,
        pod_ips: pod.map(|pod| pod.pod_ips).unwrap_or_default(),
        task,
    })
}

fn wall_of(time: &prost_types::Timestamp) -> Option<Wall> {
    let nanos = u64::try_from(time.nanos).ok()?;
    u64::try_from(time.seconds).ok()?.checked_mul(1_000_000_000)?.checked_add(nanos).map(Wall)
}

#[cfg(test)]
mod tests {
    use prost_types::{Any, Timestamp};

    use super::*;

    fn json(ip: &str) -> Any {
        let text = format!(
            r#"{{"Version":"v1","Metadata":{{"IP":"{ip}","Config":{{"metadata":{{"name":"web-0","uid":"u","namespace":"shop"}}}}}}}}"#
        );
        Any { type_url: "github.com/containerd/cri/pkg/store/sandbox/Metadata".to_owned(), value: text.into_bytes() }
    }

    fn container(labels: &[(&str, &str)]) -> Container {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Container { id: "a".to_owned(), image: "nginx:1".to_owned(), labels, ..Container::default() }
    }

    #[test]
    fn a_container_is_described_by_what_may_be_believed() {
        let labelled = container(&[("io.kubernetes.pod.uid", "u"), ("io.cri-containerd.kind", "sandbox"), ("nerdctl/name", "web")]);
        for (namespace, sandbox, uid) in [("k8s.io", true, Some("u")), ("default", false, None)] {
            let found = describe(namespace, &labelled, RuntimeTask::Unknown, None).unwrap();
            assert_eq!(
                (found.sandbox, found.kubernetes.pod_uid.as_deref(), found.name.as_deref()),
                (sandbox, uid, Some("web")),
                "{namespace}"
            );
            assert_eq!(found.image.as_deref(), Some("nginx:1"));
        }
        for id in [String::new(), "x".repeat(MAX_NAME + 1)] {
            assert_eq!(describe("default", &Container { id, ..Container::default() }, RuntimeTask::Unknown, None), None);
        }
    }

    #[test]
    fn the_sandbox_store_counts_before_the_copy_beside_the_pause_container() {
        let mut pause = container(&[("io.cri-containerd.kind", "sandbox")]);
        pause.extensions.insert("io.cri-containerd.sandbox.metadata".to_owned(), json("10.0.0.1"));
        let stored = StoredSandbox { extensions: [("metadata".to_owned(), json("10.0.0.2"))].into(), ..StoredSandbox::default() };
        let ip = |found: Option<RuntimeContainer>| found.and_then(|found| found.pod_ips.first().map(ToString::to_string));
        assert_eq!(ip(describe("k8s.io", &pause, RuntimeTask::Unknown, read_stored(&stored))).as_deref(), Some("10.0.0.2"));
        assert_eq!(ip(describe("k8s.io", &pause, RuntimeTask::Unknown, None)).as_deref(), Some("10.0.0.1"));
        assert_eq!(ip(describe("default", &pause, RuntimeTask::Unknown, None)), None);
        let alone = only_stored("k8s.io", "s", read_stored(&stored).unwrap());
        assert_eq!((alone.sandbox, alone.kubernetes.pod_name.as_deref()), (true, Some("web-0")));
    }

    #[test]
    fn a_task_runs_from_its_creation_to_its_end() {
        let process = |pid, status: TaskStatus| Process { pid, status: status as i32, ..Process::default() };
        for (process, expected) in [
            (process(7, TaskStatus::Created), RuntimeTask::Running { pid: 7 }),
            (process(7, TaskStatus::Running), RuntimeTask::Running { pid: 7 }),
            (process(7, TaskStatus::Paused), RuntimeTask::Running { pid: 7 }),
            (process(7, TaskStatus::Stopped), RuntimeTask::Stopped),
            (process(0, TaskStatus::Running), RuntimeTask::Stopped),
        ] {
            assert_eq!(state_of(&process), expected, "{process:?}");
        }
    }

    #[test]
    fn a_time_before_the_epoch_is_unknown() {
        let check = |seconds, nanos, expected| assert_eq!(wall_of(&Timestamp { seconds, nanos }), expected);
        check(2, 5, Some(Wall(2_000_000_005)));
        check(-1, 0, None);
        check(0, -1, None);
        check(i64::MAX, 0, None);
    }
}
