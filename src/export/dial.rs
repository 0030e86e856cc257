//! From an endpoint to a connection: resolve, connect, TLS.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::endpoint::{Endpoint, Target};
use super::tls::Connector;
use crate::config::meaning::ClientTls;
use crate::runtime::Io;

/// Time for resolving a name, and for one connection with its TLS handshake.
const CONNECT: Duration = Duration::from_secs(3);
/// Addresses of a name that are used.
const MAX_ADDRESSES: usize = 16;
/// Unacknowledged bytes this old end a connection: a peer that vanished is noticed without HTTP/2 pings, which
/// gRPC servers punish when they come more often than every five minutes.
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);
/// Idle time after which the kernel asks the peer for a sign of life, and between such questions.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// One address of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// TCP.
    Tcp(SocketAddr),
    /// Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "{address}"),
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
        }
    }
}

/// Makes connections to one endpoint.
#[derive(Debug)]
pub struct Dialer {
    target: Target,
    tls: Option<Connector>,
}

impl Dialer {
    /// `tls`: as configured; the endpoint's scheme has the last word. `protocol`: for ALPN.
    ///
    /// # Errors
    /// TLS files that cannot be used.
    pub fn open(endpoint: &Endpoint, tls: Option<&ClientTls>, protocol: &'static str) -> Result<Self, String> {
        let host = match &endpoint.target {
            Target::Tcp { host, .. } => host.as_str(),
            Target::Unix(_) => "localhost",
        };
        let connector = match (endpoint.secure, tls) {
            (Some(false), _) | (None, None) => None,
            (_, Some(tls)) => Some(Connector::open(tls, host, protocol)?),
            (Some(true), None) => Some(Connector::open(&ClientTls::default(), host, protocol)?),
        };
        Ok(Self { target: endpoint.target.clone(), tls: connector })
    }

    /// Whether connections are encrypted.
    #[must_use]
    pub fn secure(&self) -> bool {
        self.tls.is_some()
    }

    /// The endpoint's addresses, at least one.
    ///
    /// # Errors
    /// Says why there is none.
    pub async fn resolve(&self) -> Result<Vec<Remote>, String> {
        let (host, port) = match &self.target {
            Target::Unix(path) => return Ok(vec![Remote::Unix(path.clone())]),
            Target::Tcp { host, port } => (host.as_str(), *port),
        };
        let found = timeout(CONNECT, tokio::net::lookup_host((host, port))).await;
        let found = found.map_err(|_| format!("`{host}` was not resolved within {} s", CONNECT.as_secs()))?;
        let mut remotes: Vec<Remote> = Vec::new();
        for address in found.map_err(|why| format!("`{host}` cannot be resolved: {why}"))? {
            let remote = Remote::Tcp(address);
            if remotes.len() < MAX_ADDRESSES && !remotes.contains(&remote) {
                remotes.push(remote);
            }
        }
        if remotes.is_empty() { Err(format!("`{host}` has no address")) } else { Ok(remotes) }
    }

    /// A new connection to one address.
    ///
    /// # Errors
    /// Names the address and why.
    pub async fn connect(&self, remote: &Remote) -> Result<Box<dyn Io>, String> {
        let connecting = async {
            let plain = plain(remote).await.map_err(|why| why.to_string())?;
            match &self.tls {
                None => Ok(plain),
                Some(connector) => connector.connect(plain).await,
            }
        };
        match timeout(CONNECT, connecting).await {
            Ok(connected) => connected.map_err(|why| format!("{remote}: {why}")),
            Err(_) => Err(format!("{remote}: no connection within {} s", CONNECT.as_secs())),
        }
    }
}

async fn plain(remote: &Remote) -> std::io::Result<Box<dyn Io>> {
    match remote {
        Remote::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        Remote::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            sockopt::set_socket_keepalive(&stream, true)?;
            sockopt::set_tcp_keepidle(&stream, KEEPALIVE.0)?;
            sockopt::set_tcp_keepintvl(&stream, KEEPALIVE.1)?;
            sockopt::set_tcp_user_timeout(&stream, u32::try_from(UNACKNOWLEDGED.as_millis()).unwrap_or(u32::MAX))?;
            Ok(Box::new(stream))
        }
    }
}
