//! oci-client as a reader: an independent party that brings back what was pushed.

use local_ecr::LocalEcr;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use tokio::runtime::Runtime;

use super::LOGIN;
use crate::support::layout::{INDEX, Layout, MANIFEST, sha256, sha512};
use crate::support::servers::DockerRegistry;

/// Every media type of a manifest that a registry may have.
const ACCEPTED: [&str; 4] = [
    MANIFEST,
    INDEX,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// One that is logged in. It verifies the digest of whatever it reads.
pub(super) struct Reader {
    runtime: Runtime,
    client: Client,
    host: String,
    auth: RegistryAuth,
}

impl Reader {
    pub(super) fn of(registry: &DockerRegistry) -> Self {
        Self::new(registry.address(), LOGIN.username, LOGIN.password, None)
    }

    /// One of a registry like ECR's, over TLS if it speaks that.
    pub(super) fn of_ecr(ecr: &LocalEcr) -> Self {
        let url = ecr.registry_url();
        let host = url.split_once("://").expect("a URL").1;
        Self::new(host, "AWS", &ecr.issue_password(), ecr.ca_pem())
    }

    fn new(host: &str, username: &str, password: &str, authority: Option<&str>) -> Self {
        let host = host.to_owned();
        let plain = if authority.is_none() { vec![host.clone()] } else { Vec::new() };
        let trusted = authority.map(|pem| Certificate { encoding: CertificateEncoding::Pem, data: pem.into() });
        let config = ClientConfig {
            protocol: ClientProtocol::HttpsExcept(plain),
            extra_root_certificates: trusted.into_iter().collect(),
            ..ClientConfig::default()
        };
        let auth = RegistryAuth::Basic(username.to_owned(), password.to_owned());
        let runtime = Runtime::new().expect("threads can be started");
        Self { runtime, client: Client::new(config), host, auth }
    }

    /// A manifest's bytes and its digest; the reference is a tag or a digest.
    pub(super) fn manifest(&self, repository: &str, reference: &str) -> Option<(Vec<u8>, String)> {
        let (host, repository) = (self.host.clone(), repository.to_owned());
        let named = if reference.contains(':') {
            Reference::with_digest(host, repository, reference.to_owned())
        } else {
            Reference::with_tag(host, repository, reference.to_owned())
        };
        let pulled = self.runtime.block_on(self.client.pull_manifest_raw(&named, &self.auth, &ACCEPTED));
        pulled.ok().map(|(bytes, digest)| (bytes.to_vec(), digest))
    }

    pub(super) fn blob(&self, repository: &str, digest: &str) -> Option<Vec<u8>> {
        let named = Reference::with_digest(self.host.clone(), repository.to_owned(), digest.to_owned());
        let mut bytes = Vec::new();
        self.runtime.block_on(self.client.pull_blob(&named, digest, &mut bytes)).ok().map(|()| bytes)
    }

    /// Asserts that a repository has everything below `root`, byte for byte.
    #[track_caller]
    pub(super) fn finds_all(&self, repository: &str, layout: &Layout, root: &str) {
        let reach = layout.reach(root);
        let ours = |digest: &str| std::fs::read(layout.blob(digest)).expect("the layout has it");
        for digest in &reach.manifests {
            let found = self.manifest(repository, digest).map(|(bytes, _)| bytes);
            assert_eq!(found, Some(ours(digest)), "manifest {digest} in {repository}");
        }
        for digest in &reach.blobs {
            let found = self.blob(repository, digest).unwrap_or_else(|| panic!("{repository} has no blob {digest}"));
            // The layout needn't have what a descriptor carries along.
            let hashed = if digest.starts_with("sha512") { sha512(&found) } else { sha256(&found) };
            assert_eq!(&hashed, digest, "blob in {repository}");
        }
        for digest in &reach.withheld {
            assert_eq!(self.blob(repository, digest), None, "{repository} has {digest}");
        }
    }
}
