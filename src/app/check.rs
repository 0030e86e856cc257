//! `check`: what this host can supply, through the same rooms as `run`.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::timeout;

use crate::config::Config;
use crate::config::meaning::{Containerd, Exporter};
use crate::containers::{self, RuntimeUpdate};
use crate::export::{Exporters, FileExporter};
use crate::host::{Host, HostError};
use crate::ladder::{self, CheckItem, CheckStatus};
use crate::model::Absence;
use crate::runtime::{Stop, Tasks};
use crate::source;

/// `containers.containerd.endpoint` where nothing else was said.
const DEFAULT_SOCKET: &str = "/run/containerd/containerd.sock";

/// Looks at everything the configuration needs. Starts nothing that stays.
pub async fn look(config: &Config) -> Vec<CheckItem> {
    let tasks = Tasks::new();
    let mut items = match Host::open(&config.sources.procfs_root, &config.sources.cgroupfs_root) {
        Ok(host) => {
            let host = Arc::new(host);
            let mut facts = host.probe();
            source::try_bpf(&host, &mut facts, &config.sources);
            source::try_exits(&host, &mut facts, &config.sources);
            let plan = ladder::plan(&facts, &config.sources);
            ladder::checks(&facts, &plan, &config.sources)
        }
        Err(why) => vec![no_host(&why)],
    };
    let binary = std::env::current_exe().ok();
    items.iter_mut().for_each(|item| name_the_binary(item, binary.as_deref()));
    items.push(containerd(config.containers.containerd.as_ref()).await);
    items.extend(files(config));
    let mut connecting = config.exporters.clone();
    connecting.retain(|_, exporter| !matches!(exporter, Exporter::File(_)));
    match Exporters::open(&connecting, &tasks) {
        Ok(exporters) => {
            for name in connecting.keys() {
                items.push(downstream(&exporters, name).await);
            }
        }
        Err(why) => items.push(no_exporter(why.to_string())),
    }
    items
}

/// The one that was looked from need not be the one in the path, and root's path is another.
fn name_the_binary(item: &mut CheckItem, binary: Option<&Path>) {
    let (Some(cure), Some(binary)) = (&mut item.cure, binary) else { return };
    *cure = cure.replace(ladder::THIS_BINARY, &format!("'{}'", binary.display()));
}

/// Files that would be written to. Looking at them creates none.
fn files(config: &Config) -> impl Iterator<Item = CheckItem> {
    let files = config.exporters.iter().filter_map(|(name, exporter)| match exporter {
        Exporter::File(path) => Some((name, path)),
        _ => None,
    });
    files.map(|(name, path)| match FileExporter::try_out(path) {
        Ok(()) => item("downstream", CheckStatus::Pass, format!("{name}: {} can be written", path.display())),
        Err(why) => no_exporter(format!("{name}: {why}")),
    })
}

/// Paths of the configuration without which `run` does not start, by the parts of their keys; and why.
#[must_use]
pub fn unusable_paths(config: &Config) -> Vec<(Vec<String>, String)> {
    let key = |parts: [&str; 3]| parts.map(str::to_owned).to_vec();
    let procfs = config.sources.procfs_root.as_path();
    let no_procfs = (!procfs.is_dir()).then(|| (key(["sources", "procfs", "root"]), format!("{} is no folder here", procfs.display())));
    let files = config.exporters.iter().filter_map(|(name, exporter)| match exporter {
        Exporter::File(path) => FileExporter::try_out(path).err().map(|why| (key(["exporters", name, "path"]), why)),
        _ => None,
    });
    no_procfs.into_iter().chain(files).collect()
}

/// Without `/proc` there is nothing else to look at.
fn no_host(why: &HostError) -> CheckItem {
    CheckItem {
        lost: Some("everything: no process of this host can be read".to_owned()),
        cure: Some("set sources.procfs.root to where the host's /proc is mounted".to_owned()),
        ..item("procfs", CheckStatus::Fail, why.to_string())
    }
}

/// `run` does not start with it.
fn no_exporter(why: String) -> CheckItem {
    CheckItem {
        lost: Some("everything: the agent does not start".to_owned()),
        cure: Some("correct this exporter in the configuration, or make what it names usable".to_owned()),
        ..item("downstream", CheckStatus::Fail, why)
    }
}

