//! Setting a server up.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use crate::config::{
    Config, ExpiredToken, LayerLag, MissingLayer, MissingPermission, MissingRepository, RegistryId, TagMutability,
};
use crate::denial::{DenyReason, PolicyKind};
use crate::fault::Fault;
use crate::handle::LocalEcr;
use crate::journal::{Journal, Side};
use crate::link::{Link, SharedLink};
use crate::quota::Rate;
use crate::server::{Activity, Addresses, Shared, listen};
use crate::state::State;
use crate::store::Store;
use crate::tls::{Tls, TlsError, TlsVersion};
use crate::unknowns;

/// Threads of a server: enough for several uploads that write to disk at once.
const THREADS: usize = 4;

/// Why a server didn't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No folder for blobs.
    #[error("cannot make a folder for blobs")]
    Folder(#[source] std::io::Error),
    /// A port could not be listened on.
    #[error("cannot listen on port {port}")]
    Listen {
        /// The port; 0 means any.
        port: u16,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// No certificate, or no version of TLS that it could be for.
    #[error("cannot set up TLS")]
    Tls(#[source] TlsError),
    /// No threads.
    #[error("cannot start threads")]
    Threads(#[source] std::io::Error),
}

/// What a server is to be like; [`LocalEcr::builder`] gives one.
#[derive(Debug)]
#[must_use = "nothing runs before start"]
pub struct Builder {
    config: Config,
    /// Repositories of the default registry, whose account and region may still change.
    repositories: Vec<String>,
    port: u16,
    api_port: u16,
    /// Where the folder for blobs is made; the system's place for such folders if none.
    storage: Option<PathBuf>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self { config: unknowns::answers(), repositories: Vec::new(), port: 0, api_port: 0, storage: None }
    }

    pub(crate) fn set(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// The default registry's account; 123456789012 unless set.
    pub fn account(self, account: &str) -> Self {
        self.set(|config| account.clone_into(&mut config.home.account))
    }

    /// The default registry's region; ap-northeast-2 unless set.
    pub fn region(self, region: &str) -> Self {
        self.set(|config| region.clone_into(&mut config.home.region))
    }

    /// The one key pair whose requests the API takes. Signatures are not verified, only that they name this key.
    pub fn access_key(self, id: &str, secret: &str) -> Self {
        self.set(|config| {
            id.clone_into(&mut config.access_key_id);
            secret.clone_into(&mut config.secret_access_key);
        })
    }

    /// A repository in the default registry.
    pub fn repository(mut self, name: &str) -> Self {
        self.repositories.push(name.to_owned());
        self
    }

    /// A repository in another registry, which is reached by an ECR host name in the `Host` header.
    pub fn repository_in(self, account: &str, region: &str, name: &str) -> Self {
        self.set(|config| {
            config.repositories.push((RegistryId::new(account, region), name.to_owned()));
        })
    }

    /// Whether the tags of repositories of this name may move.
    pub fn immutability(self, repository: &str, mutability: TagMutability) -> Self {
        self.set(|config| _ = config.mutability.insert(repository.to_owned(), mutability))
    }

    /// Whether an immutable tag is refused for the digest that it has already.
    pub fn same_digest_refused(self, refused: bool) -> Self {
        self.set(|config| config.same_digest_refused = refused)
    }

    /// Says "because the repository is immutable", as ECR did before tags had modes of their own.
    pub fn older_immutability_words(self, older: bool) -> Self {
        self.set(|config| config.older_immutability_words = older)
    }

    /// Takes an IAM action away, such as `ecr:InitiateLayerUpload`.
    pub fn deny(self, action: &str) -> Self {
        self.set(|config| config.policy.deny(action, DenyReason::Missing(PolicyKind::Identity)))
    }

    /// Grants an IAM action beyond those of a least-privilege push, such as `ecr:GetDownloadUrlForLayer`.
    /// Without it, asking for it gets a 403 and is a [`Violation::ForbiddenAction`](crate::Violation::ForbiddenAction).
    pub fn allow(self, action: &str) -> Self {
        self.set(|config| config.policy.allow(action))
    }

    /// Grants what pulling needs: `ecr:GetDownloadUrlForLayer` and `ecr:ListImages`.
    pub fn allow_pull(self) -> Self {
        self.allow("ecr:GetDownloadUrlForLayer").allow("ecr:ListImages")
    }

    /// What becomes of an upload to a missing repository.
    pub fn missing_repository(self, how: MissingRepository) -> Self {
        self.set(|config| config.missing_repository = how)
    }

    /// What becomes of an upload without `ecr:InitiateLayerUpload`.
    pub fn missing_permission(self, how: MissingPermission) -> Self {
        self.set(|config| config.missing_permission = how)
    }

    /// How a manifest is refused for a missing layer.
    pub fn missing_layer(self, how: MissingLayer) -> Self {
        self.set(|config| config.missing_layer = how)
    }

    /// For how long uploaded layers are not seen by manifests.
    pub fn layer_lag(self, lag: LayerLag) -> Self {
        self.set(|config| config.layer_lag = lag)
    }

    /// Most layers that an image may have; unlimited unless set.
    pub fn layer_limit(self, layers: usize) -> Self {
        self.set(|config| config.layer_limit = Some(layers))
    }

    /// Each token expires after so many registry requests.
    pub fn token_lifetime(self, requests: u64) -> Self {
        self.set(|config| config.token_lifetime = Some(requests))
    }

    /// Whether tokens claim to have expired long ago, while they work.
    pub fn token_expires_at_in_past(self, in_past: bool) -> Self {
        self.set(|config| config.token_expires_at_in_past = in_past)
    }

    /// What an expired token gets.
    pub fn expired_token(self, how: ExpiredToken) -> Self {
        self.set(|config| config.expired_token = how)
    }

    /// Whether SHA-512 digests are taken; not unless set.
    pub fn sha512(self, taken: bool) -> Self {
        self.set(|config| config.sha512 = taken)
    }

    /// Whether there is a referrers API; there is unless set.
    pub fn referrers_api(self, there: bool) -> Self {
        self.set(|config| config.referrers_api = there)
    }

    /// Whether a manifest with a subject is answered with `OCI-Subject`; not unless set.
    pub fn oci_subject_header(self, sent: bool) -> Self {
        self.set(|config| config.oci_subject_header = sent)
    }

    /// The account's setting for mounts; off unless set. They need `ecr:GetDownloadUrlForLayer` too.
    pub fn blob_mounting(self, on: bool) -> Self {
        self.set(|config| config.blob_mounting = on)
    }

    /// Whether a mount from a repository without `ecr:GetDownloadUrlForLayer` is refused (403). If not, it is left out, and the
    /// POST opens a session as if it had asked for none.
    pub fn mount_denied(self, denied: bool) -> Self {
        self.set(|config| config.mount_denied = denied)
    }

    /// Whether a DELETE ends an upload session (204). If not, it is refused (405), and the session is the
    /// client's business no more.
    pub fn upload_cancel(self, works: bool) -> Self {
        self.set(|config| config.upload_cancel = works)
    }

    /// A quota for an IAM action: so many at once, and so many more each second; 429 beyond.
    pub fn rate(self, action: &str, burst: u32, per_second: f64) -> Self {
        self.set(|config| {
            _ = config.rates.insert(action.to_owned(), Rate { burst, per_second });
        })
    }

    /// Something that goes wrong. Where several strike one request, the first that was set wins.
    pub fn fault(self, fault: Fault) -> Self {
        self.set(|config| config.faults.push(fault))
    }

    /// Speaks TLS on every port, and nothing else, with a certificate of an authority of its own
    /// ([`LocalEcr::ca_file`]) that is for the loopback addresses and for ECR's host names in its regions.
    pub fn tls(self, on: bool) -> Self {
        self.set(|config| config.tls = on)
    }

    /// The versions of TLS that it speaks; 1.2 and 1.3 unless set.
    pub fn tls_versions(self, versions: &[TlsVersion]) -> Self {
        self.set(|config| config.tls_versions = versions.to_vec())
    }

    /// Offers HTTP/2 to TLS clients; HTTP/1.1 alone unless set.
    pub fn http2(self, offered: bool) -> Self {
        self.set(|config| config.http2 = offered)
    }

    /// Puts a slow line between the clients and the server: every port is as far away.
    pub fn link(self, link: Link) -> Self {
        self.set(|config| config.link = Some(link))
    }

    /// The registry's port; one of the kernel's choosing unless set.
    pub fn port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// The API's port; one of the kernel's choosing unless set.
    pub fn api_port(self, port: u16) -> Self {
        Self { api_port: port, ..self }
    }

    /// Keeps blobs in a new folder below this one, in memory perhaps; below the system's folder for temporary files unless
    /// set.
    pub fn storage(self, folder: &Path) -> Self {
        Self { storage: Some(folder.to_owned()), ..self }
    }

    /// Starts with the registry on this port.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`].
    pub fn start_on(self, port: u16) -> Result<LocalEcr, StartError> {
        self.port(port).start()
    }

    /// Starts the server, on threads of its own, and comes back when it listens.
    ///
    /// # Errors
    ///
    /// No folder, no port, no certificate or no threads.
    pub fn start(self) -> Result<LocalEcr, StartError> {
        let Self { mut config, repositories, port, api_port, storage } = self;
        if config.public_alias.is_some() {
            config.home = RegistryId::public(config.home.account);
        }
        let home = config.home.clone();
        config.repositories.extend(repositories.into_iter().map(|name| (home.clone(), name)));

        let storage = storage.unwrap_or_else(std::env::temp_dir);
        let folder = TempDir::with_prefix_in("local-ecr-", storage).map_err(StartError::Folder)?;
        let store = Store::new(folder.path()).map_err(StartError::Folder)?;
        let (api, api_address) = bind(api_port)?;
        let (registry, registry_address) = bind(port)?;
        let (identity, identity_address) = bind(0)?;
        let (elsewhere, elsewhere_address) = bind(0)?;
        let addresses = Addresses {
            api: api_address,
            registry: registry_address,
            identity: identity_address,
            elsewhere: elsewhere_address,
        };
        let state = Mutex::new(State::new(&config));
        let activity = Activity::default();
        let tls = config.tls.then(|| Tls::new(&config, folder.path())).transpose().map_err(StartError::Tls)?;
        let link = config.link.map(SharedLink::new);
        let journal = Journal::new();
        let shared = Arc::new(Shared { config, journal, store, state, activity, addresses, tls, link });

        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("local-ecr")
            .enable_all()
            .build()
            .map_err(StartError::Threads)?;
        let in_runtime = runtime.enter();
        let listeners =
            [(Side::Api, api), (Side::Registry, registry), (Side::Identity, identity), (Side::Elsewhere, elsewhere)];
        for (side, listener) in listeners {
            let listener = tokio::net::TcpListener::from_std(listener).map_err(StartError::Threads)?;
            if shared.link.is_some() {
                let port = listener.local_addr().map_or(0, |address| address.port());
                SharedLink::narrow(&listener).map_err(|source| StartError::Listen { port, source })?;
            }
            runtime.spawn(listen(Arc::clone(&shared), side, listener));
        }
        drop(in_runtime);
        Ok(LocalEcr::new(shared, runtime, folder))
    }
}

/// Listens on the loopback address.
pub(crate) fn bind(port: u16) -> Result<(TcpListener, SocketAddr), StartError> {
    let listen = || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    listen().map_err(|source| StartError::Listen { port, source })
}
