//! The certificate a broker shows: made on first start, or given by the user.
//!
//! Clients accept a self-signed certificate by its pin, the SHA-256 of the certificate, which stands in the URL.

use std::fmt::{self, Write as _};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::ring::hmac;
use quinn::crypto::HmacKey;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::NoServerSessionStorage;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

/// The protocol that both ends must name in the handshake.
pub const ALPN: &[u8] = b"weir/1";

/// Names that a self-signed certificate is good for, beside those it is pinned for anyway.
const SELF_SIGNED_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Longest PEM file that is read: a chain of certificates is a few KiB.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// Why there is no certificate to show.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be read or written.
    #[error("cannot {operation} {}: {source}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds no certificate or no key that can be understood.
    #[error("{} holds no {expected}: {reason}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What was found instead.
        reason: String,
    },
    /// The key stands open to other users.
    #[error("{} can be read by other users (mode {mode:o}): run chmod 600 on it", path.display())]
    KeyExposed {
        /// The key's file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The broker's certificate is there, its key is not. A new one would change the pin that clients know.
    #[error(
        "{} is missing: restore it, or remove {} too, to get a new certificate with a new pin",
        key.display(),
        certificate.display()
    )]
    KeyMissing {
        /// The key that is not there.
        key: PathBuf,
        /// The certificate that is.
        certificate: PathBuf,
    },
    /// Only one of certificate and key was given.
    #[error("a certificate and its key must be given together: {given} was given alone")]
    Half {
        /// The one that was given.
        given: &'static str,
    },
    /// Certificate and key cannot be used, or not together.
    #[error("cannot use the certificate in {}: {reason}", path.display())]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No certificate could be made.
    #[error("cannot make a certificate: {0}")]
    Make(String),
}

/// A certificate chain with its key, checked to belong together.
pub struct TlsIdentity {
    pin: String,
    is_self_signed: bool,
    crypto: Arc<QuicServerConfig>,
    reset_key: Arc<hmac::Key>,
    connection_id_key: u64,
}

impl TlsIdentity {
    /// The user's certificate if both files are given; otherwise the broker's own in `directory`, made now if it
    /// is not there yet.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub fn load(directory: &Path, certificate: Option<&Path>, key: Option<&Path>) -> Result<Self, TlsError> {
        match (certificate, key) {
            (Some(certificate), Some(key)) => Self::from_files(certificate, key, false),
            (Some(_), None) => Err(TlsError::Half { given: "the certificate" }),
            (None, Some(_)) => Err(TlsError::Half { given: "the key" }),
            (None, None) => Self::own(directory),
        }
    }

    /// The broker's own certificate. The key is written first, so that a certificate without key is never due to a
    /// crash.
    fn own(directory: &Path) -> Result<Self, TlsError> {
        let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
        if !exists(&certificate)? {
            make_self_signed(directory, &certificate, &key)?;
        } else if !exists(&key)? {
            return Err(TlsError::KeyMissing { key, certificate });
        }
        let metadata = fs::metadata(&key).map_err(file_error("read", &key))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(TlsError::KeyExposed { path: key, mode });
        }
        Self::from_files(&certificate, &key, true)
    }

    fn from_files(certificate: &Path, key: &Path, is_self_signed: bool) -> Result<Self, TlsError> {
        let chain = read_chain(certificate)?;
        let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| TlsError::Pem {
            path: key.to_owned(),
            expected: "private key in PEM",
            reason: error.to_string(),
        })?;
        let unusable = |reason| TlsError::Unusable { path: certificate.to_owned(), reason };
        let pin = match chain.first() {
            Some(own) => pin_of(own),
            None => return Err(unusable("the chain is empty".to_owned())),
        };
        let reset_key = Arc::new(reset_key_of(&private));
        let connection_id_key = connection_id_key_of(&private);
        let config = server_config(chain, private).map_err(|error| unusable(error.to_string()))?;
        let crypto = QuicServerConfig::try_from(config).map_err(|error| unusable(error.to_string()))?;
        Ok(Self { pin, is_self_signed, crypto: Arc::new(crypto), reset_key, connection_id_key })
    }

    /// The certificate's fingerprint, as it stands in URLs: `sha256:` and 64 hexadecimal digits.
    pub fn pin(&self) -> String {
        self.pin.clone()
    }

    /// The key by which a broker signs that it does not know a connection any more; the same after a restart, so
    /// that peers of its former life notice at once that it has ended.
    pub fn reset_key(&self) -> Arc<dyn HmacKey> {
        Arc::<hmac::Key>::clone(&self.reset_key)
    }

    /// The key by which a broker recognises the connection ids it gave out; the same after a restart, because what
    /// it does not recognise gets no answer, not even a reset. Worth nothing to whoever finds it out: it only keeps
    /// noise away.
    pub const fn connection_id_key(&self) -> u64 {
        self.connection_id_key
    }

    /// Whether the broker made the certificate itself: clients then need the pin.
    pub const fn is_self_signed(&self) -> bool {
        self.is_self_signed
    }

    /// The handshake of a server with this certificate.
    pub const fn crypto(&self) -> &Arc<QuicServerConfig> {
        &self.crypto
    }
}

