//! Certificates and keys from PEM files, for both ends of the hop.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CertificateError, OtherError, RootCertStore};

/// All certificates of a file, in its order.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).map_err(|why| format!("{}: {why}", file.display()))?;
    let certificates: Vec<_> = read.collect::<Result<_, _>>().map_err(|why| format!("{}: {why}", file.display()))?;
    if certificates.is_empty() {
        return Err(format!("{}: no certificate in PEM form found", file.display()));
    }
    Ok(certificates)
}

/// The first private key of a file.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(file).map_err(|why| format!("{}: no usable private key: {why}", file.display()))
}

/// Whom a file says to trust.
#[derive(Debug)]
pub struct Trusted {
    /// As authorities.
    pub authorities: RootCertStore,
    /// The certificates themselves.
    pub known: Vec<CertificateDer<'static>>,
}

/// Reads whom a file says to trust.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn trusted(file: &Path) -> Result<Trusted, String> {
    let (mut authorities, known) = (RootCertStore::empty(), certificates(file)?);
    for certificate in &known {
        authorities.add(certificate.clone()).map_err(|why| format!("{}: {why}", file.display()))?;
    }
    Ok(Trusted { authorities, known })
}

/// Whether a certificate was turned down for nothing but being an authority's, and is one of those `known` itself: a server's
/// self-signed certificate that is also the file which says whom to trust. webpki looks at the time of validity before it says so
/// (`check_issuer_independent_properties`); names and signatures are the caller's to check.
#[must_use]
pub fn is_trusted_itself(why: &rustls::Error, shown: &CertificateDer<'_>, known: &[CertificateDer<'_>]) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(why))) = why else { return false };
    matches!(why.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)) && known.contains(shown)
}

/// The one provider of cryptography in this program.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
