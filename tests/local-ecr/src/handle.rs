//! A running server, as tests hold it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::auth::Kind;
use crate::builder::Builder;
use crate::config::RegistryId;
use crate::fault::Fault;
use crate::identity::{self, IssuedCredentials};
use crate::invariants::{Violation, ViolationKind, violations};
use crate::journal::{Connection, Entry, Side};
use crate::server::Shared;
use crate::sync::lock;
use crate::view::RegistryView;

/// Longest wait for requests that are under way.
const QUIET_WAIT: Duration = Duration::from_secs(3);
/// A client that keeps a connection may have sent something that was not read yet.
const QUIET_GRACE: Duration = Duration::from_millis(25);
/// Longest wait for the server's threads.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// A server that runs until this is dropped.
///
/// The drop checks the [invariants](LocalEcr::check) and panics where they are broken, unless the thread panics
/// already.
#[derive(Debug)]
pub struct LocalEcr {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
    excused: Mutex<Vec<ViolationKind>>,
    // Removed after the threads that write to it have ended.
    _folder: TempDir,
}

impl LocalEcr {
    /// A server with ECR's behaviour, account 123456789012 in ap-northeast-2, a test key pair and no repository.
    ///
    /// With `ECR_PUSH_TEST_UNKNOWNS=other` in the environment each [`Unknown`](crate::Unknown) has its other answer.
    ///
    /// # Panics
    ///
    /// When that variable has another value.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn new(shared: Arc<Shared>, runtime: Runtime, folder: TempDir) -> Self {
        Self { shared, runtime: Some(runtime), excused: Mutex::default(), _folder: folder }
    }

    /// Where the API is, for `AWS_ENDPOINT_URL_ECR`.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("{}://{}", self.shared.scheme(), self.shared.addresses.api)
    }

    /// Where the registry is. It serves the default account and region, or the ones that an ECR host name in the
    /// `Host` header names.
    #[must_use]
    pub fn registry_url(&self) -> String {
        format!("{}://{}", self.shared.scheme(), self.shared.addresses.registry)
    }

    /// Where STS is, the instance metadata service, and IAM Identity Center.
    #[must_use]
    pub fn identity_url(&self) -> String {
        format!("{}://{}", self.shared.scheme(), self.shared.addresses.identity)
    }

    /// Where the container endpoint is, for `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    #[must_use]
    pub fn container_url(&self) -> String {
        format!("{}{}", self.identity_url(), identity::CONTAINER_PATH)
    }

    /// A host that is neither, for faults that redirect. Credentials that arrive there are a violation.
    #[must_use]
    pub fn elsewhere_url(&self) -> String {
        format!("{}://{}", self.shared.scheme(), self.shared.addresses.elsewhere)
    }

    /// The default registry's ECR host name.
    #[must_use]
    pub fn host(&self) -> String {
        self.shared.config.home.host()
    }

    /// The default registry's account.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.shared.config.home.account
    }

    /// The default registry's region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.shared.config.home.region
    }

    /// The key that the API takes.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        &self.shared.config.access_key_id
    }

    /// Its secret.
    #[must_use]
    pub fn secret_access_key(&self) -> &str {
        &self.shared.config.secret_access_key
    }

    /// The certificate of the authority that a TLS client must trust, in PEM; none without TLS.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.shared.tls.as_ref().map(|tls| tls.ca_pem.as_str())
    }

    /// The file that has it. It is there for as long as the server is.
    #[must_use]
    pub fn ca_file(&self) -> Option<&Path> {
        self.shared.tls.as_ref().map(|tls| tls.ca_file.as_path())
    }

    /// What an AWS SDK needs in its environment to use this server: the key pair and the endpoint; that of ECR Public, too,
    /// when that is at home; with TLS the authority.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let public = self.shared.config.home.public.then(|| ("AWS_ENDPOINT_URL_ECR_PUBLIC", self.api_url()));
        let authority = self.ca_file().map(|file| ("AWS_CA_BUNDLE", file.display().to_string()));
        let mut variables = vec![
            ("AWS_ACCESS_KEY_ID", self.access_key_id().to_owned()),
            ("AWS_SECRET_ACCESS_KEY", self.secret_access_key().to_owned()),
            ("AWS_ENDPOINT_URL_ECR", self.api_url()),
        ];
        variables.extend(public);
        variables.extend(authority);
        variables
    }

    /// The same for an identity that [`Builder::identity`] added.
    ///
    /// # Panics
    ///
    /// Without an identity of this key.
    #[must_use]
    pub fn identity_environment(&self, access_key_id: &str) -> Vec<(&'static str, String)> {
        let caller = self.shared.config.other_caller(access_key_id);
        let caller = caller.unwrap_or_else(|| panic!("no identity has the key {access_key_id}"));
        let mut variables = self.environment();
        variables.retain(|(name, _)| !["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].contains(name));
        variables.push(("AWS_ACCESS_KEY_ID", access_key_id.to_owned()));
        variables.push(("AWS_SECRET_ACCESS_KEY", caller.secret_access_key.clone()));
        variables.extend(caller.session_token.clone().map(|token| ("AWS_SESSION_TOKEN", token)));
        variables
    }

    /// A password for user `AWS` in the default region, as if the API had been asked. For ECR Public it is one that is
    /// good for the exchange.
    #[must_use]
    pub fn issue_password(&self) -> String {
        lock(&self.shared.state).tokens.issue(Kind::of(&self.shared.config.home), None)
    }

    /// All passwords issued so far, so that a test can look for them where they must not be.
    #[must_use]
    pub fn issued_passwords(&self) -> Vec<String> {
        lock(&self.shared.state).tokens.passwords()
    }

    /// Temporary credentials, as if STS had been asked.
    #[must_use]
    pub fn issue_credentials(&self) -> IssuedCredentials {
        let expires_in = self.shared.config.identity.expires_in;
        let principal = identity::assumed_role(&self.shared, "test", "test");
        lock(&self.shared.state).temporary.issue(identity::Source::Test, principal, expires_in)
    }

    /// All temporary credentials so far, in the order of their making.
    #[must_use]
    pub fn issued_credentials(&self) -> Vec<IssuedCredentials> {
        lock(&self.shared.state).temporary.all()
    }

    /// Everything that nobody may ever see: secret keys, session tokens, ECR's tokens, and what identities are given for.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        let issued = self.issued_credentials().into_iter();
        let issued = issued.flat_map(|credentials| [credentials.secret_access_key, credentials.session_token]);
        let own = [self.secret_access_key().to_owned()].into_iter().chain(self.issued_passwords());
        own.chain(issued).chain(self.shared.config.identity.secrets()).collect()
    }

    /// Every request on all ports, in the order of arrival.
    #[must_use]
    pub fn journal(&self) -> Vec<Entry> {
        self.shared.journal.entries()
    }

    /// The journal's entries for the registry.
    #[must_use]
    pub fn registry_requests(&self) -> Vec<Entry> {
        self.journal().into_iter().filter(|entry| entry.side == Side::Registry).collect()
    }

    /// The journal's entries for the API.
    #[must_use]
    pub fn api_requests(&self) -> Vec<Entry> {
        self.journal().into_iter().filter(|entry| entry.side == Side::Api).collect()
    }

    /// The journal's entries for those who hand out credentials.
    #[must_use]
    pub fn identity_requests(&self) -> Vec<Entry> {
        self.journal().into_iter().filter(|entry| entry.side == Side::Identity).collect()
    }

    /// Every connection on all ports, in the order in which they were ready for requests.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        self.shared.journal.connections()
    }

    /// Calls this with each entry, as soon as its answer is known.
    pub fn on_answer(&self, echo: impl Fn(&Entry) + Send + 'static) {
        self.shared.journal.echo(echo);
    }

    /// Calls this at each moment with its number, from one: when a request's head has arrived, when another 64 KiB of its body
    /// have, and when its answer is known and not yet sent. Nothing more happens before it comes back.
    pub fn on_moment(&self, watch: impl Fn(u64) + Send + 'static) {
        self.shared.journal.moments.watch(watch);
    }

    /// How many moments there were.
    #[must_use]
    pub fn moments(&self) -> u64 {
        self.shared.journal.moments.seen()
    }

    /// Sets a fault while the server runs; it counts requests from now on.
    pub fn inject(&self, fault: Fault) {
        lock(&self.shared.state).faults.push(fault);
    }

    /// Takes all faults away.
    pub fn clear_faults(&self) {
        lock(&self.shared.state).faults.clear();
    }

    /// The default registry, to look into.
    #[must_use]
    pub fn here(&self) -> RegistryView<'_> {
        RegistryView::new(&self.shared, self.shared.config.home.clone())
    }

    /// Another registry, to look into.
    #[must_use]
    pub fn registry(&self, account: &str, region: &str) -> RegistryView<'_> {
        RegistryView::new(&self.shared, RegistryId::new(account, region))
    }

    /// The digest under a tag in the default registry.
    #[must_use]
    pub fn tag(&self, repository: &str, tag: &str) -> Option<String> {
        self.here().tag(repository, tag)
    }

    /// A repository's tags in the default registry, sorted.
    #[must_use]
    pub fn tags(&self, repository: &str) -> Vec<String> {
        self.here().tags(repository)
    }

    /// A manifest's bytes in the default registry.
    #[must_use]
    pub fn manifest(&self, repository: &str, digest: &str) -> Option<Bytes> {
        self.here().manifest(repository, digest)
    }

    /// Whether a repository of the default registry has a blob.
    #[must_use]
    pub fn has_blob(&self, repository: &str, digest: &str) -> bool {
        self.here().blob_path(repository, digest).is_some()
    }

    /// The file that holds a blob of the default registry.
    #[must_use]
    pub fn blob_path(&self, repository: &str, digest: &str) -> Option<PathBuf> {
        self.here().blob_path(repository, digest)
    }

    /// Puts a blob into the default registry, and the repository too if it is missing; gives the digest.
    ///
    /// # Panics
    ///
    /// When it can't be written to disk.
    pub fn seed_blob(&self, repository: &str, bytes: &[u8]) -> String {
        self.here().seed_blob(repository, bytes)
    }

    /// Puts a manifest into the default registry, whether complete or not, and a tag on it if one is given;
    /// gives the digest.
    ///
    /// # Panics
    ///
    /// When it isn't a manifest of this media type.
    pub fn seed_manifest(&self, repository: &str, media_type: &str, bytes: &[u8], tag: Option<&str>) -> String {
        self.here().seed_manifest(repository, media_type, bytes, tag)
    }

    /// Upload sessions that are open, in all registries, those among them that no client knows of.
    #[must_use]
    pub fn open_sessions(&self) -> usize {
        lock(&self.shared.state).sessions.len()
    }

    /// Excuses violations of one kind, if there are any: a test that provokes them says so.
    pub fn expect_violation(&self, kind: ViolationKind) {
        lock(&self.excused).push(kind);
    }

    /// Excuses upload sessions that stay open: their client was killed.
    pub fn allow_open_sessions(&self) {
        self.expect_violation(ViolationKind::OpenSession);
    }

    /// Waits until nothing is under way, then looks whether the invariants hold: no upload session that its
    /// client left open, no tag on an incomplete image, no credential to a wrong host, nothing asked that a
    /// least-privilege policy doesn't allow, no unknown request.
    ///
    /// # Errors
    ///
    /// All that is broken and not excused.
    pub fn check(&self) -> Result<(), Vec<Violation>> {
        self.wait_for_quiet();
        let excused = lock(&self.excused);
        let found: Vec<_> = violations(&self.shared).into_iter().filter(|v| !excused.contains(&v.kind())).collect();
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    /// Waits until every request that arrived has had its effect. The connections of a process that ended are read
    /// to their end, so that what it sent last counts too.
    pub fn wait_for_quiet(&self) {
        let activity = &self.shared.activity;
        let end = Instant::now() + QUIET_WAIT;
        let mut quiet_since = None;
        while Instant::now() < end {
            if activity.requests() > 0 {
                quiet_since = None;
            } else if activity.connections() == 0
                || quiet_since.get_or_insert_with(Instant::now).elapsed() >= QUIET_GRACE
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for LocalEcr {
    fn drop(&mut self) {
        let outcome = if std::thread::panicking() { Ok(()) } else { self.check() };
        if let Some(runtime) = self.runtime.take() {
            // On a thread of its own: a runtime refuses to be stopped from within another one.
            let _ = std::thread::spawn(move || runtime.shutdown_timeout(STOP_WAIT)).join();
        }
        if let Err(found) = outcome {
            let lines: Vec<_> = found.iter().map(|violation| format!("  {violation}")).collect();
            panic!("local-ecr: invariants are broken:\n{}", lines.join("\n"));
        }
    }
}
