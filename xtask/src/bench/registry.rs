//! The registries that are pushed to: empty at their start, gone at their end.

use std::error::Error;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use local_ecr::{LineProxy, Link, LocalEcr};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};

use super::args::ServerKind;
use super::image::Image;
use super::process::{Scratch, Server};

pub(crate) const REPOSITORY: &str = "bench/image";
pub(crate) const TAG: &str = "latest";

/// docker-registry's password for user `AWS`, and what bcrypt makes of it at its lowest cost.
const PASSWORD: (&str, &str) =
    ("123456789012-auth-token", "$2b$04$abcdefghijklmnopqrstuu/cMn6kFoLFEf9ShbIPSVtJoiKQtizZG");

/// Longest wait for docker-registry.
const START: Duration = Duration::from_secs(10);

/// How to get to a registry.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// Host and port.
    pub(crate) address: String,
    pub(crate) tls: bool,
    /// Of user `AWS`.
    pub(crate) password: String,
    /// The certificate of the authority to trust.
    pub(crate) authority: Option<PathBuf>,
    /// What ECR has beyond a registry.
    pub(crate) ecr: Option<Ecr>,
}

/// The rest of ECR.
#[derive(Clone, Debug)]
pub(crate) struct Ecr {
    /// The registry's name.
    pub(crate) host: String,
    pub(crate) api_url: String,
    /// Credentials.
    pub(crate) environment: Vec<(&'static str, String)>,
}

impl Access {
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }

    /// What is pushed to.
    pub(crate) fn image(&self) -> String {
        format!("{}/{REPOSITORY}:{TAG}", self.address)
    }

    /// Writes docker's configuration, with the password.
    pub(crate) fn log_in(&self, home: &Path) -> io::Result<()> {
        let folder = docker_config(home);
        fs::create_dir_all(&folder)?;
        let auth = STANDARD.encode(format!("AWS:{}", self.password));
        fs::write(folder.join("config.json"), json!({"auths": {&self.address: {"auth": auth}}}).to_string())
    }

    /// Sets what peers want in their environment.
    pub(crate) fn equip(&self, command: &mut Command, home: &Path) -> io::Result<()> {
        self.log_in(home)?;
        let folder = docker_config(home);
        command.env("REGISTRY_AUTH_FILE", folder.join("config.json")).env("DOCKER_CONFIG", folder);
        if let Some(authority) = &self.authority {
            command.env("SSL_CERT_FILE", authority);
        }
        Ok(())
    }
}

/// Where docker's configuration is in that home.
pub(crate) fn docker_config(home: &Path) -> PathBuf {
    home.join("docker")
}

/// What a registry was asked so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    pub(crate) requests: usize,
    /// Bytes of requests' bodies; none where the registry doesn't tell.
    pub(crate) sent: Option<u64>,
    /// None where nobody counts.
    pub(crate) connections: Option<usize>,
}

impl Count {
    /// What came since then.
    pub(crate) fn since(self, before: Self) -> Self {
        let difference = |now: Option<usize>, before: Option<usize>| Some(now? - before?);
        Self {
            requests: self.requests - before.requests,
            sent: self.sent.zip(before.sent).map(|(now, before)| now - before),
            connections: difference(self.connections, before.connections),
        }
    }
}

/// A running registry.
pub(crate) enum Registry {
    LocalEcr(Box<LocalEcr>),
    Docker(Box<DockerRegistry>),
}

impl Registry {
    /// Starts one, that far away.
    pub(crate) fn start(
        kind: ServerKind,
        link: Option<Link>,
        tls: bool,
        scratch: &Scratch,
    ) -> Result<Self, Box<dyn Error>> {
        match kind {
            ServerKind::LocalEcr => {
                let builder = LocalEcr::builder()
                    .account("123456789012")
                    .region("eu-central-1")
                    .repository(REPOSITORY)
                    .allow_pull()
                    .storage(&scratch.blobs)
                    .tls(tls);
                let builder = link.into_iter().fold(builder, local_ecr::Builder::link);
                Ok(Self::LocalEcr(Box::new(builder.start()?)))
            }
            ServerKind::DockerRegistry => Ok(Self::Docker(Box::new(DockerRegistry::start(link, tls, scratch)?))),
        }
    }

