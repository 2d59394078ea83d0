//! A certificate authority of the server's own, made at its start, and the TLS that its certificate is for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::version::{TLS12, TLS13};
use tokio_rustls::TlsAcceptor;

use crate::config::Config;

/// Why there is no TLS: the libraries' own errors, which are nobody's to look into.
pub(crate) type TlsError = Box<dyn std::error::Error + Send + Sync>;

/// HTTP/2's name in the handshake.
const HTTP2: &[u8] = b"h2";

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// What all TLS connections share, and the authority that clients must trust.
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) ca_pem: String,
    pub(crate) ca_file: PathBuf,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("ca_file", &self.ca_file).finish_non_exhaustive()
    }
}

impl Tls {
    /// Makes authority and certificate; the authority's is written into this folder. Sessions can be resumed.
    pub(crate) fn new(config: &Config, folder: &Path) -> Result<Self, TlsError> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "local-ecr");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(names(config))?.signed_by(&key, &issuer)?;
        let (ca_pem, ca_file) = (issuer.pem(), folder.join("ca.pem"));
        std::fs::write(&ca_file, &ca_pem)?;

        let version = |version: &TlsVersion| match version {
            TlsVersion::V1_2 => &TLS12,
            TlsVersion::V1_3 => &TLS13,
        };
        let versions: Vec<_> = config.tls_versions.iter().map(version).collect();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        if config.http2 {
            server.alpn_protocols.insert(0, HTTP2.to_vec());
        }
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(server)), ca_pem, ca_file })
    }
}

/// Whether client and server agreed on HTTP/2.
pub(crate) fn is_http2(agreed: Option<&[u8]>) -> bool {
    agreed == Some(HTTP2)
}

/// The names that the server goes by: the loopback ones, and those of ECR in the regions that it has
/// (facts/ecr.md, Hosts). As on ECR, one certificate is for all accounts of a region.
fn names(config: &Config) -> Vec<String> {
    let mut names: BTreeSet<String> =
        ["127.0.0.1", "::1", "localhost", "public.ecr.aws", "ecr-public.aws.com"].map(str::to_owned).into();
    let registries = config.repositories.iter().map(|(registry, _)| registry);
    for registry in registries.chain([&config.home]) {
        let region = &registry.region;
        let (standard, dual) = registry.suffixes();
        for fips in ["", "-fips"] {
            names.extend([
                format!("*.dkr.ecr{fips}.{region}.{standard}"),
                format!("*.dkr-ecr{fips}.{region}.{dual}"),
                format!("api.ecr.{region}.{standard}"),
                format!("ecr{fips}.{region}.{standard}"),
                format!("ecr{fips}.{region}.api.aws"),
            ]);
        }
    }
    names.insert("api.ecr-public.us-east-1.amazonaws.com".to_owned());
    names.into_iter().collect()
}
