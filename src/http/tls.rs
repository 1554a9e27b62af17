//! TLS: the certificate and its key from two files, read again when they change.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Where the certificate and its key are.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate and those that lead from it to the authority, PEM.
    pub certificates: PathBuf,
    /// The key of the first of them, PEM: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Why there can be no TLS with these files.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTls {
    /// A file cannot be read.
    #[error("{} cannot be read: {error}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} holds no certificate in PEM form", .0.display())]
    NoCertificate(PathBuf),
    /// A file is not what it should be.
    #[error("{} holds no private key in PEM form (PKCS#8, PKCS#1 or SEC1, without a passphrase)", .0.display())]
    NoKey(PathBuf),
    /// Both can be read, but not used.
    #[error("the certificate in {} and the key in {} cannot be used together: {error}", .files.certificates.display(), .files.key.display())]
    Unusable {
        /// The files.
        files: TlsFiles,
        /// What is wrong with them.
        error: rustls::Error,
    },
}

/// The bytes of both files: equal bytes need no second look.
type Read = (Vec<u8>, Vec<u8>);

impl TlsFiles {
    fn read(&self) -> Result<Read, InvalidTls> {
        let read =
            |file: &PathBuf| std::fs::read(file).map_err(|error| InvalidTls::Unreadable { file: file.clone(), error });
        Ok((read(&self.certificates)?, read(&self.key)?))
    }

    fn parse(&self, (certificates, key): &Read, provider: &CryptoProvider) -> Result<CertifiedKey, InvalidTls> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<_, _>>()
            .ok()
            .filter(|chain: &Vec<_>| !chain.is_empty())
            .ok_or_else(|| InvalidTls::NoCertificate(self.certificates.clone()))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| InvalidTls::NoKey(self.key.clone()))?;
        CertifiedKey::from_der(chain, key, provider)
            .map_err(|error| InvalidTls::Unusable { files: self.clone(), error })
    }
}

/// The certificate that is shown now.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// TLS, ready to serve.
pub struct Tls {
    files: TlsFiles,
    read: Read,
    provider: Arc<CryptoProvider>,
    shown: Arc<Shown>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// One that names the file and says what is wrong with it.
    pub fn new(files: TlsFiles) -> Result<Self, InvalidTls> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let read = files.read()?;
        let shown = files.parse(&read, &provider)?;
        Ok(Self { files, read, provider, shown: Arc::new(Shown(RwLock::new(Arc::new(shown)))) })
    }

    /// What a listener needs. From now on the files are looked at `every` so often, for as long as somebody serves from them.
    pub(super) fn serve(self, every: Duration) -> Result<ServerConfig, rustls::Error> {
        let config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.shown) as _);
        let Self { files, read, provider, shown } = self;
        tokio::spawn(follow(files, read, provider, Arc::downgrade(&shown), every));
        Ok(config)
    }
}

/// Shows what the files hold, whenever that changes. Their contents are compared and not their times: a certificate that is
/// replaced by swapping a symbolic link may have an older one.
async fn follow(files: TlsFiles, mut read: Read, provider: Arc<CryptoProvider>, shown: Weak<Shown>, every: Duration) {
    let mut said = String::new();
    loop {
        tokio::time::sleep(every).await;
        let Some(shown) = shown.upgrade() else { return };
        let looking = files.clone();
        let Ok(looked) = tokio::task::spawn_blocking(move || looking.read()).await else { continue };
        if looked.as_ref().is_ok_and(|now| *now == read) {
            said.clear();
            continue;
        }
        match looked.and_then(|now| Ok((files.parse(&now, &provider)?, now))) {
            Ok((certificate, now)) => {
                *shown.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certificate);
                read = now;
                said.clear();
                tracing::info!(file = %files.certificates.display(), "a new certificate is shown");
            }
            // Between the replacement of one file and the other they do not fit, so this may be over at the next look.
            // Said once, not at each look.
            Err(error) => {
                let error = error.to_string();
                if error != said {
                    tracing::error!(error, "the new certificate cannot be used; the old one is still shown");
                    said = error;
                }
            }
        }
    }
}
