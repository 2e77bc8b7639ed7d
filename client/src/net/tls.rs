//! TLS: how the broker's certificate is checked.

use std::path::Path;
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring as provider, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, version::TLS13,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::error::{ClientCode, Error};
use crate::options::Tls;

/// Name of the protocol in the handshake.
const ALPN: &[u8] = b"weir/1";

/// AES with 128 bits first: twice as quick as `ChaCha20` where the processor has AES, and QUIC's own suite.
fn crypto() -> Arc<CryptoProvider> {
    let suites = vec![
        provider::cipher_suite::TLS13_AES_128_GCM_SHA256,
        provider::cipher_suite::TLS13_AES_256_GCM_SHA384,
        provider::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(CryptoProvider { cipher_suites: suites, ..provider::default_provider() })
}

fn failed(what: impl std::fmt::Display) -> Error {
    Error::client(ClientCode::Tls, what.to_string())
}

/// The configuration of the handshake.
///
/// # Errors
/// `WEIR-1022` if certificates cannot be read.
pub(crate) fn config(tls: &Tls) -> Result<Arc<QuicClientConfig>, Error> {
    let crypto = crypto();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&crypto))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| failed(format!("TLS 1.3 is not available: {error}")))?;
    let mut config = match tls {
        Tls::System => builder.with_root_certificates(system_roots()?).with_no_client_auth(),
        Tls::CaFile(path) => builder.with_root_certificates(file_roots(path)?).with_no_client_auth(),
        Tls::Pin(pin) => {
            let verifier = Arc::new(PinVerifier { pin: *pin, crypto });
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    let config =
        QuicClientConfig::try_from(config).map_err(|error| failed(format!("no cipher for QUIC: {error}")))?;
    Ok(Arc::new(config))
}

fn system_roots() -> Result<RootCertStore, Error> {
    let loaded = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(loaded.certs);
    match loaded.errors.first() {
        Some(error) if roots.is_empty() => {
            Err(failed(format!("the system's certificates cannot be read: {error}")))
        }
        _ => Ok(roots),
    }
}

fn file_roots(path: &Path) -> Result<RootCertStore, Error> {
    let unreadable =
        |error: &dyn std::fmt::Display| failed(format!("cannot read {}: {error}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))? {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        roots.add(certificate).map_err(|error| unreadable(&error))?;
    }
    if roots.is_empty() { Err(unreadable(&"there is no certificate in it")) } else { Ok(roots) }
}

/// Takes one certificate only: the one with the pinned SHA-256. Names and dates in it do not matter; that the peer holds its
/// key is checked as always.
#[derive(Debug)]
struct PinVerifier {
    pin: [u8; 32],
    crypto: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let digest = ring::digest::digest(&ring::digest::SHA256, end_entity);
        if digest.as_ref() == self.pin {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.crypto.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.crypto.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.crypto.signature_verification_algorithms.supported_schemes()
    }
}
