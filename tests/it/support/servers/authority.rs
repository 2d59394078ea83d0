//! A certificate authority that nobody trusts, and a certificate of it for the loopback address.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;

/// A private authority. Its files are there as long as it is.
#[derive(Debug)]
pub(crate) struct Authority {
    folder: TempDir,
    server: Arc<ServerConfig>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("a folder can be made");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority can be made");
        let key = KeyPair::generate().expect("a key can be made");
        let params = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]);
        let certificate = params.and_then(|params| params.signed_by(&key, &issuer)).expect("a certificate can be made");
        let write =
            |name: &str, text: String| std::fs::write(folder.path().join(name), text).expect("it can be written");
        write("ca.pem", issuer.pem());
        write("server.pem", certificate.pem());
        write("server.key", key.serialize_pem());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the versions are known")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .expect("key and certificate belong together");
        Self { folder, server: Arc::new(server) }
    }

    /// The authority's certificate, for those who shall trust it.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The server's certificate and its key.
    pub(super) fn files(&self) -> (PathBuf, PathBuf) {
        (self.folder.path().join("server.pem"), self.folder.path().join("server.key"))
    }

    /// What a TLS server in the test process needs.
    pub(super) fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }
}
