//! Child processes of the demo: this same binary under hidden commands, ended by pid when dropped.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::thread::{CpuSet, sched_setaffinity};

/// A child that waits for one byte on its standard input before it works, and ends when that pipe closes.
#[derive(Debug)]
pub struct Actor {
    child: Child,
}

impl Actor {
    /// Starts this binary with `arguments`.
    pub fn start(arguments: &[String]) -> std::io::Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            // Ctrl-C is for the demo, which ends them: one that ends by itself would look like the end of its scene.
            .process_group(0)
            .spawn()?;
        Ok(Self { child })
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it begin.
    pub fn go(&mut self) -> std::io::Result<()> {
        match self.child.stdin.as_mut() {
            Some(stdin) => stdin.write_all(b"g").and_then(|()| stdin.flush()),
            None => Ok(()),
        }
    }

    /// Its standard output, once.
    pub fn output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // Already ended: both calls say so, which is as good.
        drop(self.child.stdin.take());
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Pins the calling thread to one CPU. A kernel that refuses only makes the demo less crowded.
pub fn pin_to(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    let _pinned = sched_setaffinity(None, &set);
}

/// The last CPU this process may run on: interrupts and the agent tend to sit on the first.
pub fn last_allowed_cpu() -> usize {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return 0 };
    (0..CpuSet::MAX_CPU).rev().find(|cpu| set.is_set(*cpu)).unwrap_or(0)
}
