//! A netlink socket to the kernel.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::net::netlink::{CONNECTOR, GENERIC, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send, socket_with, sockopt,
};

use super::error::{HostError, Place};

/// One reply of 596 bytes takes 1283 bytes of this; the kernel's default holds only 166 of them.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Longer than any answer: two structs of 688 bytes and their framing.
const DATAGRAM: usize = 16 << 10;
/// The kernel answers before `send` returns; this only guards against one that does not.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether to wait for a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Up to [`PATIENCE`].
    Yes,
    /// Only what is there already.
    No,
}

/// What carries netlink datagrams; tests bring a kernel of their own.
pub(super) trait Wire {
    fn send(&mut self, bytes: &[u8]) -> Result<(), HostError>;
    fn receive(&mut self, wait: Wait) -> Result<&[u8], HostError>;
}

/// The real one.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    datagram: Vec<u8>,
}

impl Socket {
    pub(super) fn open() -> Result<Self, HostError> {
        Self::try_open(GENERIC, 0, RECEIVE_BUFFER).map_err(HostError::taskstats)
    }

    /// One that holds this many bytes of messages nobody has read yet.
    pub(super) fn with_buffer(bytes: usize) -> Result<Self, HostError> {
        Self::try_open(GENERIC, 0, bytes).map_err(HostError::taskstats)
    }

    /// One of the connector, that gets what is told to these multicast groups.
    pub(super) fn for_events(bytes: usize, groups: u32) -> Result<Self, HostError> {
        Self::try_open(CONNECTOR, groups, bytes).map_err(|errno| HostError::taskstats(errno).at(Place::Forks))
    }

    /// Number by which `/proc/net/netlink` knows it.
    pub(super) fn inode(&self) -> Option<u64> {
        fstat(&self.fd).ok().map(|stat| stat.st_ino)
    }

    /// A second descriptor of the same socket, to wait on it beside its owner.
    pub(super) fn watch(&self) -> Result<OwnedFd, HostError> {
        rustix::io::fcntl_dupfd_cloexec(&self.fd, 0).map_err(HostError::taskstats)
    }

    fn try_open(protocol: Protocol, groups: u32, buffer: usize) -> Result<Self, Errno> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))?;
        if groups != 0 {
            bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        }
        // Connected to the kernel: nobody else's messages get in.
        connect(&fd, &SocketAddrNetlink::new(0, 0))?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(PATIENCE))?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(PATIENCE))?;
        // Forcing needs CAP_NET_ADMIN, as taskstats does; without, what the limit allows is enough for one batch.
        if sockopt::set_socket_recv_buffer_size_force(&fd, buffer).is_err() {
            sockopt::set_socket_recv_buffer_size(&fd, buffer)?;
        }
        Ok(Self { fd, datagram: vec![0; DATAGRAM] })
    }
}

impl Wire for Socket {
    fn send(&mut self, bytes: &[u8]) -> Result<(), HostError> {
        loop {
            match send(&self.fd, bytes, SendFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(HostError::taskstats(errno)),
            }
        }
    }

    fn receive(&mut self, wait: Wait) -> Result<&[u8], HostError> {
        let flags = match wait {
            Wait::Yes => RecvFlags::TRUNC,
            Wait::No => RecvFlags::TRUNC | RecvFlags::DONTWAIT,
        };
        let len = loop {
            match recv(&self.fd, self.datagram.as_mut_slice(), flags) {
                // With MSG_TRUNC the second number is the datagram's own length.
                Ok((_, len)) => break len,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(HostError::taskstats(errno)),
            }
        };
        self.datagram.get(..len).ok_or(HostError::malformed(Place::Taskstats))
    }
}
