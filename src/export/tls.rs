//! TLS of the client: whom to trust, what to show, and files that may change on disk.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

use crate::config::meaning::{ClientTls, TlsVersion};
use crate::runtime::pem::Trusted;
use crate::runtime::{Io, Reloading, pem};

/// Makes TLS connections of plain ones.
#[derive(Debug)]
pub struct Connector {
    config: Reloading<Arc<ClientConfig>>,
    name: ServerName<'static>,
}

impl Connector {
    /// Reads the files. `host`: whom the certificate has to name. `protocol`: what is asked for by ALPN.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn open(tls: &ClientTls, host: &str, protocol: &'static str) -> Result<Self, String> {
        let files = [&tls.ca_file, &tls.cert_file, &tls.key_file].into_iter().flatten().cloned().collect();
        let asked = tls.server_name_override.as_deref().unwrap_or(host);
        let name = ServerName::try_from(asked.to_owned()).map_err(|_| format!("`{asked}` is no name a certificate can have"))?;
        let (tls, reload) = (tls.clone(), tls.reload_interval);
        let load = move || client_config(&tls, protocol).map(Arc::new);
        Ok(Self { config: Reloading::open(files, reload, Box::new(load))?, name })
    }

    /// The handshake.
    ///
    /// # Errors
    /// Says why it failed.
    pub async fn connect(&self, io: Box<dyn Io>) -> Result<Box<dyn Io>, String> {
        let connector = TlsConnector::from(Arc::clone(&*self.config.get()));
        match connector.connect(self.name.clone(), io).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(why) => Err(format!("TLS handshake: {why}")),
        }
    }
}

fn client_config(tls: &ClientTls, protocol: &str) -> Result<ClientConfig, String> {
    let provider = pem::provider();
    let versions: &[_] = match tls.min_version {
        None | Some(TlsVersion::V1_2) => &[&TLS13, &TLS12],
        Some(TlsVersion::V1_3) => &[&TLS13],
    };
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).map_err(|why| why.to_string())?;
    let builder = if tls.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustsAnyone { provider }))
    } else if let Some(file) = &tls.ca_file {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustsFile::open(file, provider)?))
    } else {
        builder.with_root_certificates(authorities())
    };
    let mut config = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => builder
            .with_client_auth_cert(pem::certificates(cert)?, pem::private_key(key)?)
            .map_err(|why| format!("{} and {} do not fit together: {why}", cert.display(), key.display()))?,
        (None, None) => builder.with_no_client_auth(),
        (Some(_), None) => return Err("cert_file is given without key_file".to_owned()),
        (None, Some(_)) => return Err("key_file is given without cert_file".to_owned()),
    };
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Ok(config)
}

/// The system's authorities. A system without any is no error here: nobody is trusted then, and the handshake says so.
fn authorities() -> RootCertStore {
    let mut store = RootCertStore::empty();
    let (_, _) = store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        tracing::warn!("this system has no certificate authorities: no server will be trusted; set tls.ca_file or install ca-certificates");
    }
    store
}

/// `ca_file`: authorities, or the server's own self-signed certificate, which as an authority's would otherwise be turned down.
#[derive(Debug)]
struct TrustsFile {
    verifier: Arc<WebPkiServerVerifier>,
    known: Vec<CertificateDer<'static>>,
}

impl TrustsFile {
    fn open(file: &Path, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let Trusted { authorities, known } = pem::trusted(file)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(authorities), provider).build();
        Ok(Self { verifier: verifier.map_err(|why| format!("{}: {why}", file.display()))?, known })
    }
}

impl ServerCertVerifier for TrustsFile {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.verifier.verify_server_cert(shown, others, name, ocsp, now) {
            Err(why) if pem::is_trusted_itself(&why, shown, &self.known) => {
                verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// `insecure_skip_verify`: encrypted, but to whom is not asked. Signatures are still checked.
#[derive(Debug)]
struct TrustsAnyone {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for TrustsAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
