//! Addresses: `host:port`, URLs and unix sockets.

use std::net::Ipv6Addr;

use super::keys::Address;
use super::problem::quoted;

/// What is wrong with `typed` as an address of this form, if anything.
pub(super) fn check(typed: &str, form: Address) -> Result<(), String> {
    let wrong = |what: String| format!("{what}: write {}", form.form());
    let (scheme, rest) = split_scheme(typed).map_or((None, typed), |(scheme, rest)| (Some(scheme), rest));
    match scheme {
        Some(scheme) if !form.schemes().contains(&scheme) => Err(wrong(format!("the scheme {} is not taken here", quoted(scheme)))),
        Some("unix") => socket(rest).map_err(wrong),
        // The name stands in the path (gRPC Name Resolution): before it may be the server to ask.
        Some("dns") => match rest.split_once('/') {
            Some((_, name)) => host_port(name, form).map_err(wrong),
            None => Err(wrong("after dns:// comes a third slash".to_owned())),
        },
        Some(_) => authority(rest, form).map_err(wrong),
        None if matches!(form, Address::Unix | Address::Url) => Err(wrong(format!("{} has no scheme", quoted(typed)))),
        None => host_port(typed, form).map_err(wrong),
    }
}

/// `scheme` and what follows `://`, where there is a scheme.
pub(super) fn split_scheme(typed: &str) -> Option<(&str, &str)> {
    typed.split_once("://").filter(|(scheme, _)| !scheme.is_empty())
}

fn socket(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err("the path of a socket must begin with '/'".to_owned());
    }
    // sun_path of sockaddr_un: 108 bytes with the final NUL (unix(7)).
    if path.len() > 107 {
        return Err("the path of a socket can be at most 107 bytes".to_owned());
    }
    Ok(())
}

/// What stands between `http://` and the path.
fn authority(rest: &str, form: Address) -> Result<(), String> {
    if rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("an address holds no spaces".to_owned());
    }
    if form == Address::Grpc && rest.trim_end_matches('/').contains(['/', '?', '#']) {
        return Err("a gRPC address has no path".to_owned());
    }
    if rest.contains(['?', '#']) {
        return Err("an address here has no query and no fragment".to_owned());
    }
    let host = rest.split('/').next().unwrap_or("");
    if host.contains('@') {
        return Err("credentials do not belong into an address: send them as a header".to_owned());
    }
    let has_port = if host.starts_with('[') { !host.ends_with(']') } else { host.contains(':') };
    if form == Address::Url && !has_port { host_alone(host) } else { host_port(host, form) }
}

fn host_port(typed: &str, form: Address) -> Result<(), String> {
    let (host, port) = typed.rsplit_once(':').filter(|_| !typed.ends_with(']')).ok_or_else(|| format!("{} has no port", quoted(typed)))?;
    host_alone(host)?;
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let number =
        port.parse::<u16>().ok().filter(|_| digits).ok_or_else(|| format!("the port {} is not a number from 0 to 65535", quoted(port)))?;
    let listens = matches!(form, Address::Listen | Address::ListenTcp);
    if number == 0 && !listens { Err("port 0 cannot be connected to".to_owned()) } else { Ok(()) }
}

fn host_alone(host: &str) -> Result<(), String> {
    if host.is_empty() {
        return Err("the host is missing (0.0.0.0 listens on all interfaces)".to_owned());
    }
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner.strip_suffix(']').map(|v6| v6.split('%').next().unwrap_or(v6));
        return match address.map(str::parse::<Ipv6Addr>) {
            Some(Ok(_)) => Ok(()),
            _ => Err(format!("{} is not an IPv6 address", quoted(host))),
        };
    }
    if host.contains(':') {
        return Err(format!("an IPv6 address stands in brackets, as in [::1]:4317, not {}", quoted(host)));
    }
    // Underscores are no part of a DNS name, but Docker Compose gives service names that hold them.
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || !c.is_ascii() && c.is_alphanumeric();
    if host.len() > 253 || !host.chars().all(fits) {
        return Err(format!("{} is not the name of a host", quoted(host)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_the_forms_of_each_place() {
        let fits = |form: Address, typed: &str| assert_eq!(check(typed, form), Ok(()), "{typed}");
        fits(Address::Listen, "localhost:4317");
        fits(Address::Listen, "0.0.0.0:0");
        fits(Address::Listen, "[::1]:4317");
        fits(Address::Listen, "unix:///run/stallspan.sock");
        fits(Address::Grpc, "otel_collector:4317");
        fits(Address::Grpc, "https://api.example.com:443");
        fits(Address::Grpc, "dns:///otel-collector.observability:4317");
        fits(Address::Grpc, "dns://10.0.0.10/otel-collector:4317");
        fits(Address::Grpc, "http://[fe80::1%eth0]:4317/");
        fits(Address::Url, "http://collector:4318");
        fits(Address::Url, "https://api.example.com/otlp");
        fits(Address::Url, "https://[::1]/otlp");
        fits(Address::Unix, "unix:///run/containerd/containerd.sock");
    }

    #[test]
    fn refuses_with_the_reason_and_the_form() {
        let check = |form: Address, typed: &str, expected: &str| {
            let told = check(typed, form).expect_err(typed);
            assert!(told.contains(expected) && told.contains(form.form()), "{typed}: {told}");
        };
        check(Address::Listen, "localhost", "has no port");
        check(Address::Listen, "localhost:", "the port ''");
        check(Address::Grpc, "dns://otel-collector:4317", "a third slash");
        check(Address::Grpc, "dns:///otel-collector", "has no port");
        check(Address::Url, "dns:///otel-collector:4318", "is not taken here");
        check(Address::Listen, "localhost:65536", "the port '65536'");
        check(Address::Listen, "localhost:+1", "the port '+1'");
        check(Address::Listen, ":4317", "0.0.0.0 listens on all");
        check(Address::Listen, "http://localhost:4317", "the scheme 'http'");
        check(Address::Listen, "::1:4317", "stands in brackets");
        check(Address::Listen, "[::g]:4317", "is not an IPv6 address");
        check(Address::Listen, "[::1]", "has no port");
        check(Address::Listen, "a b:1", "is not the name of a host");
        check(Address::ListenTcp, "unix:///x", "the scheme 'unix'");
        check(Address::Grpc, "collector:0", "port 0");
        check(Address::Grpc, "ftp://collector:1", "the scheme 'ftp'");
        check(Address::Grpc, "https://collector:1/path", "has no path");
        check(Address::Grpc, "https://collector", "has no port");
        check(Address::Url, "collector:4318", "has no scheme");
        check(Address::Url, "http://", "the host is missing");
        check(Address::Url, "http://u:p@h:1", "credentials");
        check(Address::Url, "http://h:1/?a", "no query");
        check(Address::Unix, "unix://run/x", "begin with '/'");
        check(Address::Unix, "/run/x", "has no scheme");
    }

    proptest! {
        #[test]
        fn no_text_panics(typed in r"(unix|http|https|)(://)?[\[\]:/@%a-z0-9é.]{0,20}") {
            for form in [Address::Listen, Address::ListenTcp, Address::Grpc, Address::Url, Address::Unix] {
                let _ = check(&typed, form);
            }
        }
    }
}
