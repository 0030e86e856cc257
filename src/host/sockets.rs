//! Whose a TCP connection of this network namespace is: first its socket, by one question to the kernel, then the
//! processes that hold the socket, by looking through the open files of those that share the namespace.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::fs::readlinkat;
use rustix::io::Errno;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with};

use crate::parse::netlink::messages;
use crate::parse::sock_diag::{inode, question};

use super::error::{HostError, Place};
use super::files::{Root, Walk, entries};
use super::process;

/// Longer than any answer about one socket.
const ANSWER: usize = 4096;
/// Open files looked at in one search.
const MAX_FILES: usize = 1 << 20;
/// Processes told to hold one socket.
const MAX_HOLDERS: usize = 16;

/// Asks the kernel about TCP sockets of the agent's own network namespace.
#[derive(Debug)]
pub struct SocketDiag {
    fd: OwnedFd,
    seq: u32,
}

impl SocketDiag {
    /// Opens the socket. The kernel may load the module that answers at the first question.
    pub fn open() -> Result<Self, HostError> {
        let fail = |errno| HostError::file("NETLINK_SOCK_DIAG", errno);
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(SOCK_DIAG)).map_err(fail)?;
        connect(&fd, &SocketAddrNetlink::new(0, 0)).map_err(fail)?;
        Ok(Self { fd, seq: 0 })
    }

    /// Inode of the socket bound to `own` and connected to `other`; `None` where there is none in this namespace. The kernel
    /// has answered when `send` returns: this never waits.
    pub fn inode(&mut self, own: SocketAddr, other: SocketAddr) -> Option<u64> {
        self.seq = self.seq.wrapping_add(1);
        let question = question(self.seq, own, other);
        if question.is_empty() {
            return None;
        }
        send(&self.fd, &question, SendFlags::DONTWAIT).ok()?;
        let mut answer = [0; ANSWER];
        loop {
            let (_, length) = match recv(&self.fd, answer.as_mut_slice(), RecvFlags::TRUNC | RecvFlags::DONTWAIT) {
                Err(Errno::INTR) => continue,
                other => other.ok()?,
            };
            // An older question's answer may still be there where reading it was broken off.
            let answers = messages(answer.get(..length)?).map_while(Result::ok);
            if let Some(mine) = answers.filter(|message| message.seq == self.seq).last() {
                return inode(&mine, own, other);
            }
        }
    }
}

/// Processes that hold the socket with this inode, ascending: those of the agent's network namespace only, for in it the
/// socket was made. A process may hold a socket of another namespace; such a holder is not found.
pub(super) fn holders(proc: &Root, inode: u64) -> Result<Vec<u32>, HostError> {
    let wanted = target(inode);
    let own = proc.link("self/ns/net").map_err(|errno| HostError::file(proc.path("self/ns/net"), errno))?;
    let mut pids = Vec::new();
    process::pids(proc, &mut pids)?;
    let (mut found, mut left) = (Vec::new(), MAX_FILES);
    for pid in pids {
        // A process that is gone, or that the agent may not look into, holds nothing that can be told.
        let same_namespace = proc.link(&format!("{pid}/ns/net")).is_ok_and(|namespace| namespace == own);
        if same_namespace && holds(proc, pid, &wanted, &mut left) {
            found.push(pid);
        }
        if left == 0 {
            // Half a search could name one holder of several.
            return Err(HostError::malformed(Place::File(proc.path(""))));
        }
        if found.len() >= MAX_HOLDERS {
            break;
        }
    }
    Ok(found)
}

/// Whether the process holds the socket with this inode.
pub(super) fn is_holder(proc: &Root, pid: u32, inode: u64) -> bool {
    holds(proc, pid, &target(inode), &mut { MAX_FILES })
}

/// What the link of such a socket's open file says.
fn target(inode: u64) -> Vec<u8> {
    format!("socket:[{inode}]").into_bytes()
}

/// Looks through at most `left` open files.
fn holds(proc: &Root, pid: u32, wanted: &[u8], left: &mut usize) -> bool {
    let Ok(files) = proc.open_dir(&format!("{pid}/fd")) else { return false };
    let mut found = false;
    let _listed = entries(&files, |name, _| {
        *left = left.saturating_sub(1);
        found = readlinkat(&files, name, Vec::new()).is_ok_and(|target| target.as_bytes() == wanted);
        if found || *left == 0 { Walk::Stop } else { Walk::Go }
    });
    found
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::*;

    fn proc() -> Root {
        Root::open(Path::new("/proc")).unwrap()
    }

    #[test]
    fn the_kernel_names_the_socket_of_a_connection_and_its_holder() {
        let mut diag = SocketDiag::open().unwrap();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let here = listener.local_addr().unwrap();
            let client = TcpStream::connect(here).unwrap();
            let (server, from) = listener.accept().unwrap();
            let of = |fd| rustix::fs::fstat(fd).unwrap().st_ino;
            assert_eq!(diag.inode(from, here), Some(of(std::os::fd::AsFd::as_fd(&client))), "{address}");
            assert_eq!(diag.inode(here, from), Some(of(std::os::fd::AsFd::as_fd(&server))), "{address}");
            // A child that another test starts holds everything of this process until it takes up its program.
            let deadline = Instant::now() + Duration::from_secs(30);
            let socket = diag.inode(from, here).unwrap();
            while holders(&proc(), socket).unwrap() != [std::process::id()] {
                assert!(Instant::now() < deadline, "{:?}", holders(&proc(), socket));
            }
        }
    }

    #[test]
    fn who_listens_is_not_taken_for_who_connected() {
        let mut diag = SocketDiag::open().unwrap();
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let from: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
        assert_eq!(diag.inode(from, "127.0.0.1:9".parse().unwrap()), None);
        assert_eq!(diag.inode("192.0.2.1:4000".parse().unwrap(), from), None);
    }

    #[test]
    fn a_socket_nobody_holds_has_no_holders() {
        assert_eq!(holders(&proc(), 1).unwrap(), Vec::<u32>::new());
    }

    #[test]
    fn a_tree_without_namespaces_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(holders(&Root::open(dir.path()).unwrap(), 1).is_err());
    }
}
