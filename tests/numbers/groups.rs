//! Cgroups with the names of containers, on whatever layout this host has, removed when dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Version 1 controllers that get a group where they are mounted.
const CONTROLLERS: [&str; 3] = ["cpu", "cpuacct", "memory"];
/// How long a cgroup may take to be removed.
const PATIENCE: Duration = Duration::from_secs(10);

/// One container's cgroup in every hierarchy that matters.
pub struct Group {
    /// The container's id.
    pub id: String,
    /// `parent/id`
    below: PathBuf,
    roots: Vec<PathBuf>,
    cpu: PathBuf,
    unified: Option<PathBuf>,
}

impl Group {
    /// Makes `parent/<id of a container>`.
    pub fn new(parent: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let id = format!("{:0>32x}{:0>32x}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let below = Path::new(parent).join(&id);
        let (mut roots, mut cpu, mut unified) = (Vec::new(), None, None);
        for mount in procfs::process::Process::myself().unwrap().mountinfo().unwrap().0 {
            let point = mount.mount_point;
            let v1 = mount.fs_type == "cgroup" && CONTROLLERS.iter().any(|name| mount.super_options.contains_key(*name));
            if mount.fs_type == "cgroup2" {
                unified = Some(point.clone());
            } else if v1 && mount.super_options.contains_key("cpu") {
                cpu = Some(point.clone());
            }
            if v1 || mount.fs_type == "cgroup2" {
                make(&point, &below, !v1);
                roots.push(point);
            }
        }
        let cpu = cpu.or_else(|| unified.clone()).expect("a cgroup hierarchy");
        Self { id, below, roots, cpu, unified }
    }

    /// Whether the cpu controller is on version 2.
    pub fn is_v2(&self) -> bool {
        self.unified.as_ref() == Some(&self.cpu)
    }

    pub fn enter(&self, pid: u32) {
        for root in &self.roots {
            fs::write(root.join(&self.below).join("cgroup.procs"), pid.to_string()).unwrap();
        }
    }

    /// Sets a quota, `levels` up from the container.
    pub fn quota(&self, levels: usize, quota_us: u64, period_us: u64) {
        let dir = self.cpu_dir(levels);
        if self.is_v2() {
            fs::write(dir.join("cpu.max"), format!("{quota_us} {period_us}")).unwrap();
        } else {
            fs::write(dir.join("cpu.cfs_period_us"), period_us.to_string()).unwrap();
            fs::write(dir.join("cpu.cfs_quota_us"), quota_us.to_string()).unwrap();
        }
    }

    /// A field of `cpu.stat`, `levels` up; `None` where the kernel does not tell it. Times in ns.
    pub fn cpu_stat(&self, levels: usize, file: &str, field: &str) -> Option<u64> {
        let text = fs::read_to_string(self.cpu_dir(levels).join(file)).ok()?;
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<u64>().ok());
        match field {
            "throttled" => value("throttled_usec").map(|us| us * 1000).or_else(|| value("throttled_time")),
            _ => value(field),
        }
    }

    /// CPU time of everything that ever ran in it, ns.
    pub fn usage(&self) -> u64 {
        let v1 = self.roots.iter().map(|root| root.join(&self.below).join("cpuacct.usage")).find_map(|file| fs::read_to_string(file).ok());
        match v1 {
            Some(text) => text.trim().parse().unwrap(),
            None => self.cpu_stat(0, "cpu.stat", "usage_usec").unwrap() * 1000,
        }
    }

    /// `some` and `full` of a pressure file in ns; `None` where the host has none.
    pub fn pressure(&self, resource: &str) -> Option<[u64; 2]> {
        let file = self.unified.as_ref()?.join(&self.below).join(format!("{resource}.pressure"));
        let text = fs::read_to_string(file).ok()?;
        let total = |kind: &str| {
            let line = text.lines().find(|line| line.starts_with(kind))?;
            line.split("total=").nth(1)?.trim().parse::<u64>().ok().map(|us| us * 1000)
        };
        Some([total("some")?, total("full")?])
    }

    fn cpu_dir(&self, levels: usize) -> PathBuf {
        self.cpu.join(self.below.ancestors().nth(levels).unwrap())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for root in &self.roots {
            // A group is emptied a moment after its last process was reaped. A check that failed is not to fail once more.
            let begin = Instant::now();
            while fs::remove_dir(root.join(&self.below)).is_err() && begin.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(20));
            }
            for above in self.below.ancestors().skip(1).filter(|above| *above != Path::new("")) {
                // Others may be in it: they remove it then.
                drop(fs::remove_dir(root.join(above)));
            }
        }
    }
}

/// Makes the path; on version 2 controllers are handed down level by level.
fn make(root: &Path, below: &Path, unified: bool) {
    let mut dir = root.to_owned();
    for part in below {
        if unified {
            for controller in ["+cpu", "+memory", "+io"] {
                // A controller that is on version 1, or not built in, refuses: then its files are elsewhere.
                drop(fs::write(dir.join("cgroup.subtree_control"), controller));
            }
        }
        dir.push(part);
        fs::create_dir_all(&dir).unwrap();
    }
}
