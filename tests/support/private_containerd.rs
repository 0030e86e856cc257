//! A containerd of the test's own, with runc and busybox containers. Everything it makes is gone when it is dropped.
//!
//! Needs root and Debian's `containerd`, `runc` and `busybox-static`; where one is missing the test fails and says so.

use std::cell::{Cell, RefCell};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::{Container as Stored, UpdateContainerRequest};
use containerd_client::tonic::Request;
use containerd_client::with_namespace;
use tempfile::TempDir;

/// Longest any step may take.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The server, its directory and its containers.
pub struct PrivateContainerd {
    directory: TempDir,
    server: RefCell<Option<Child>>,
    containers: RefCell<Vec<(String, String)>>,
    numbered: Cell<u32>,
}

impl PrivateContainerd {
    /// Starts a server with its own root, state and socket, and waits until it answers.
    pub fn start() -> Self {
        assert!(rustix::process::geteuid().is_root(), "needs root: containers cannot be started without");
        for tool in ["containerd", "ctr", "runc", "busybox"] {
            let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|path| path.join(tool).exists());
            assert!(found || Path::new("/usr/sbin").join(tool).exists(), "needs {tool}: apt-get install containerd runc busybox-static");
        }
        let directory = tempfile::Builder::new().prefix("stallspan-containerd-").tempdir().unwrap();
        let own = Self { directory, server: RefCell::new(None), containers: RefCell::new(Vec::new()), numbered: Cell::new(0) };
        own.write_config();
        own.write_rootfs();
        own.launch();
        own
    }

    fn write_config(&self) {
        let path = self.directory.path().display();
        let disabled = [
            "grpc.v1.cri",
            "internal.v1.opt",
            "snapshotter.v1.aufs",
            "snapshotter.v1.btrfs",
            "snapshotter.v1.devmapper",
            "snapshotter.v1.zfs",
        ];
        let disabled: Vec<String> = disabled.iter().map(|name| format!("\"io.containerd.{name}\"")).collect();
        let config = format!(
            "version = 2\nroot = \"{path}/root\"\nstate = \"{path}/state\"\ndisabled_plugins = [{}]\n\
             [grpc]\naddress = \"{path}/containerd.sock\"\n[ttrpc]\naddress = \"{path}/containerd.sock.ttrpc\"\n",
            disabled.join(", ")
        );
        fs::write(self.directory.path().join("config.toml"), config).unwrap();
    }

    fn write_rootfs(&self) {
        let rootfs = self.rootfs();
        for directory in ["bin", "proc", "sys", "dev", "etc", "tmp"] {
            fs::create_dir_all(rootfs.join(directory)).unwrap();
        }
        let busybox = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| Path::new(path).exists()).unwrap();
        fs::copy(busybox, rootfs.join("bin/busybox")).unwrap();
        for applet in ["sh", "sleep"] {
            symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
        }
    }

    fn rootfs(&self) -> PathBuf {
        self.directory.path().join("rootfs")
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("containerd.sock")
    }

    /// Starts the server (again) and waits until it answers.
    pub fn launch(&self) {
        let log = fs::File::create(self.directory.path().join("log")).unwrap();
        let config = self.directory.path().join("config.toml");
        let mut command = Command::new("containerd");
        command.arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        *self.server.borrow_mut() = Some(command.spawn().unwrap());
        let begun = Instant::now();
        while !self.ctr("default", &["version"]).status.success() {
            assert!(begun.elapsed() < DEADLINE, "containerd does not answer: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(&self) {
        if let Some(mut server) = self.server.borrow_mut().take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// Sends a signal to the server.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let server = self.server.borrow();
        let pid = rustix::process::Pid::from_raw(server.as_ref().unwrap().id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn ctr(&self, namespace: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.socket()).args(["--namespace", namespace, "--connect-timeout", "2s"]).args(arguments);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// An id nobody else on this host uses: runc keeps one directory for all.
    pub fn fresh_id(&self, name: &str) -> String {
        self.numbered.set(self.numbered.get() + 1);
        format!("{name}-{}-{}", std::process::id(), self.numbered.get() + 1_000 * self.server.borrow().as_ref().map_or(0, Child::id))
    }

    /// Runs `arguments` in a container and answers the pid of its first process.
    pub fn run(&self, namespace: &str, id: &str, labels: &[(&str, &str)], arguments: &[&str]) -> u32 {
        let labels: Vec<String> = labels.iter().flat_map(|(key, value)| ["--label".to_owned(), format!("{key}={value}")]).collect();
        let rootfs = self.rootfs();
        let mut all = vec!["run", "--detach", "--rootfs"];
        all.extend(labels.iter().map(String::as_str));
        all.extend([rootfs.to_str().unwrap(), id]);
        all.extend(arguments);
        self.containers.borrow_mut().push((namespace.to_owned(), id.to_owned()));
        let ran = self.ctr(namespace, &all);
        assert!(ran.status.success(), "ctr run {id}: {}\n{}", String::from_utf8_lossy(&ran.stderr), self.log());
        self.pid_of(namespace, id).unwrap()
    }

    /// Writes a pod's address onto its sandbox, as containerd's CRI service does.
    pub async fn address(&self, sandbox: &str, pod: &str, ip: &str) {
        let metadata = format!(r#"{{"Version":"v1","Metadata":{{"IP":"{ip}","Config":{{"metadata":{{"name":"{pod}"}}}}}}}}"#);
        let value = prost_types::Any { type_url: "sandbox.Metadata".to_owned(), value: metadata.into_bytes() };
        let extensions = [("io.cri-containerd.sandbox.metadata".to_owned(), value)].into();
        let update = UpdateContainerRequest {
            container: Some(Stored { id: sandbox.to_owned(), extensions, ..Stored::default() }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["extensions".to_owned()] }),
        };
        let channel = containerd_client::connect(self.socket()).await.unwrap();
        ContainersClient::new(channel).update(with_namespace!(update, "k8s.io")).await.unwrap();
    }

    /// Starts the task of a container that has none.
    pub fn start_again(&self, namespace: &str, id: &str) -> u32 {
        let started = self.ctr(namespace, &["tasks", "start", "--detach", id]);
        assert!(started.status.success(), "ctr tasks start {id}: {}", String::from_utf8_lossy(&started.stderr));
        self.pid_of(namespace, id).unwrap()
    }

    fn pid_of(&self, namespace: &str, id: &str) -> Option<u32> {
        let listed = String::from_utf8(self.ctr(namespace, &["tasks", "list"]).stdout).unwrap();
        let line = listed.lines().find(|line| line.split_whitespace().next() == Some(id))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// Ends and deletes a task; the container stays.
    pub fn stop_task(&self, namespace: &str, id: &str) {
        let begun = Instant::now();
        self.ctr(namespace, &["tasks", "kill", "--signal", "SIGKILL", id]);
        while !self.ctr(namespace, &["tasks", "delete", id]).status.success() && self.pid_of(namespace, id).is_some() {
            assert!(begun.elapsed() < DEADLINE, "the task of {id} does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends a container and deletes it.
    pub fn remove(&self, namespace: &str, id: &str) {
        self.stop_task(namespace, id);
        self.ctr(namespace, &["containers", "delete", id]);
        self.containers.borrow_mut().retain(|(known, kept)| (known.as_str(), kept.as_str()) != (namespace, id));
    }
}

impl Drop for PrivateContainerd {
    fn drop(&mut self) {
        let left = self.containers.borrow().clone();
        if !left.is_empty() && !std::thread::panicking() && self.server.borrow().is_none() {
            self.launch();
        }
        let mut namespaces: Vec<&str> = Vec::new();
        for (namespace, id) in &left {
            self.remove(namespace, id);
            namespaces.push(namespace);
        }
        self.kill();
        // The parents that runc made; a directory that others use is not empty and stays.
        for namespace in namespaces.into_iter().chain(["k8s.io", "default"]) {
            for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
                let _ = fs::remove_dir(hierarchy.path().join(namespace));
            }
            let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(namespace));
        }
    }
}
