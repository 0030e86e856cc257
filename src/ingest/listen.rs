//! Endpoints as configured -> listening sockets.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::model::Peer;
use crate::runtime::{Io, unpaced_within_the_host};

/// Connections waiting to be accepted.
const BACKLOG: u32 = 1024;

/// Why an endpoint could not be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system refused.
    #[error("cannot listen on {endpoint} ({protocol}): {why}")]
    Listen {
        /// As configured.
        endpoint: String,
        /// `grpc` or `http`
        protocol: &'static str,
        /// What the system says, and what would help.
        why: String,
    },
    /// Its TLS files cannot be used.
    #[error("cannot serve TLS on {endpoint} ({protocol}): {why}")]
    Tls {
        /// As configured.
        endpoint: String,
        /// `grpc` or `http`
        protocol: &'static str,
        /// The file and what is wrong with it.
        why: String,
    },
}

/// Where something listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "{address}"),
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
        }
    }
}

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix socket; its file goes with it.
    Unix(UnixListener, SocketFile),
}

/// The file of a unix socket, removed when dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Listens on every address of `endpoint`; at least one.
    ///
    /// # Errors
    /// Names the address and why.
    pub async fn open(endpoint: &str) -> Result<Vec<Self>, String> {
        match endpoint.strip_prefix("unix:") {
            Some(path) => Ok(vec![Self::unix(Path::new(path.strip_prefix("//").unwrap_or(path))).await?]),
            None => Self::tcp(endpoint).await,
        }
    }

    async fn tcp(endpoint: &str) -> Result<Vec<Self>, String> {
        if let Some(port) = endpoint.strip_prefix(':') {
            // Every address of the host, as everywhere in the Collector's world; `[::]` takes IPv4 too, where there is IPv6.
            let port: u16 = port.parse().map_err(|_| format!("`{port}` is no port"))?;
            let everywhere = Self::on(vec![(Ipv6Addr::UNSPECIFIED, port).into()]);
            return everywhere.or_else(|_| Self::on(vec![(Ipv4Addr::UNSPECIFIED, port).into()]));
        }
        let found = tokio::net::lookup_host(endpoint).await;
        let mut addresses: Vec<SocketAddr> = found.map_err(|why| format!("`{endpoint}` cannot be resolved: {why}"))?.collect();
        if let Some((true, port)) =
            endpoint.rsplit_once(':').map(|(host, _)| host == "localhost").zip(addresses.first().map(SocketAddr::port))
        {
            // Both, whatever /etc/hosts says (RFC 6761 §6.3): some senders try ::1 first.
            addresses.extend::<[SocketAddr; 2]>([(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]);
        }
        addresses.sort();
        addresses.dedup();
        Self::on(addresses)
    }

    fn on(addresses: Vec<SocketAddr>) -> Result<Vec<Self>, String> {
        let mut listeners: Vec<Self> = Vec::new();
        let mut problem = None;
        let mut port = None;
        for mut address in addresses {
            // Port 0 is one port for all addresses of a name.
            if address.port() == 0 {
                address.set_port(port.unwrap_or(0));
            }
            match listen(address) {
                Ok(listener) => {
                    port = listener.local_addr().ok().map(|bound| bound.port());
                    listeners.push(Self::Tcp(listener));
                }
                // A family the host does not have is no reason not to serve the other.
                Err(why) if matches!(why.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported) => {
                    problem.get_or_insert(told(address, &why));
                }
                Err(why) if why.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => {
                    problem.get_or_insert(told(address, &why));
                }
                Err(why) => return Err(told(address, &why)),
            }
        }
        if listeners.is_empty() { Err(problem.unwrap_or_else(|| "the name has no address".to_owned())) } else { Ok(listeners) }
    }

    async fn unix(path: &Path) -> Result<Self, String> {
        let problem = |why: io::Error| format!("{}: {}", path.display(), cure(&why));
        match UnixListener::bind(path) {
            Ok(listener) => Ok(Self::Unix(listener, SocketFile(path.to_owned()))),
            Err(why) if why.kind() == io::ErrorKind::AddrInUse => {
                if !is_socket(path) {
                    return Err(format!("{}: it is there already and is no socket; move it away or choose another path", path.display()));
                }
                // Left behind by one that was killed, or alive?
                match UnixStream::connect(path).await {
                    Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
                        std::fs::remove_file(path).map_err(problem)?;
                        let listener = UnixListener::bind(path).map_err(problem)?;
                        Ok(Self::Unix(listener, SocketFile(path.to_owned())))
                    }
                    _ => Err(problem(why)),
                }
            }
            Err(why) => Err(problem(why)),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(Address::Tcp),
            Self::Unix(_, file) => Some(Address::Unix(file.0.clone())),
        }
    }

    /// The next connection.
    ///
    /// # Errors
    /// What `accept` says; the listener stays usable.
    pub async fn accept(&self) -> io::Result<(Box<dyn Io>, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                Ok(tcp_peer(stream, from))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let pid = stream.peer_cred().ok().and_then(|credentials| credentials.pid()).and_then(|pid| u32::try_from(pid).ok());
                Ok((Box::new(stream), Peer { pid, ..Peer::default() }))
            }
        }
    }
}

