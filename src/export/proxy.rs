//! Proxies of the environment: `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, read as Go's `net/http` reads them, so that a
//! node set up for the Collector needs nothing new.

use std::fmt;
use std::net::IpAddr;

use http::header::HeaderValue;

use super::endpoint::{Endpoint, Target, split_port};
use crate::otlp::status::base64;

/// Where a proxy's URL names no port.
const DEFAULT_PORTS: (u16, u16) = (80, 443);

/// What the environment says.
#[derive(Clone, Default)]
pub struct Proxies {
    http: Option<Setting>,
    https: Option<Setting>,
    none: Vec<Exception>,
}

#[derive(Clone)]
struct Setting {
    variable: &'static str,
    /// May carry a password: shown nowhere.
    url: String,
}

/// How an exporter's connections use a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `CONNECT`: bytes pass through. gRPC, with and without TLS, and `https://`.
    Tunnel,
    /// The proxy is asked for the whole URL. `http://`.
    Forward,
}

/// One proxy, for connections to one endpoint.
#[derive(Clone)]
pub struct Proxy {
    variable: &'static str,
    /// Its own address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether it is spoken to over TLS.
    pub secure: bool,
    /// `Proxy-Authorization`, marked as secret.
    pub authorization: Option<HeaderValue>,
    /// How it is used.
    pub way: Way,
}

/// An entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    Everything,
    Network { address: IpAddr, bits: u8, port: Option<u16> },
    Name { name: String, itself: bool, port: Option<u16> },
}

impl Proxies {
    /// As the process was started.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "a fact about where the agent runs, not configuration")]
    pub fn of_environment() -> Self {
        Self::read(|name| std::env::var(name).ok())
    }

    /// `get`: a variable's value. Capital letters come first.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Self {
        let either = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, get(name).filter(|text| !text.is_empty())?)));
        let setting = |names| either(names).map(|(variable, url)| Setting { variable, url });
        let none = either(["NO_PROXY", "no_proxy"]).map_or_else(String::new, |(_, text)| text);
        Self {
            http: setting(["HTTP_PROXY", "http_proxy"]),
            https: setting(["HTTPS_PROXY", "https_proxy"]),
            none: none.split(',').filter_map(Exception::read).collect(),
        }
    }

    /// The proxy for connections to `endpoint`, if there is one. gRPC asks for `Tunnel` and so for `HTTPS_PROXY`, with and
    /// without TLS, as grpc-go does.
    ///
    /// # Errors
    /// Names the variable whose value is no proxy; never tells the value.
    pub fn of(&self, endpoint: &Endpoint, way: Way) -> Result<Option<Proxy>, String> {
        let Target::Tcp { host, port } = &endpoint.target else { return Ok(None) };
        let setting = match way {
            Way::Tunnel => &self.https,
            Way::Forward => &self.http,
        };
        match setting {
            Some(setting) if !self.excepts(host, *port) => setting.proxy(way).map(Some),
            _ => Ok(None),
        }
    }

    /// This machine's own addresses are never asked for elsewhere.
    fn excepts(&self, host: &str, port: u16) -> bool {
        let address: Option<IpAddr> = host.parse().ok();
        let own = host == "localhost" || address.is_some_and(|address| address.to_canonical().is_loopback());
        own || self.none.iter().any(|exception| exception.covers(host, address, port))
    }
}

impl Setting {
    fn proxy(&self, way: Way) -> Result<Proxy, String> {
        let wrong = |why: &str| format!("{} {why} (its value is not shown, it may carry a password)", self.variable);
        let (secure, rest) = match self.url.split_once("://") {
            None => (false, self.url.as_str()),
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(_) => return Err(wrong("has a scheme that is not spoken here: only http:// and https:// are")),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, address) = authority.rsplit_once('@').map_or((None, authority), |(user, address)| (Some(user), address));
        let (host, port) = split_port(address).map_err(|_| wrong("is no proxy's address"))?;
        if host.is_empty() {
            return Err(wrong("names no host"));
        }
        let authorization = user.map(|user| authorization(user).ok_or_else(|| wrong("has a user that cannot be sent"))).transpose()?;
        let default = if secure { DEFAULT_PORTS.1 } else { DEFAULT_PORTS.0 };
        Ok(Proxy { variable: self.variable, host: host.to_owned(), port: port.unwrap_or(default), secure, authorization, way })
    }
}

/// `user:password`, percent-encoded as in a URL, as the basic scheme of RFC 7617.
fn authorization(user: &str) -> Option<HeaderValue> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let plain = [decoded(name)?, b":".to_vec(), decoded(password)?].concat();
    let mut value = HeaderValue::try_from(format!("Basic {}", base64::encode(&plain, true))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        plain.push(if byte == b'%' { digit(bytes.next()?)? << 4 | digit(bytes.next()?)? } else { byte });
    }
    Some(plain)
}

