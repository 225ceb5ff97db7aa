//! One TLS stack: rustls with ring. Roots, client certificates and names as Prometheus' `tls_config` has them.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::secret::{SecretFileError, read_bounded};
use crate::config::model::TlsOptions;

/// Why TLS options are of no use.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// A file holds no certificate or key.
    #[error("{path} holds no {what} in PEM form")]
    NoPem {
        /// The file.
        path: String,
        /// What was looked for.
        what: &'static str,
    },
    /// One of `cert_file` and `key_file` is missing.
    #[error("cert_file and key_file go together; {0} is missing")]
    HalfAnIdentity(&'static str),
    /// `server_name` is neither a name nor an address.
    #[error("server_name {0:?} is neither a host name nor an address")]
    BadName(String),
    /// rustls refuses what the files hold.
    #[error("the certificates or the key are refused: {0}")]
    Refused(String),
}

/// Installs the process' TLS provider; later calls change nothing.
pub fn install() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        // An error means that one is installed already, which is as good.
        drop(ring::default_provider().install_default());
    });
}

/// A client's TLS configuration.
///
/// `server_name` is the name that the peer's certificate must carry; the name asked for in the handshake stays the
/// URL's, and none is asked for where the URL has an address.
///
/// # Errors
/// [`TlsError`] where a file is missing or holds something else.
pub fn client_config(options: &TlsOptions) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(options, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Refused(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match (&options.cert_file, &options.key_file) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let key_pem = read_bounded(key)?;
            let key = PrivateKeyDer::from_pem_slice(&key_pem)
                .map_err(|_| TlsError::NoPem { path: key.display().to_string(), what: "private key" })?;
            builder.with_client_auth_cert(certificates(cert)?, key).map_err(|e| TlsError::Refused(e.to_string()))?
        }
        (None, Some(_)) => return Err(TlsError::HalfAnIdentity("cert_file")),
        (Some(_), None) => return Err(TlsError::HalfAnIdentity("key_file")),
    };
    // Over HTTP/2 nobody could ask for a connection of its own, by which it is told where new clients are led.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read_bounded(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) | Err(_) => Err(TlsError::NoPem { path: path.display().to_string(), what: "certificate" }),
    }
}

fn verifier(options: &TlsOptions, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    if options.insecure_skip_verify {
        return Ok(Arc::new(AcceptAny(provider.clone())));
    }
    let base: Arc<dyn ServerCertVerifier> = match &options.ca_file {
        None => Arc::new(SystemRoots(provider.clone())),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| TlsError::Refused(e.to_string()))?;
            }
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .map_err(|e| TlsError::Refused(e.to_string()))?
        }
    };
    match &options.server_name {
        None => Ok(base),
        Some(name) => {
            let name = ServerName::try_from(name.clone()).map_err(|_| TlsError::BadName(name.clone()))?;
            Ok(Arc::new(Named { base, name }))
        }
    }
}

/// Verifies against the system's roots, which are loaded once, at the first handshake that needs them: a daemon
/// that speaks plain HTTP on loopback never pays for them.
#[derive(Debug)]
struct SystemRoots(Arc<CryptoProvider>);

impl SystemRoots {
    fn loaded(&self) -> Result<&'static rustls_platform_verifier::Verifier, rustls::Error> {
        static LOADED: OnceLock<Result<rustls_platform_verifier::Verifier, rustls::Error>> = OnceLock::new();
        LOADED.get_or_init(|| rustls_platform_verifier::Verifier::new(self.0.clone())).as_ref().map_err(Clone::clone)
    }
}

impl ServerCertVerifier for SystemRoots {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.loaded()?.verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Verifies against another name than the URL's.
#[derive(Debug)]
struct Named {
    base: Arc<dyn ServerCertVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _url_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.base.verify_server_cert(end_entity, intermediates, &self.name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.base.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.base.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.base.supported_verify_schemes()
    }
}

/// Accepts whatever certificate comes: `insecure_skip_verify`. The handshake itself must still be sound.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