fn tcp_peer(stream: TcpStream, from: SocketAddr) -> (Box<dyn Io>, Peer) {
    // Answers are one small write: waiting for more to send with it (Nagle) only delays them. A socket that refuses
    // the option works without it.
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().ok().map(|local| SocketAddr::new(local.ip().to_canonical(), local.port()));
    (Box::new(stream), Peer { ip: Some(from.ip().to_canonical()), port: Some(from.port()), local, ..Peer::default() })
}

/// Whatever else is there is not ours to take away. What cannot be looked at is none.
fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }?;
    // A restart must not wait for connections of the one before to leave TIME_WAIT.
    socket.set_reuseaddr(true)?;
    unpaced_within_the_host(&socket, address.ip());
    if let SocketAddr::V6(v6) = address {
        // `localhost` and `::1` must leave 127.0.0.1 to another socket; `[::]` takes both families.
        rustix::net::sockopt::set_ipv6_v6only(&socket, !v6.ip().is_unspecified())?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn told(address: SocketAddr, why: &io::Error) -> String {
    format!("{address}: {}", cure(why))
}

fn cure(why: &io::Error) -> String {
    match why.kind() {
        io::ErrorKind::AddrInUse => format!("{why}: another process listens there; stop it or choose another endpoint"),
        io::ErrorKind::PermissionDenied => format!("{why}: choose a port above 1023, or a folder this user may write to"),
        io::ErrorKind::AddrNotAvailable => format!("{why}: no interface of this host has that address"),
        _ => why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let first = Listener::open("127.0.0.1:0").await.unwrap();
        let Some(Address::Tcp(address)) = first[0].address() else { panic!("a TCP address") };
        let why = Listener::open(&address.to_string()).await.unwrap_err();
        assert!(why.contains(&address.to_string()) && why.contains("another process listens there"), "{why}");
    }

    #[tokio::test]
    async fn a_name_gets_one_port_on_all_its_addresses() {
        let listeners = Listener::open("localhost:0").await.unwrap();
        let ports: std::collections::BTreeSet<_> = listeners
            .iter()
            .map(|listener| match listener.address() {
                Some(Address::Tcp(address)) => address.port(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(ports.len(), 1);
        assert!(!ports.contains(&0));
    }

    #[tokio::test]
    async fn a_port_alone_is_every_address() {
        let listeners = Listener::open(":0").await.unwrap();
        let Some(Address::Tcp(address)) = listeners[0].address() else { panic!("a TCP address") };
        assert!(address.ip().is_unspecified());
        assert!(TcpStream::connect(("127.0.0.1", address.port())).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_no_address_says_so() {
        for endpoint in ["no-such-name.invalid:4317", "203.0.113.7:0", "unix:///no/such/folder/socket", ":x", "host"] {
            assert!(Listener::open(endpoint).await.is_err(), "{endpoint}");
        }
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("otlp.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let endpoint = format!("unix://{}", path.display());
        let listener = Listener::open(&endpoint).await.unwrap();
        assert_eq!(listener[0].address(), Some(Address::Unix(path.clone())));
        assert!(Listener::open(&endpoint).await.unwrap_err().contains("another process listens there"));
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link, dead) = (folder.path().join("precious"), folder.path().join("link"), folder.path().join("dead.sock"));
        std::fs::write(&file, "precious").unwrap();
        drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
        std::os::unix::fs::symlink(&dead, &link).unwrap();
        for path in [&file, &link, &folder.path().to_owned()] {
            let why = Listener::open(&format!("unix://{}", path.display())).await.unwrap_err();
            assert!(why.contains("is no socket") && why.contains(path.to_str().unwrap()), "{why}");
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink() && dead.exists());
    }
}