async fn downstream(exporters: &Exporters, name: &str) -> CheckItem {
    match exporters.probe(name).await {
        Ok(place) => item("downstream", CheckStatus::Pass, format!("{name}: {place} can be reached")),
        Err(why) => CheckItem {
            lost: Some(format!("everything sent through {name}: senders are told to try again until it answers")),
            cure: Some(format!("start what should listen there, or correct exporters.{name}.endpoint")),
            ..item("downstream", CheckStatus::Warn, format!("{name}: {why}"))
        },
    }
}

async fn containerd(settings: Option<&Containerd>) -> CheckItem {
    let Some(settings) = settings else {
        return CheckItem {
            lost: Some("names of pods, containers and images; containers are known by their cgroup path only".to_owned()),
            cure: Some("remove `enabled: false` from containers.containerd".to_owned()),
            ..item("containerd", CheckStatus::Warn, "switched off by the configuration".to_owned())
        };
    };
    let socket = settings.socket.display();
    match first_answer(settings.clone()).await {
        Ok(count) => item("containerd", CheckStatus::Pass, format!("{socket} answers; {count} containers")),
        Err(absence) => CheckItem {
            lost: Some("names of pods, containers and images; containers are known by their cgroup path only".to_owned()),
            cure: Some(cure(absence, settings)),
            ..item("containerd", severity(settings), format!("{socket}: {}", absence.word()))
        },
    }
}

/// Nobody asked for the one at the default place: without it, containers are known by their paths. One that somebody pointed
/// us at must answer.
fn severity(settings: &Containerd) -> CheckStatus {
    if settings.socket == Path::new(DEFAULT_SOCKET) { CheckStatus::Warn } else { CheckStatus::Fail }
}

fn cure(absence: Absence, settings: &Containerd) -> String {
    match absence {
        Absence::NoPermission => format!(
            "run the agent as root or in the group that owns {}, or set containers.containerd.enabled: false to do without names",
            settings.socket.display()
        ),
        Absence::Absent => {
            "start containerd, correct containers.containerd.endpoint, or set containers.containerd.enabled: false where there is none"
                .to_owned()
        }
        _ => "systemctl restart containerd".to_owned(),
    }
}

/// The first full list, or why there is none.
async fn first_answer(settings: Containerd) -> Result<usize, Absence> {
    let patience = settings.timeout.min(Duration::from_secs(5)) + Duration::from_millis(500);
    let answered = Stop::new();
    let outcome: Mutex<Result<usize, Absence>> = Mutex::new(Err(Absence::Timeout));
    let sink = |update: RuntimeUpdate| {
        let known = match update {
            RuntimeUpdate::Reconcile(list) => Ok(list.len()),
            RuntimeUpdate::Status(Err(absence)) => Err(absence),
            RuntimeUpdate::Status(Ok(())) | RuntimeUpdate::Upsert(_) | RuntimeUpdate::Gone { .. } => return,
        };
        if let Ok(mut slot) = outcome.lock() {
            *slot = known;
        }
        answered.request();
    };
    let watching = containers::containerd::watch(settings, sink, answered.wait());
    // Out of patience: the outcome says time-out.
    let _ended = timeout(patience, watching).await;
    outcome.into_inner().unwrap_or(Err(Absence::Failed))
}

fn item(id: &'static str, status: CheckStatus, detail: String) -> CheckItem {
    CheckItem { id, status, detail, lost: None, cure: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_socket_that_somebody_named_must_answer() {
        let at = |socket: &str| Containerd { socket: socket.into(), namespaces: Vec::new(), timeout: Duration::from_secs(1) };
        assert_eq!(severity(&at(DEFAULT_SOCKET)), CheckStatus::Warn);
        assert_eq!(severity(&at("/run/k3s/containerd/containerd.sock")), CheckStatus::Fail);
        assert!(cure(Absence::NoPermission, &at(DEFAULT_SOCKET)).starts_with("run the agent as root"));
    }

    #[test]
    fn a_cure_names_the_binary_that_was_asked() {
        let mut item = CheckItem::warn("taskstats", "", "", format!("setcap cap_net_admin+ep {}", ladder::THIS_BINARY));
        name_the_binary(&mut item, Some(Path::new("/opt/new stallspan")));
        assert_eq!(item.cure.as_deref(), Some("setcap cap_net_admin+ep '/opt/new stallspan'"));
    }
}
