//! Quotas above a container on this kernel, read as on one that does not tell them apart.

use std::fs;
use std::path::{Path, PathBuf};

use super::live_tests::{Burner, collect, sampler, until};
use super::sampler::Sampler;
use crate::config::meaning::Method;
use crate::model::ContainerKey;

/// A pod of two containers under a quota, in every hierarchy that has to do with CPU time.
struct Pod {
    roots: Vec<PathBuf>,
    name: String,
    ids: [String; 2],
}

impl Pod {
    /// `None` where this host gives no quota to cgroups of ours.
    fn new() -> Option<Self> {
        let v1: Vec<PathBuf> = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpuacct"].map(PathBuf::from).to_vec();
        let unified = !v1[0].join("cgroup.procs").exists();
        let roots = if unified { vec![PathBuf::from("/sys/fs/cgroup")] } else { v1 };
        let pid = std::process::id();
        let ids = [0, 1].map(|number| format!("{pid:032x}{:032x}", 7_000_000 + number));
        let pod = Self { roots, name: format!("stallspan-pod-{pid}"), ids };
        for root in &pod.roots {
            fs::create_dir(root.join(&pod.name)).unwrap();
            if unified {
                // Where it is refused there is no quota, which is seen below.
                drop(fs::write(root.join("cgroup.subtree_control"), "+cpu"));
                drop(fs::write(root.join(&pod.name).join("cgroup.subtree_control"), "+cpu"));
            }
            pod.ids.iter().for_each(|id| fs::create_dir(root.join(&pod.name).join(id)).unwrap());
        }
        let above = pod.roots[0].join(&pod.name);
        let set = if unified { fs::write(above.join("cpu.max"), "5000 100000") } else { fs::write(above.join("cpu.cfs_quota_us"), "5000") };
        (set.is_ok() && pod.local(0).is_some()).then_some(pod)
    }

    fn take(&self, number: usize, burner: &Burner) {
        for root in &self.roots {
            fs::write(root.join(&self.name).join(&self.ids[number]).join("cgroup.procs"), burner.0.id().to_string()).unwrap();
        }
    }

    /// What this kernel tells of a container's own throttling, which one before 6.6 does not.
    fn local(&self, number: usize) -> Option<u64> {
        let text = fs::read_to_string(self.roots[0].join(&self.name).join(&self.ids[number]).join("cpu.stat.local")).ok()?;
        let (key, value) = text.trim().split_once(' ')?;
        Some(value.parse::<u64>().ok()? * if key == "throttled_usec" { 1_000 } else { 1 })
    }

    fn key(&self, sampler: &Sampler) -> Option<ContainerKey> {
        sampler.node.index().live().find(|one| one.id == self.ids[0]).map(|one| one.key)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let remove = |dir: &Path| until("the cgroup is empty", || fs::remove_dir(dir).is_ok());
        for root in &self.roots {
            let above = root.join(&self.name);
            self.ids.iter().map(|id| above.join(id)).filter(|dir| dir.exists()).for_each(|dir| remove(&dir));
            remove(&above);
        }
    }
}

#[test]
fn a_pods_quota_holds_its_only_running_container_back_and_beside_another_it_is_not_known() {
    let Some(pod) = Pod::new() else { return eprintln!("not tested: no quota, or no cpu.stat.local to compare with") };
    let mut sampler = sampler(Method::Taskstats);
    let burner = Burner::spinning();
    pod.take(0, &burner);
    let mut key = None;
    until("the container is known by its cgroup", || {
        collect(&mut sampler);
        key = pod.key(&sampler);
        key.is_some_and(|key| sampler.roster.cells[&key].dirs.is_some())
    });
    let key = key.unwrap();
    let cell = sampler.roster.cells.get_mut(&key).unwrap();
    cell.dirs = cell.dirs.take().map(crate::host::CgroupDirs::without_local);
    let told = |sampler: &mut Sampler| {
        sampler.read_container(key, false);
        sampler.out.clear();
        sampler.roster.cells[&key].account.totals(sampler.supplied).throttled_ns
    };
    // From one reading of which it is known to the next: where this thread starves between two files, it is not.
    let (mut found, mut truth, mut last) = (0, 0, None);
    until("it was held back", || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        let now = told(&mut sampler).zip(pod.local(0));
        if let Some(((told_before, before), (told_after, after))) = last.zip(now) {
            found += told_after - told_before;
            truth += after - before;
        }
        last = now;
        truth > 1_500_000_000
    });
    println!("{found} of {truth} ns");
    // A period in progress at either end.
    assert!(found.abs_diff(truth) < truth / 10 + 200_000_000, "{found} of {truth}");
    let second = Burner::spinning();
    pod.take(1, &second);
    until("beside another it is not known", || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        told(&mut sampler).is_none()
    });
}
