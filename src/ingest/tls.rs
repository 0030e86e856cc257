//! TLS of the server: certificates that may change on disk, and clients that may have to show one.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::config::meaning::{ServerTls, TlsVersion};
use crate::runtime::pem::Trusted;
use crate::runtime::{Io, Reloading, pem};

/// Time for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Makes TLS connections of plain ones.
#[derive(Debug)]
pub struct Acceptor {
    config: Reloading<Arc<ServerConfig>>,
}

impl Acceptor {
    /// Reads the files. `protocols`: what is offered by ALPN, best first.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn open(tls: &ServerTls, protocols: &[&str]) -> Result<Self, String> {
        let mut files = vec![tls.cert_file.clone(), tls.key_file.clone()];
        files.extend(tls.client_ca_file.clone());
        let (tls, reload) = (tls.clone(), tls.reload_interval);
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let load = move || server_config(&tls, &protocols).map(Arc::new);
        Ok(Self { config: Reloading::open(files, reload, Box::new(load))? })
    }

    /// The handshake. `None` where it fails or takes too long.
    pub async fn accept(&self, io: Box<dyn Io>) -> Option<Box<dyn Io>> {
        let acceptor = TlsAcceptor::from(Arc::clone(&*self.config.get()));
        match timeout(HANDSHAKE, acceptor.accept(io)).await {
            Ok(Ok(stream)) => Some(Box::new(stream)),
            Ok(Err(why)) => {
                tracing::debug!(%why, "TLS handshake failed");
                None
            }
            Err(_) => None,
        }
    }
}

fn server_config(tls: &ServerTls, protocols: &[Vec<u8>]) -> Result<ServerConfig, String> {
    let provider = pem::provider();
    let versions: &[_] = match tls.min_version {
        TlsVersion::V1_2 => &[&TLS13, &TLS12],
        TlsVersion::V1_3 => &[&TLS13],
    };
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).map_err(|why| why.to_string())?;
    let builder = match &tls.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let Trusted { authorities, known } = pem::trusted(file)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider)
                .build()
                .map_err(|why| format!("{}: {why}", file.display()))?;
            builder.with_client_cert_verifier(Arc::new(TrustsFile { verifier, known }))
        }
    };
    let (chain, key) = (pem::certificates(&tls.cert_file)?, pem::private_key(&tls.key_file)?);
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|why| format!("{} and {} do not fit together: {why}", tls.cert_file.display(), tls.key_file.display()))?;
    config.alpn_protocols = protocols.to_vec();
    Ok(config)
}

/// `client_ca_file`: authorities, or a client's own self-signed certificate, which as an authority's would otherwise be turned down.
#[derive(Debug)]
struct TrustsFile {
    verifier: Arc<dyn ClientCertVerifier>,
    known: Vec<CertificateDer<'static>>,
}

impl ClientCertVerifier for TrustsFile {
    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match self.verifier.verify_client_cert(shown, others, now) {
            Err(why) if pem::is_trusted_itself(&why, shown, &self.known) => Ok(ClientCertVerified::assertion()),
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
