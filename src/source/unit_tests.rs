//! Services of the host as culprits, against this kernel.

use std::fs;
use std::path::{Path, PathBuf};

use super::live_tests::{Burner, Container, collect, seeing, singles, until};
use crate::model::CulpritKind;

/// The cgroup of a service, removed at the end.
struct Service {
    slice: PathBuf,
    dir: PathBuf,
}

impl Service {
    fn new(root: &Path, name: &str) -> Self {
        let slice = root.join(format!("stallspan{}.slice", std::process::id()));
        let dir = slice.join(name);
        fs::create_dir_all(&dir).unwrap();
        Self { slice, dir }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        until("the cgroup is empty", || fs::remove_dir(&self.dir).is_ok());
        // The other test's service may still be in it.
        drop(fs::remove_dir(&self.slice));
    }
}

/// Of these hierarchies the first that is here.
fn hierarchy(roots: &[&str]) -> Option<PathBuf> {
    roots.iter().map(PathBuf::from).find(|root| root.join("cgroup.procs").exists())
}

/// A service that runs beside a container on its CPU bears its name, and so do children it has later.
fn is_blamed(root: &Path, name: &str) {
    let Some(mut sampler) = seeing(4 << 20) else { return };
    let (container, service) = (Container::new(), Service::new(root, name));
    let victim = Burner::spinning();
    container.take(&victim.0);
    let culprit = Burner::new("while :; do (i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done); done");
    // Whatever hierarchy this test was put into by others tells of them and not of the service.
    for procs in ["/sys/fs/cgroup/memory/cgroup.procs", "/sys/fs/cgroup/systemd/cgroup.procs"] {
        drop(fs::write(procs, culprit.0.id().to_string()));
    }
    fs::write(service.dir.join("cgroup.procs"), culprit.0.id().to_string()).unwrap();
    collect(&mut sampler);
    let key = container.key(&sampler.node).unwrap();
    let before = victim.schedstat().0;
    until("it has waited", || victim.schedstat().0 > before + 1_000_000_000);
    let told = singles(&collect(&mut sampler), key);
    let found = told.blamed.iter().find(|one| one.name == name).unwrap_or_else(|| panic!("{:?}", told.blamed));
    assert_eq!(found.kind, CulpritKind::Host);
    // The service itself only waits: it is its children who run.
    assert!(found.ns > 20_000_000, "{:?}", told.blamed);
}

#[test]
fn a_service_in_the_hierarchy_of_containers_is_blamed_by_name() {
    if let Some(root) = hierarchy(&["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup"]) {
        is_blamed(&root, "stallspan-test-one.service");
    }
}

/// On v1, systemd keeps services in a hierarchy of its own, and in that of the CPUs only where it has to.
#[test]
fn a_service_in_the_hierarchy_of_systemd_alone_is_blamed_by_name() {
    match hierarchy(&["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"]) {
        Some(root) => is_blamed(&root, "stallspan-test-two.service"),
        None => eprintln!("not tested: there is one hierarchy for all"),
    }
}
