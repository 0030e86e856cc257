//! GET over loopback, one request a connection: HTTP/1.0, so that a body ends where the connection ends.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(10);

/// The body of a 200 answer.
pub fn get(address: &str, path: &str) -> Result<String, String> {
    get_as(address, path, "*/*")
}

/// The same, parsed.
pub fn get_json(address: &str, path: &str) -> Result<Value, String> {
    serde_json::from_str(&get_as(address, path, "application/json")?).map_err(|e| format!("{address}{path}: {e}"))
}

fn get_as(address: &str, path: &str, accept: &str) -> Result<String, String> {
    let answer = exchange(address, &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: {accept}\r\n\r\n"))
        .map_err(|e| format!("{address}{path}: {e}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{address}{path}: no HTTP: {answer}"))?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(format!("{address}{path}: {} {body}", head.lines().next().unwrap_or(""))),
    }
}

fn exchange(address: &str, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Percent-encodes everything that is no letter, digit, `-`, `.` or `_`.
pub fn query_value(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
            },
        )
        .collect()
}
