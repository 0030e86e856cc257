//! Headers of every request: who we are, and what the configuration adds.

use std::collections::BTreeMap;

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// As the OTLP specification asks ("User Agent"), our own name behind.
pub const USER_AGENT_VALUE: &str = concat!("OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION"), " stallspan/", env!("CARGO_PKG_VERSION"));

/// The configured headers, marked as secret.
///
/// # Errors
/// Names the header; never tells its value.
pub fn configured(headers: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let key = HeaderName::try_from(name.as_str()).map_err(|_| format!("header `{name}`: not a header's name"))?;
        let mut value = HeaderValue::try_from(value.as_str()).map_err(|_| format!("header `{name}`: its value has control characters"))?;
        value.set_sensitive(true);
        map.append(key, value);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_secret_and_bad_names_are_told() {
        let map = |name: &str, value: &str| configured(&BTreeMap::from([(name.to_owned(), value.to_owned())]));
        let good = map("Authorization", "Bearer x").unwrap();
        assert!(good.get("authorization").unwrap().is_sensitive());
        assert_eq!(map("no good", "x").unwrap_err(), "header `no good`: not a header's name");
        assert_eq!(map("x-key", "se\ncret").unwrap_err(), "header `x-key`: its value has control characters");
    }
}