impl Exception {
    fn read(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text == "*" {
            return Some(Self::Everything);
        }
        if let Some((address, bits)) = text.split_once('/') {
            let (address, bits) = (address.parse::<IpAddr>().ok()?, bits.parse().ok()?);
            return Some(Self::Network { address, bits, port: None });
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Network { address, bits: u8::MAX, port: None });
        }
        let (host, port) = split_port(&text).ok()?;
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(Self::Network { address, bits: u8::MAX, port });
        }
        let host = host.strip_prefix('*').unwrap_or(host);
        let (name, itself) = host.strip_prefix('.').map_or((host, true), |name| (name, false));
        (!name.is_empty()).then(|| Self::Name { name: name.to_owned(), itself, port })
    }

    fn covers(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        match self {
            Self::Everything => true,
            Self::Network { address: network, bits, port: only } => {
                only.is_none_or(|only| only == port) && address.is_some_and(|address| within(address, *network, *bits))
            }
            Self::Name { name, itself, port: only } => {
                let host = host.trim_end_matches('.').to_ascii_lowercase();
                let below = host.strip_suffix(name.as_str());
                only.is_none_or(|only| only == port) && below.is_some_and(|below| below.ends_with('.') || (*itself && below.is_empty()))
            }
        }
    }
}

/// Whether the first `bits` of both are the same; more bits than there are mean all.
fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let shift = |all: u32| all.saturating_sub(u32::from(bits));
    match (address.to_canonical(), network.to_canonical()) {
        (IpAddr::V4(address), IpAddr::V4(network)) => (address.to_bits() ^ network.to_bits()).checked_shr(shift(32)).unwrap_or(0) == 0,
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits() ^ network.to_bits()).checked_shr(shift(128)).unwrap_or(0) == 0,
        _ => false,
    }
}

/// Without its credentials.
impl fmt::Display for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{} ({})", self.host, self.port, self.variable)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Without values, which may carry credentials.
impl fmt::Debug for Proxies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = [&self.http, &self.https].into_iter().flatten().map(|setting| setting.variable);
        formatter.debug_list().entries(set).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::endpoint;
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::read(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    fn told(variables: &[(&str, &str)], endpoint: &str, way: Way) -> String {
        match proxies(variables).of(&endpoint::grpc(endpoint).unwrap(), way) {
            Ok(None) => "direct".to_owned(),
            Ok(Some(proxy)) => proxy.to_string(),
            Err(why) => why,
        }
    }

    #[test]
    fn the_variable_of_the_scheme_counts_and_capitals_come_first() {
        let both = [("HTTP_PROXY", "http://plain:8080"), ("https_proxy", "https://secure"), ("http_proxy", "other")];
        for (way, expected) in [(Way::Forward, "plain:8080 (HTTP_PROXY)"), (Way::Tunnel, "secure:443 (https_proxy)")] {
            assert_eq!(told(&both, "collector:4317", way), expected);
        }
        assert_eq!(told(&[("http_proxy", "10.0.0.1:3128")], "collector", Way::Forward), "10.0.0.1:3128 (http_proxy)");
        assert_eq!(told(&[("HTTP_PROXY", "")], "collector", Way::Forward), "direct");
        for own in ["localhost:4317", "127.0.0.9:4317", "[::1]:4317", "unix:///run/x"] {
            assert_eq!(told(&[("HTTPS_PROXY", "p:1")], own, Way::Tunnel), "direct", "{own}");
        }
    }

    #[test]
    fn what_is_excepted_is_reached_directly() {
        for (none, endpoint, direct) in [
            ("*", "a.example", true),
            ("example", "example:4317", true),
            ("example", "a.example", true),
            ("EXAMPLE", "A.Example", true),
            ("example", "notexample", false),
            (".example", "example", false),
            (".example", "a.example", true),
            ("*.example", "a.b.example", true),
            ("x, example ,y", "example", true),
            ("example:4317", "example:4317", true),
            ("example:4318", "example:4317", false),
            ("10.0.0.0/8", "10.9.8.7", true),
            ("10.0.0.0/8", "11.9.8.7", false),
            ("0.0.0.0/0", "11.9.8.7", true),
            ("10.0.0.0/8", "ten.example", false),
            ("10.1.2.3", "10.1.2.3:4317", true),
            ("10.1.2.3:99", "10.1.2.3:4317", false),
            ("fd00::/8", "[fd12::1]:4317", true),
            ("::ffff:10.0.0.0/8", "[fe80::1]", false),
            ("", "example", false),
            ("nonsense/x,[", "example", false),
        ] {
            let variables = [("HTTPS_PROXY", "p:1"), ("NO_PROXY", none)];
            assert_eq!(told(&variables, endpoint, Way::Tunnel) == "direct", direct, "{none:?} {endpoint}");
        }
    }

    #[test]
    fn credentials_are_sent_and_shown_nowhere() {
        let proxy = |url: &str| proxies(&[("HTTPS_PROXY", url)]).of(&endpoint::grpc("c").unwrap(), Way::Tunnel);
        let good = proxy("http://me:s%40cret@proxy.example:3128/").unwrap().unwrap();
        assert_eq!(good.authorization.as_ref().unwrap(), "Basic bWU6c0BjcmV0");
        assert!(!format!("{good} {good:?} {:?}", proxies(&[("HTTPS_PROXY", "http://me:s3cret@p")])).contains("cret"));
        for (url, why) in [
            ("socks5://me:s3cret@p", "has a scheme that is not spoken here"),
            ("http://me:s3cret@", "names no host"),
            ("http://me:s3cret@p:99999", "is no proxy's address"),
            ("http://me:s3cret%4@p", "has a user that cannot be sent"),
        ] {
            let told = proxy(url).unwrap_err();
            assert!(told.starts_with(&format!("HTTPS_PROXY {why}")) && !told.contains("s3cret"), "{told}");
        }
    }
}
