//! From an endpoint to a connection: resolve, connect, TLS.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::timeout;

use super::endpoint::{Endpoint, Target};
use super::proxy::{Proxies, Proxy, Way};
use super::tls::Connector;
use super::tunnel;
use crate::config::meaning::{ClientKeepalive, ClientTls};
use crate::runtime::{Io, unpaced_within_the_host};

/// Time for resolving a name, and for one connection with its TLS handshake.
pub const CONNECT: Duration = Duration::from_secs(3);
/// Addresses of a name that are used.
pub const MAX_ADDRESSES: usize = 16;
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

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    Http2,
    /// OTLP/HTTP.
    Http1,
}

impl Protocol {
    /// Its name in TLS (RFC 7301).
    fn alpn(self) -> &'static str {
        match self {
            Self::Http2 => "h2",
            Self::Http1 => "http/1.1",
        }
    }
}

/// Makes connections to one endpoint.
#[derive(Debug)]
pub struct Dialer {
    /// What is connected to: the endpoint, or its proxy.
    target: Target,
    tls: Option<Connector>,
    via: Option<Box<Via>>,
    /// Signs of life that are asked for on its connections.
    pub keepalive: Option<ClientKeepalive>,
}

/// A proxy on the way.
#[derive(Debug)]
struct Via {
    proxy: Proxy,
    tls: Option<Connector>,
    /// The endpoint, as the proxy is asked for it.
    authority: String,
}

impl Dialer {
    /// `tls`: as configured; the endpoint's scheme has the last word. `protocol`: for ALPN.
    ///
    /// # Errors
    /// TLS files and proxies that cannot be used.
    pub fn open(endpoint: &Endpoint, tls: Option<&ClientTls>, protocol: Protocol, proxies: &Proxies) -> Result<Self, String> {
        let host = match &endpoint.target {
            Target::Tcp { host, .. } => host.as_str(),
            _ => "localhost",
        };
        let connector = match (endpoint.secure, tls) {
            (Some(false), _) | (None, None) => None,
            (_, Some(tls)) => Some(Connector::open(tls, host, protocol.alpn())?),
            (Some(true), None) => Some(Connector::open(&ClientTls::default(), host, protocol.alpn())?),
        };
        let way = if protocol == Protocol::Http1 && connector.is_none() { Way::Forward } else { Way::Tunnel };
        let Some(proxy) = proxies.of(endpoint, way)? else {
            return Ok(Self { target: endpoint.target.clone(), tls: connector, via: None, keepalive: None });
        };
        tracing::info!(endpoint = endpoint.authority, %proxy, "connections go through a proxy");
        let target = Target::Tcp { host: proxy.host.clone(), port: proxy.port };
        let secured = proxy.secure.then(|| Connector::open(&ClientTls::default(), &proxy.host, Protocol::Http1.alpn())).transpose()?;
        Ok(Self {
            target,
            tls: connector,
            via: Some(Box::new(Via { proxy, tls: secured, authority: endpoint.authority.clone() })),
            keepalive: None,
        })
    }

    /// To addresses that need no resolving.
    #[cfg(test)]
    pub fn fixed(addresses: &[SocketAddr]) -> Self {
        Self { target: Target::Fixed(addresses.to_vec()), tls: None, via: None, keepalive: None }
    }

    /// As where a name has other addresses by now.
    #[cfg(test)]
    pub fn move_to(&mut self, addresses: &[SocketAddr]) {
        self.target = Target::Fixed(addresses.to_vec());
    }

    /// Whether connections are encrypted.
    #[must_use]
    pub fn secure(&self) -> bool {
        self.tls.is_some()
    }

    /// The proxy that is asked for whole URLs, where there is one.
    #[must_use]
    pub fn forwarder(&self) -> Option<&Proxy> {
        self.via.as_ref().map(|via| &via.proxy).filter(|proxy| proxy.way == Way::Forward)
    }

    /// The addresses connections are made to, at least one.
    ///
    /// # Errors
    /// Says why there is none.
    pub async fn resolve(&self) -> Result<Vec<Remote>, String> {
        let (host, port) = match &self.target {
            Target::Unix(path) => return Ok(vec![Remote::Unix(path.clone())]),
            #[cfg(test)]
            Target::Fixed(addresses) => return Ok(addresses.iter().copied().map(Remote::Tcp).collect()),
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
            let mut plain = plain(remote).await.map_err(|why| why.to_string())?;
            if let Some(via) = &self.via {
                plain = via.through(plain).await.map_err(|why| format!("{}: {why}", via.proxy))?;
            }
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

impl Via {
    /// From a connection to the proxy to one that leads to the endpoint.
    async fn through(&self, plain: Box<dyn Io>) -> Result<Box<dyn Io>, String> {
        let mut io = match &self.tls {
            None => plain,
            Some(connector) => connector.connect(plain).await?,
        };
        if self.proxy.way == Way::Tunnel {
            tunnel::dig(&mut *io, &self.proxy, &self.authority).await?;
        }
        Ok(io)
    }
}

async fn plain(remote: &Remote) -> std::io::Result<Box<dyn Io>> {
    match remote {
        Remote::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        Remote::Tcp(address) => Ok(Box::new(tcp(*address).await?)),
    }
}

async fn tcp(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    unpaced_within_the_host(&socket, address.ip());
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, KEEPALIVE.0)?;
    sockopt::set_tcp_keepintvl(&stream, KEEPALIVE.1)?;
    sockopt::set_tcp_user_timeout(&stream, u32::try_from(UNACKNOWLEDGED.as_millis()).unwrap_or(u32::MAX))?;
    Ok(stream)
}
