//! Processes as they are born and as they take up another program, told by the kernel's process connector.
//!
//! For whoever must know where a process belonged that lived too short to be looked at: it begins in its parent's cgroups.
//! Needs `CONFIG_PROC_EVENTS`, `CAP_NET_ADMIN` and the host's pid and network namespaces (drivers/connector/cn_proc.c).

use std::os::fd::OwnedFd;

use crate::parse::netlink::messages;
use crate::parse::proc_event::{GROUP, ProcEvent, ignore, listen, proc_event};

use super::error::{ErrorClass, HostError, Place};
use super::netlink::{Socket, Wait, Wire};

/// An event of 76 bytes takes 768 of it: some 20 000 between two looks.
const BUFFER: usize = 16 << 20;
/// Events taken at once at most.
const BATCH: usize = 32_768;
/// Messages passed over while the kernel's answer is waited for.
const STRAYS: usize = 4_096;

/// Listens to births. Tells the kernel when dropped.
#[derive(Debug)]
pub struct ForkListener {
    wire: Socket,
}

impl ForkListener {
    /// Asks for events and waits for the kernel's word that they come. Call it from the thread that listens to exits: it
    /// stands in the host's network namespace.
    pub(super) fn open() -> Result<Self, HostError> {
        let mut listener = Self { wire: Socket::for_events(BUFFER, GROUP)? };
        let [first, narrowed] = listen();
        listener.wire.send(&first)?;
        listener.answered()?;
        // Passed over without an answer before 6.6.
        listener.wire.send(&narrowed)?;
        Ok(listener)
    }

    fn answered(&mut self) -> Result<(), HostError> {
        for _ in 0..STRAYS {
            let datagram = self.wire.receive(Wait::Yes)?;
            match messages(datagram).flatten().find_map(|message| proc_event(&message)) {
                Some(ProcEvent::Answer(0)) => return Ok(()),
                Some(ProcEvent::Answer(_)) => return Err(HostError::new(ErrorClass::Denied, Place::Forks)),
                _ => {}
            }
        }
        Err(HostError::new(ErrorClass::Timeout, Place::Forks))
    }

    /// Takes the events there are, oldest first; waits for none. True where some were lost because the buffer was full.
    ///
    /// # Errors
    /// Where the socket no longer works.
    pub fn take(&mut self, mut each: impl FnMut(ProcEvent)) -> Result<bool, HostError> {
        let mut overrun = false;
        for _ in 0..BATCH {
            match self.wire.receive(Wait::No) {
                Ok(datagram) => messages(datagram).flatten().filter_map(|message| proc_event(&message)).for_each(&mut each),
                Err(error) => match error.class() {
                    ErrorClass::Overrun => overrun = true,
                    ErrorClass::Malformed => {}
                    ErrorClass::Timeout => break,
                    _ => return Err(error.at(Place::Forks)),
                },
            }
        }
        Ok(overrun)
    }

    /// A second descriptor, to wait on.
    pub(super) fn watch(&self) -> Result<OwnedFd, HostError> {
        self.wire.watch()
    }
}

impl Drop for ForkListener {
    fn drop(&mut self) {
        // A listener that is merely closed goes on costing before 6.6; more cannot be done.
        let _told = self.wire.send(&ignore());
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn births_and_programs_are_told_in_order_with_the_parent() {
        // Why not is told: another user, another namespace, a kernel without the connector.
        let mut listener = match ForkListener::open() {
            Ok(listener) => listener,
            Err(error) => return println!("not listening here: {error}"),
        };
        let mut children = Vec::new();
        for _ in 0..50 {
            let mut child = Command::new("true").spawn().unwrap();
            child.wait().unwrap();
            children.push(child.id());
        }
        let (mut born, mut ran, mut last) = (Vec::new(), Vec::new(), 0);
        let overrun = listener
            .take(|event| match event {
                ProcEvent::Born { pid, parent, at_ns } if parent == std::process::id() => {
                    assert!(at_ns >= last, "{at_ns} after {last}");
                    last = at_ns;
                    born.push(pid);
                }
                ProcEvent::Exec { pid } if children.contains(&pid) => ran.push(pid),
                _ => {}
            })
            .unwrap();
        born.retain(|pid| children.contains(pid));
        assert_eq!((born, ran, overrun), (children.clone(), children, false));
    }
}
