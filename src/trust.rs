//! The certificate authorities that are trusted, the same for the registry and for AWS's APIs.
//!
//! There is no way to trust everything.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use aws_smithy_http_client::tls::TrustStore;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

/// Why a file of certificates can't be used.
#[derive(Debug, Error)]
pub enum TrustError {
    /// It can't be read.
    #[error("the certificates in {path} can't be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It has no certificate that can be used.
    #[error("{path} holds no PEM certificate that can be used")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
}

/// A set of certificate authorities, each of them parsed once. The system's are read when they are needed: they may lie in
/// hundreds of files, and a registry without TLS needs none.
#[derive(Debug, Clone)]
pub struct Trust {
    named: Arc<[CertificateDer<'static>]>,
    all: Arc<OnceLock<Vec<CertificateDer<'static>>>>,
    tls: Arc<OnceLock<Result<Arc<ClientConfig>, rustls::Error>>>,
}

impl Trust {
    /// The system's authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR` as everywhere) and those in `files`.
    ///
    /// Where the system has none, as in a container from scratch, Mozilla's serve, which are compiled in.
    ///
    /// # Errors
    /// When one of `files` can't be read or holds no certificate.
    pub fn load(files: &[PathBuf]) -> Result<Self, TrustError> {
        let mut named = Vec::new();
        for path in files {
            let usable = usable(read(path)?);
            if usable.is_empty() {
                return Err(TrustError::NoCertificate { path: path.clone() });
            }
            named.extend(usable);
        }
        Ok(Self { named: named.into(), all: Arc::default(), tls: Arc::default() })
    }

    /// Those in the named files alone.
    pub(crate) fn named(&self) -> &[CertificateDer<'static>] {
        &self.named
    }

    /// All of them. Blocks, the first time.
    pub(crate) fn all(&self) -> &[CertificateDer<'static>] {
        self.all.get_or_init(|| {
            let mut all = usable(rustls_native_certs::load_native_certs().certs);
            if all.is_empty() {
                all = webpki_root_certs::TLS_SERVER_ROOT_CERTS.to_vec();
            }
            let known: HashSet<CertificateDer> = all.iter().cloned().collect();
            all.extend(self.named.iter().filter(|root| !known.contains(*root)).cloned());
            all
        })
    }

    /// For the registry's client: TLS 1.2 and 1.3, with sessions that can be resumed. Blocks, the first time.
    ///
    /// # Errors
    /// When the TLS library has neither.
    pub(crate) fn tls(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        let made = self.tls.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(self.all().iter().cloned());
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
            Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
        });
        made.clone()
    }

    /// For the SDK's client, which takes PEM only.
    pub(crate) fn store(&self) -> TrustStore {
        self.all().iter().fold(TrustStore::empty(), |store, root| {
            let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(root));
            store.with_pem_certificate(pem)
        })
    }
}

/// Those that can be used: old systems carry certificates that rustls can't parse, and the SDK would panic on them.
fn usable(mut roots: Vec<CertificateDer<'static>>) -> Vec<CertificateDer<'static>> {
    let mut accepted = RootCertStore::empty();
    roots.retain(|root| accepted.add(root.clone()).is_ok());
    roots
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let bytes = fs::read(path).map_err(|source| TrustError::Unreadable { path: path.to_owned(), source })?;
    CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|_| TrustError::NoCertificate { path: path.to_owned() })
}