    pub(crate) fn access(&self) -> Access {
        match self {
            Self::LocalEcr(ecr) => {
                let url = ecr.registry_url();
                Access {
                    address: url.split_once("://").map_or("", |(_, address)| address).to_owned(),
                    tls: url.starts_with("https:"),
                    password: ecr.issue_password(),
                    authority: ecr.ca_file().map(Path::to_path_buf),
                    ecr: Some(Ecr { host: ecr.host(), api_url: ecr.api_url(), environment: ecr.environment() }),
                }
            }
            Self::Docker(registry) => Access {
                address: registry.address(),
                tls: registry.authority.is_some(),
                password: PASSWORD.0.to_owned(),
                authority: registry.authority.clone(),
                ecr: None,
            },
        }
    }

    /// What it was asked, all ports of it together.
    pub(crate) fn count(&self) -> io::Result<Count> {
        match self {
            Self::LocalEcr(ecr) => {
                ecr.wait_for_quiet();
                let journal = ecr.journal();
                let sent = journal.iter().map(|entry| entry.bytes).sum();
                Ok(Count { requests: journal.len(), sent: Some(sent), connections: Some(ecr.connections().len()) })
            }
            Self::Docker(registry) => {
                let connections = registry.line.as_ref().map(LineProxy::connections);
                Ok(Count { requests: registry.requests()?, sent: None, connections })
            }
        }
    }

    /// Sees that the image is there, under its tag and whole. With its own digest, unless the pusher makes another.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub(crate) fn verify(&self, image: &Image, rewritten: bool) -> Result<(), String> {
        let found = self.tag().ok_or("the tag is missing")?;
        if !rewritten && found != image.root() {
            return Err(format!("the tag is {found} and not {}", image.root()));
        }
        let mut wanted = vec![found];
        while let Some(digest) = wanted.pop() {
            let bytes = self.manifest(&digest).ok_or_else(|| format!("manifest {digest} is missing"))?;
            let manifest: Value = serde_json::from_slice(&bytes).map_err(|error| format!("{digest}: {error}"))?;
            let list = |field: &str| manifest[field].as_array().into_iter().flatten();
            wanted.extend(list("manifests").filter_map(|child| child["digest"].as_str()).map(str::to_owned));
            for blob in list("layers").chain(manifest.get("config")) {
                let (digest, size) = (blob["digest"].as_str().unwrap_or_default(), blob["size"].as_u64());
                let there = self.blob(digest);
                if there.is_none() || there != size {
                    return Err(format!("blob {digest} is {there:?} bytes long and not {size:?}"));
                }
            }
        }
        Ok(())
    }

    fn tag(&self) -> Option<String> {
        match self {
            Self::LocalEcr(ecr) => ecr.tag(REPOSITORY, TAG),
            Self::Docker(registry) => {
                let link = registry.repository().join("_manifests/tags").join(TAG).join("current/link");
                fs::read_to_string(link).ok()
            }
        }
    }

    fn manifest(&self, digest: &str) -> Option<Vec<u8>> {
        match self {
            Self::LocalEcr(ecr) => ecr.manifest(REPOSITORY, digest).map(|bytes| bytes.to_vec()),
            Self::Docker(registry) => fs::read(registry.blob(digest)?).ok(),
        }
    }

    /// A blob's length, if the repository has it.
    fn blob(&self, digest: &str) -> Option<u64> {
        let file = match self {
            Self::LocalEcr(ecr) => ecr.blob_path(REPOSITORY, digest)?,
            Self::Docker(registry) => {
                let hex = digest.strip_prefix("sha256:")?;
                registry.repository().join("_layers/sha256").join(hex).join("link").exists().then_some(())?;
                registry.blob(digest)?
            }
        };
        fs::metadata(file).ok().map(|metadata| metadata.len())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Self::LocalEcr(ecr) = self {
            // Peers do what a push to ECR shouldn't; that is not what is measured here.
            for violation in ecr.check().err().into_iter().flatten() {
                ecr.expect_violation(violation.kind());
            }
        }
    }
}

