//! A way through a proxy: `CONNECT` (RFC 9110 §9.3.6).

use http::header::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::proxy::Proxy;
use crate::runtime::Io;

/// Bytes of the proxy's answer.
const MAX_HEAD: usize = 8 * 1024;

/// Asks the proxy at the other end of `io` for a connection to `authority` (`host:port`).
///
/// # Errors
/// What the proxy says, without what it was told about us.
pub async fn dig(io: &mut dyn Io, proxy: &Proxy, authority: &str) -> Result<(), String> {
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n").into_bytes();
    if let Some(authorization) = &proxy.authorization {
        request.extend([b"proxy-authorization: ", HeaderValue::as_bytes(authorization), b"\r\n"].concat());
    }
    request.extend(b"\r\n");
    let failed = |why: std::io::Error| format!("the proxy hung up: {why}");
    io.write_all(&request).await.map_err(failed)?;
    io.flush().await.map_err(failed)?;
    let mut head = Vec::new();
    // Byte by byte: what follows the head is the server's already.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD {
            return Err("the proxy's answer has no end".to_owned());
        }
        head.push(io.read_u8().await.map_err(failed)?);
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let status = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    match (line.starts_with(b"HTTP/1."), status) {
        (true, [b'2', _, _]) => Ok(()),
        (true, b"407") => Err("the proxy asks for a user and a password: put them into its URL (407)".to_owned()),
        (true, _) => Err(format!("the proxy refuses: {}", String::from_utf8_lossy(line).escape_debug())),
        (false, _) => Err("the proxy does not speak HTTP".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::endpoint;
    use super::super::proxy::{Proxies, Way};
    use super::*;

    async fn told(answer: &[u8]) -> Result<(), String> {
        let proxies = Proxies::read(|name| (name == "HTTPS_PROXY").then(|| "http://me:secret@p".to_owned()));
        let proxy = proxies.of(&endpoint::grpc("c").unwrap(), Way::Tunnel).unwrap().unwrap();
        let (mut near, mut far) = tokio::io::duplex(1 << 16);
        far.write_all(answer).await.unwrap();
        let dug = dig(&mut near, &proxy, "c:4317").await;
        drop(near);
        let mut asked = String::new();
        far.read_to_string(&mut asked).await.unwrap();
        assert_eq!(asked, "CONNECT c:4317 HTTP/1.1\r\nhost: c:4317\r\nproxy-authorization: Basic bWU6c2VjcmV0\r\n\r\n");
        dug
    }

    #[tokio::test]
    async fn only_a_status_of_success_is_a_way_through() {
        assert_eq!(told(b"HTTP/1.1 200 Connection established\r\nvia: x\r\n\r\n").await, Ok(()));
        assert_eq!(told(b"HTTP/1.0 200\r\n\r\n").await, Ok(()));
        for (answer, why) in [
            (
                &b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..],
                "the proxy asks for a user and a password: put them into its URL (407)",
            ),
            (b"HTTP/1.1 403 For\x1bbidden\r\n\r\n", "the proxy refuses: HTTP/1.1 403 For\\u{1b}bidden"),
            (b"SSH-2.0-OpenSSH\r\n\r\n", "the proxy does not speak HTTP"),
            (&b"x".repeat(9000), "the proxy's answer has no end"),
        ] {
            assert_eq!(told(answer).await, Err(why.to_owned()));
        }
    }
}