/// The key never shows.
impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity")
            .field("pin", &self.pin)
            .field("is_self_signed", &self.is_self_signed)
            .finish_non_exhaustive()
    }
}

fn reset_key_of(private: &PrivateKeyDer<'_>) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, derived(private, b"weir stateless reset").as_ref())
}

fn connection_id_key_of(private: &PrivateKeyDer<'_>) -> u64 {
    let derived = derived(private, b"weir connection id");
    let (first, _) = derived.as_ref().split_first_chunk().expect("SHA-256 has 32 bytes");
    u64::from_le_bytes(*first)
}

/// A secret that only who has the private key can know, and that is the same after a restart.
fn derived(private: &PrivateKeyDer<'_>, purpose: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, private.secret_der()), purpose)
}

/// The fingerprint of a certificate: `sha256:` and 64 hexadecimal digits.
fn pin_of(certificate: &CertificateDer<'_>) -> String {
    // The cipher suite brings its hash with it: no other library is needed.
    let suite = ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let sha256 = suite.tls13().expect("the suite is one of TLS 1.3").common.hash_provider;
    let mut pin = "sha256:".to_owned();
    for byte in sha256.hash(certificate).as_ref() {
        write!(pin, "{byte:02x}").expect("a string takes everything");
    }
    pin
}

/// TLS 1.3 only, AES-128-GCM first, no early data and no resumption: both would let what was recorded be played
/// again, and a handshake costs little.
fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<rustls::ServerConfig, rustls::Error> {
    let provider = CryptoProvider {
        cipher_suites: vec![
            ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
            ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
            ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..ring::default_provider()
    };
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.ignore_client_order = true;
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

fn make_self_signed(directory: &Path, certificate: &Path, key: &Path) -> Result<(), TlsError> {
    let make = |error: rcgen::Error| TlsError::Make(error.to_string());
    let pair = rcgen::KeyPair::generate().map_err(make)?;
    let names = SELF_SIGNED_NAMES.map(str::to_owned);
    let mut params = rcgen::CertificateParams::new(names).map_err(make)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "Weir, self-signed");
    let made = params.self_signed(&pair).map_err(make)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(file_error("create", directory))?;
    write_durably(key, 0o600, pair.serialize_pem().as_bytes())?;
    write_durably(certificate, 0o644, made.pem().as_bytes())?;
    sync_directory(directory)
}

/// Writes a file that is there whole or not at all, whatever happens meanwhile.
fn write_durably(path: &Path, mode: u32, content: &[u8]) -> Result<(), TlsError> {
    let temporary = path.with_extension("pem.new");
    // One left by a crash may have other permissions.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(file_error("remove", &temporary)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(file_error("write", &temporary))?;
    fs::rename(&temporary, path).map_err(file_error("write", path))?;
    path.parent().map_or(Ok(()), sync_directory)
}

fn sync_directory(directory: &Path) -> Result<(), TlsError> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(file_error("sync", directory))
}

fn exists(path: &Path) -> Result<bool, TlsError> {
    path.try_exists().map_err(file_error("read", path))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    use io::Read as _;
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(PEM_BYTES_MAX).read_to_end(&mut content))
        .map_err(file_error("read", path))?;
    Ok(content)
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = |reason| TlsError::Pem { path: path.to_owned(), expected: "certificate in PEM", reason };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let chain = chain.map_err(|error| pem(error.to_string()))?;
    if chain.is_empty() {
        return Err(pem("there is none in it".to_owned()));
    }
    Ok(chain)
}

fn file_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TlsError {
    let path = path.to_owned();
    move |source| TlsError::File { operation, path, source }
}

#[cfg(test)]
mod tests;