/// Debian's registry, with the same line in front of it.
pub(crate) struct DockerRegistry {
    // Dropped first: those who write into the folder end before it is removed.
    line: Option<LineProxy>,
    _server: Server,
    listens: SocketAddr,
    authority: Option<PathBuf>,
    folder: tempfile::TempDir,
}

impl DockerRegistry {
    fn start(link: Option<Link>, tls: bool, scratch: &Scratch) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir_in(&scratch.blobs)?;
        let path = |name: &str| folder.path().join(name);
        fs::write(path("htpasswd"), format!("AWS:{}\n", PASSWORD.1))?;
        let mut config = json!({
            "version": "0.1",
            "log": {"formatter": "json"},
            "storage": {"filesystem": {"rootdirectory": path("storage"), "maxthreads": 100}},
            "http": {"addr": "127.0.0.1:0", "secret": "of no importance"},
            "auth": {"htpasswd": {"realm": "bench", "path": path("htpasswd")}},
        });
        if tls {
            certify(folder.path())?;
            config["http"]["tls"] = json!({"certificate": path("server.pem"), "key": path("server.key")});
        }
        // JSON is YAML, too.
        fs::write(path("config.yml"), config.to_string())?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(path("config.yml")).env("OTEL_TRACES_EXPORTER", "none");
        let mut server = Server::start(&command, &path("stdout"), &path("stderr"))?;
        let listens = listening(&mut server, &path("stderr"))?;
        let proxy = link.map(|link| LineProxy::start(link, listens)).transpose()?;
        let authority = tls.then(|| path("ca.pem"));
        Ok(Self { line: proxy, _server: server, listens, authority, folder })
    }

    /// Host and port for clients.
    fn address(&self) -> String {
        self.line.as_ref().map_or(self.listens, LineProxy::address).to_string()
    }

    /// It logs a request before it ends its answer.
    fn requests(&self) -> io::Result<usize> {
        let log = fs::read_to_string(self.folder.path().join("stdout"))?;
        Ok(log.lines().filter(|line| line.contains(" HTTP/1.") || line.contains(" HTTP/2")).count())
    }

    fn storage(&self) -> PathBuf {
        self.folder.path().join("storage/docker/registry/v2")
    }

    fn repository(&self) -> PathBuf {
        self.storage().join("repositories").join(REPOSITORY)
    }

    /// The file that would hold this.
    fn blob(&self, digest: &str) -> Option<PathBuf> {
        let hex = digest.strip_prefix("sha256:")?;
        Some(self.storage().join("blobs/sha256").join(hex.get(..2)?).join(hex).join("data"))
    }
}

/// Waits until docker-registry says which port it got.
fn listening(server: &mut Server, log: &Path) -> Result<SocketAddr, Box<dyn Error>> {
    let end = Instant::now() + START;
    while Instant::now() < end && server.runs() {
        let text = fs::read_to_string(log)?;
        let address = text.split_once("listening on ").map(|(_, rest)| rest);
        if let Some((address, _)) = address.and_then(|rest| rest.split_once(['"', ','])) {
            return Ok(address.parse()?);
        }
        thread::sleep(Duration::from_millis(5));
    }
    Err(format!("docker-registry didn't start: {}", fs::read_to_string(log)?).into())
}

/// Makes an authority and a certificate for the loopback address.
fn certify(folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()])?.signed_by(&key, &issuer)?;
    fs::write(folder.join("ca.pem"), issuer.pem())?;
    fs::write(folder.join("server.pem"), certificate.pem())?;
    Ok(fs::write(folder.join("server.key"), key.serialize_pem())?)
}
