//! A running program and its log.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Lab, wait_for};

/// Ended when dropped: asked first, killed when it takes too long.
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
    patience: Duration,
}

impl Running {
    /// Starts a program; what it prints goes to a file of the lab.
    pub fn start(lab: &Lab, name: &str, command: &mut Command) -> Self {
        let log = lab.path(&format!("{name}.log"));
        let file = File::create(&log).unwrap();
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap_or_else(|e| panic!("{name}: {e}"));
        Self { name: name.to_owned(), child, log, patience: Duration::from_secs(40) }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// An answer of a program that may have ended meanwhile: then its log is what one wants to see.
    pub fn alive(&mut self) -> Result<(), String> {
        match self.child.try_wait().unwrap() {
            Some(status) => panic!("{} ended with {status}:\n{}", self.name, last_lines(&self.log())),
            None => Ok(()),
        }
    }

    /// Its exit status, once it has one.
    pub fn ended(&mut self) -> Result<ExitStatus, String> {
        self.child.try_wait().unwrap().ok_or_else(|| format!("{} still runs", self.name))
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().try_into().unwrap()).unwrap();
        // It may have ended by itself: that is what its exit status tells.
        let _gone = kill_process(pid, signal);
    }

    /// Asks it to end and waits; `None` when it had to be killed.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        self.signal(Signal::TERM);
        let end = Instant::now() + self.patience;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _gone = self.child.kill();
        let _status = self.child.wait();
        None
    }

    /// Kills at once what has nothing worth keeping.
    pub fn impatient(mut self) -> Self {
        self.patience = Duration::ZERO;
        self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- last lines of {}\n{}", self.name, last_lines(&self.log()));
        }
        let _status = self.stop();
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].iter().map(|line| format!("    {}\n", line.chars().take(400).collect::<String>())).collect()
}

/// Runs a program to its end; panics with its output when it fails or takes longer than any of them should.
#[track_caller]
pub fn run(lab: &Lab, name: &str, command: &mut Command) -> String {
    const LIMIT: Duration = Duration::from_secs(120);
    let mut running = Running::start(lab, name, command).impatient();
    let status = wait_for(name, LIMIT, || running.ended());
    assert!(status.success(), "{command:?}: {status}");
    running.log()
}

/// A program on this machine's search path, or unpacked beside the peers.
pub fn installed(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| super::peer(name))
}

/// Whether a process of this pid is there.
pub fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
