//! The files a configuration names: are they there, are they what they should be, do they belong together?
//! Opens nothing itself: the caller hands in how a file is read.

use std::io;
use std::path::Path;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};

use super::expand::join;
use super::problem::{Place, Problems, quoted};
use super::value::{Field, Value};

/// How a file is read.
pub type Files<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// Looks at every TLS file named.
pub(super) fn check(root: &Value, files: Files<'_>, problems: &mut Problems) {
    let mut look = Look { files, problems };
    for protocol in ["grpc", "http"] {
        let path = ["receivers", "otlp", "protocols", protocol, "tls"];
        if let Some(tls) = root.field(&path) {
            look.block(tls, &path.join("."));
        }
    }
    for exporter in root.at(&["exporters"]).map_or(&[][..], Value::fields) {
        if let Some(tls) = exporter.value.field(&["tls"]) {
            look.block(tls, &format!("exporters.{}.tls", exporter.name));
        }
    }
}

struct Look<'a> {
    files: Files<'a>,
    problems: &'a mut Problems,
}

/// The key that names a file.
#[derive(Clone, Copy)]
struct Named<'a> {
    place: Place,
    path: &'a str,
    file: &'a str,
}

impl Look<'_> {
    fn block(&mut self, tls: &Field, path: &str) {
        let named = |name: &str| {
            let field = tls.value.field(&[name])?;
            let file = tls.value.text(&[name])?.to_owned();
            Some((field.place.or(tls.place).unwrap_or(Place::START), join(path, name), file))
        };
        for name in ["ca_file", "client_ca_file"] {
            if let Some((place, path, file)) = named(name) {
                self.authorities(Named { place, path: &path, file: &file });
            }
        }
        let chain =
            named("cert_file").map(|(place, path, file)| (self.certificates(Named { place, path: &path, file: &file }), place, path, file));
        let key = named("key_file").map(|(place, path, file)| (self.key(Named { place, path: &path, file: &file }), place, path, file));
        if let (Some((Some(chain), cert_place, cert_path, cert_file)), Some((Some(key), key_place, key_path, key_file))) = (chain, key) {
            let cert = Named { place: cert_place, path: &cert_path, file: &cert_file };
            self.pair(chain, key, cert, Named { place: key_place, path: &key_path, file: &key_file });
        }
    }

    fn wrong(&mut self, named: Named<'_>, what: &str) {
        self.problems.add(named.place, named.path, format!("{} {what}", quoted(named.file)));
    }

    fn read(&mut self, named: Named<'_>) -> Option<Vec<u8>> {
        match (self.files)(Path::new(named.file)) {
            Ok(bytes) => Some(bytes),
            Err(reason) => {
                self.wrong(named, &format!("cannot be read: {reason}"));
                None
            }
        }
    }

    fn certificates(&mut self, named: Named<'_>) -> Option<Vec<CertificateDer<'static>>> {
        let bytes = self.read(named)?;
        match CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>() {
            Ok(chain) if !chain.is_empty() => Some(chain),
            Ok(_) => {
                self.wrong(named, "holds no PEM certificate");
                None
            }
            Err(reason) => {
                self.wrong(named, &format!("is not PEM: {reason}"));
                None
            }
        }
    }

    fn authorities(&mut self, named: Named<'_>) {
        let mut store = RootCertStore::empty();
        for certificate in self.certificates(named).unwrap_or_default() {
            if let Err(reason) = store.add(certificate) {
                self.wrong(named, &format!("holds a certificate that cannot be used: {reason}"));
                return;
            }
        }
    }

    fn key(&mut self, named: Named<'_>) -> Option<PrivateKeyDer<'static>> {
        let bytes = self.read(named)?;
        match PrivateKeyDer::from_pem_slice(&bytes) {
            Ok(key) => Some(key),
            Err(rustls::pki_types::pem::Error::NoItemsFound) => {
                self.wrong(named, "holds no PEM private key (an encrypted one cannot be used)");
                None
            }
            Err(reason) => {
                self.wrong(named, &format!("is not PEM: {reason}"));
                None
            }
        }
    }

    fn pair(&mut self, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>, cert: Named<'_>, key_named: Named<'_>) {
        match CertifiedKey::from_der(chain, key, &default_provider()) {
            Ok(_) => {}
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                self.wrong(key_named, &format!("is not the key of the certificate {}", quoted(cert.file)));
            }
            Err(Error::InvalidCertificate(reason)) => self.wrong(cert, &format!("holds a certificate that cannot be used: {reason}")),
            Err(reason) => self.wrong(key_named, &format!("holds a key that cannot be used: {reason}")),
        }
    }
}
