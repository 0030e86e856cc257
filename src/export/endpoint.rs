//! Endpoints of exporters as people write them.

use std::path::PathBuf;

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// What is connected to.
    pub target: Target,
    /// Whether the scheme asks for TLS (`https`) or forbids it (`http`); `None` where it does not say.
    pub secure: Option<bool>,
    /// Host and port as the server is called.
    pub authority: String,
    /// Path of a URL without the slash at its end.
    pub path: String,
}

/// What is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A name or an address, and a port.
    Tcp {
        /// Without the brackets of an IPv6 address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// A unix socket.
    Unix(PathBuf),
    /// Addresses that need no resolving.
    #[cfg(test)]
    Fixed(Vec<std::net::SocketAddr>),
}

/// Ports where none is written.
const GRPC_PORT: u16 = 4317;

/// Reads an endpoint of `otlp_grpc`: `host:port`, `http://…`, `https://…`, `dns:///…`, `unix:///…`.
///
/// # Errors
/// Says what is wrong.
pub fn grpc(text: &str) -> Result<Endpoint, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return Ok(Endpoint { target: Target::Unix(path.into()), secure: None, authority: "localhost".to_owned(), path: String::new() });
    }
    if let Some(url) = Url::split(text) {
        return match url.scheme {
            "http" => tcp(url.authority, GRPC_PORT, Some(false), ""),
            "https" => tcp(url.authority, 443, Some(true), ""),
            // gRPC's names for resolvers: the authority names a DNS server, the path the host.
            "dns" | "passthrough" => tcp(url.path.trim_start_matches('/'), GRPC_PORT, None, ""),
            other => Err(format!("`{other}://` is not known: write host:port, http://, https://, dns:/// or unix://")),
        };
    }
    tcp(text.strip_prefix("dns:").unwrap_or(text), GRPC_PORT, None, "")
}

/// Reads an endpoint of `otlp_http`: a URL.
///
/// # Errors
/// Says what is wrong.
pub fn http(text: &str) -> Result<Endpoint, String> {
    let url = Url::split(text).ok_or("not a URL: write http://host:port or https://host:port")?;
    match url.scheme {
        "http" => tcp(url.authority, 80, Some(false), url.path),
        "https" => tcp(url.authority, 443, Some(true), url.path),
        other => Err(format!("`{other}://` is not known: write http:// or https://")),
    }
}

struct Url<'t> {
    scheme: &'t str,
    authority: &'t str,
    path: &'t str,
}

impl<'t> Url<'t> {
    fn split(text: &'t str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (authority, path) = rest.find('/').and_then(|slash| rest.split_at_checked(slash)).unwrap_or((rest, ""));
        Some(Self { scheme, authority, path: path.trim_end_matches('/') })
    }
}

fn tcp(authority: &str, default_port: u16, secure: Option<bool>, path: &str) -> Result<Endpoint, String> {
    if authority.contains('@') {
        return Err("a user in the endpoint is not supported: put credentials into headers".to_owned());
    }
    let (host, port) = split_port(authority)?;
    if host.is_empty() {
        return Err("the host is missing".to_owned());
    }
    let authority = if port.is_some() { authority.to_owned() } else { format!("{authority}:{default_port}") };
    let target = Target::Tcp { host: host.to_owned(), port: port.unwrap_or(default_port) };
    Ok(Endpoint { target, secure, authority, path: path.to_owned() })
}

/// Host (without brackets) and port.
///
/// # Errors
/// Says what is wrong.
pub fn split_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    let number = |port: &str| port.parse().map_err(|_| format!("`{port}` is no port"));
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("the bracket of the IPv6 address is not closed")?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(number(port)?))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(format!("`{rest}` behind the IPv6 address is no port")),
        };
    }
    match authority.rsplit_once(':') {
        Some((host, _)) if host.contains(':') => Err("an IPv6 address needs brackets: [::1]:4317".to_owned()),
        Some((host, port)) => Ok((host, Some(number(port)?))),
        None => Ok((authority, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(endpoint: Result<Endpoint, String>) -> String {
        match endpoint {
            Err(why) => format!("error: {why}"),
            Ok(endpoint) => {
                let secure = endpoint.secure.map_or("-", |secure| if secure { "tls" } else { "plain" });
                match endpoint.target {
                    Target::Tcp { host, port } => {
                        format!("{host} {port} {secure} {} {}", endpoint.authority, endpoint.path).trim().to_owned()
                    }
                    Target::Unix(path) => format!("unix {}", path.display()),
                    Target::Fixed(addresses) => format!("{addresses:?}"),
                }
            }
        }
    }

    #[test]
    fn grpc_endpoints() {
        for (text, expected) in [
            ("otel-collector:4317", "otel-collector 4317 - otel-collector:4317"),
            ("otel-collector", "otel-collector 4317 - otel-collector:4317"),
            ("http://127.0.0.1:14317", "127.0.0.1 14317 plain 127.0.0.1:14317"),
            ("http://127.0.0.1:14317/", "127.0.0.1 14317 plain 127.0.0.1:14317"),
            ("https://tempo.example", "tempo.example 443 tls tempo.example:443"),
            ("dns:///tempo:4317", "tempo 4317 - tempo:4317"),
            ("dns://8.8.8.8/tempo:4317", "tempo 4317 - tempo:4317"),
            ("dns:tempo:4317", "tempo 4317 - tempo:4317"),
            ("[::1]:4317", "::1 4317 - [::1]:4317"),
            ("https://[::1]", "::1 443 tls [::1]:443"),
            ("unix:///run/otlp.sock", "unix /run/otlp.sock"),
            ("unix:otlp.sock", "unix otlp.sock"),
            ("::1:4317", "error: an IPv6 address needs brackets: [::1]:4317"),
            ("[::1:4317", "error: the bracket of the IPv6 address is not closed"),
            ("[::1]4317", "error: `4317` behind the IPv6 address is no port"),
            ("host:99999", "error: `99999` is no port"),
            ("host:", "error: `` is no port"),
            (":4317", "error: the host is missing"),
            ("", "error: the host is missing"),
            ("ftp://host", "error: `ftp://` is not known: write host:port, http://, https://, dns:/// or unix://"),
            ("http://me:secret@host", "error: a user in the endpoint is not supported: put credentials into headers"),
        ] {
            assert_eq!(told(grpc(text)), expected, "{text:?}");
        }
    }

    #[test]
    fn http_endpoints() {
        for (text, expected) in [
            ("http://localhost:4318", "localhost 4318 plain localhost:4318"),
            ("https://tempo.example/otlp/", "tempo.example 443 tls tempo.example:443 /otlp"),
            ("http://host/v1/traces", "host 80 plain host:80 /v1/traces"),
            ("host:4318", "error: not a URL: write http://host:port or https://host:port"),
            ("grpc://host", "error: `grpc://` is not known: write http:// or https://"),
        ] {
            assert_eq!(told(http(text)), expected, "{text:?}");
        }
    }
}
