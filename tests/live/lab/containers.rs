//! A private containerd and real containers in it: busybox from this machine, the machine's libraries bound in read-only.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::{Running, exists, installed, run};
use super::{Lab, wait_for};

const BOUND: &[&str] = &["/lib", "/lib64", "/usr"];
const APPLETS: &[&str] = &["cat", "sh", "sleep", "taskset", "true"];

/// containerd with folders and a socket of its own. Everything it started is gone when it is.
pub struct Containerd {
    process: Option<Running>,
    pub socket: PathBuf,
    rootfs: PathBuf,
    folder: PathBuf,
    cgroup: String,
    names: Vec<(String, String)>,
}

/// What a container is to be.
pub struct Spec<'a> {
    /// The containerd namespace: `k8s.io` for a pod's container.
    pub namespace: &'a str,
    pub id: &'a str,
    pub labels: &'a [(&'a str, &'a str)],
    pub environment: &'a [(&'a str, &'a str)],
    /// Files or folders of this machine, seen inside at the same path, read-only.
    pub bound: &'a [&'a Path],
    pub command: &'a [&'a str],
}

/// A running container.
pub struct Container {
    pub id: String,
    /// Of its first process, as this machine numbers it.
    pub pid: u32,
    log: PathBuf,
}

impl Container {
    /// What it printed so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn wait(&self, limit: Duration) {
        wait_for(&format!("the end of {}", self.id), limit, || if exists(self.pid) { Err("it still runs".to_owned()) } else { Ok(()) });
    }
}

impl Containerd {
    pub fn start(lab: &Lab) -> Self {
        let folder = lab.path("containerd");
        std::fs::create_dir_all(&folder).unwrap();
        let cgroup = format!("/stallspan-live-{}", std::process::id());
        let mut containerd =
            Self { process: None, socket: folder.join("containerd.sock"), rootfs: rootfs(lab), folder, cgroup, names: Vec::new() };
        containerd.begin(lab);
        containerd
    }

    /// Starts the daemon, again after [`Self::kill`]: containers outlive it.
    pub fn begin(&mut self, lab: &Lab) {
        let config = lab.write("containerd.toml", &config(&self.folder, &self.socket));
        let process = Running::start(lab, "containerd", Command::new(installed("containerd")).arg("--config").arg(config));
        let process = self.process.insert(process);
        let socket = self.socket.clone();
        wait_for("containerd", Duration::from_secs(90), || {
            process.alive()?;
            let version = ctr(&socket, "default").arg("version").output().map_err(|e| e.to_string())?;
            if version.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&version.stderr).into_owned()) }
        });
    }

    /// Ends the daemon as a crash would.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.signal(rustix::process::Signal::KILL);
        }
    }

    /// Starts a container with the host's network in a cgroup of its own.
    pub fn run(&mut self, lab: &Lab, spec: &Spec<'_>) -> Container {
        let log = lab.path(&format!("{}.out", spec.id));
        let pid_file = lab.path(&format!("{}.pid", spec.id));
        let mut command = ctr(&self.socket, spec.namespace);
        command.args(["run", "--detach", "--rootfs", "--net-host"]);
        command.args(["--cgroup", &format!("{}/{}/{}", self.cgroup, spec.namespace, spec.id)]);
        command.arg("--log-uri").arg(format!("file://{}", log.display())).arg("--pid-file").arg(&pid_file);
        let pairs = |flag: &str, pairs: &[(&str, &str)]| -> Vec<String> {
            pairs.iter().flat_map(|(key, value)| [flag.to_owned(), format!("{key}={value}")]).collect()
        };
        command.args(pairs("--label", spec.labels)).args(pairs("--env", spec.environment));
        for path in BOUND.iter().map(Path::new).chain(spec.bound.iter().copied()) {
            let path = path.display();
            command.args(["--mount", &format!("type=bind,src={path},dst={path},options=rbind:ro")]);
        }
        command.arg(&self.rootfs).arg(spec.id).args(spec.command);
        self.names.push((spec.namespace.to_owned(), spec.id.to_owned()));
        run(lab, &format!("ctr-{}", spec.id), &mut command);
        let pid = std::fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
        Container { id: spec.id.to_owned(), pid, log }
    }

    /// Ends a container and forgets it.
    pub fn remove(&mut self, namespace: &str, id: &str) {
        self.names.retain(|name| name != &(namespace.to_owned(), id.to_owned()));
        // A container may have ended by itself, or never have come to life: what is left is seen to below.
        let _killed = ctr(&self.socket, namespace).args(["task", "kill", "--all", "--signal", "SIGKILL", id]).output();
        let _deleted = ctr(&self.socket, namespace).args(["task", "delete", "--force", id]).output();
        let _removed = ctr(&self.socket, namespace).args(["container", "delete", id]).output();
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for (namespace, id) in std::mem::take(&mut self.names) {
            self.remove(&namespace, &id);
        }
        drop(self.process.take());
        end_shims(&self.socket);
        remove_cgroups(&self.cgroup);
    }
}

fn ctr(socket: &Path, namespace: &str) -> Command {
    let mut command = Command::new(installed("ctr"));
    command.arg("--address").arg(socket).args(["--namespace", namespace]);
    command
}

/// CRI is left out: it would look for a network of its own, and nothing here asks it.
fn config(folder: &Path, socket: &Path) -> String {
    let (folder, socket) = (folder.display(), socket.display());
    format!(
        "version = 2
root = \"{folder}/root\"
state = \"{folder}/state\"
disabled_plugins = [\"io.containerd.grpc.v1.cri\"]
[grpc]
  address = \"{socket}\"
[ttrpc]
  address = \"{socket}.ttrpc\"
"
    )
}

fn rootfs(lab: &Lab) -> PathBuf {
    let rootfs = lab.path("rootfs");
    for folder in ["bin", "dev", "etc", "proc", "sys", "tmp"].iter().copied().chain(BOUND.iter().map(|path| &path[1..])) {
        std::fs::create_dir_all(rootfs.join(folder)).unwrap();
    }
    std::fs::copy(installed("busybox"), rootfs.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
    }
    rootfs
}

/// Shims outlive their containerd by design; those that served this socket have nobody left to serve.
fn end_shims(socket: &Path) {
    let socket = socket.display().to_string();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let Ok(line) = std::fs::read_to_string(entry.path().join("cmdline")) else { continue };
        let arguments: Vec<&str> = line.split('\0').collect();
        if arguments[0].contains("containerd-shim") && arguments.contains(&socket.as_str()) {
            let _gone = rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL);
        }
    }
}

/// In every hierarchy, the innermost first.
fn remove_cgroups(cgroup: &str) {
    fn remove(folder: &Path) {
        let Ok(entries) = folder.read_dir() else { return };
        entries.flatten().filter(|entry| entry.path().is_dir()).for_each(|entry| remove(&entry.path()));
        // The last process of a group may take a moment to be gone from it.
        for _ in 0..40 {
            if std::fs::remove_dir(folder).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        eprintln!("{} could not be removed", folder.display());
    }
    let name = cgroup.trim_start_matches('/');
    remove(&Path::new("/sys/fs/cgroup").join(name));
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        remove(&hierarchy.path().join(name));
    }
}
