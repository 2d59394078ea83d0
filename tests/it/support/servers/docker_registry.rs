//! Debian's docker-registry (distribution 2.8): a real registry's data plane.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tempfile::TempDir;

use super::{Authority, Notary, Server, Tool};

/// A name and a password, and the password as htpasswd keeps it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Login {
    pub(crate) username: &'static str,
    pub(crate) password: &'static str,
    /// Bcrypt of the lowest cost: the registry computes it for every request.
    hash: &'static str,
}

impl Login {
    /// What moto hands out for account 123456789012.
    pub(crate) const ECR: Self = Self {
        username: "AWS",
        password: "123456789012-auth-token",
        hash: "$2b$04$abcdefghijklmnopqrstuu/cMn6kFoLFEf9ShbIPSVtJoiKQtizZG",
    };

    /// Somebody who may log in to an ordinary registry.
    pub(crate) const JENKINS: Self = Self {
        username: "jenkins",
        password: "a good secret",
        hash: "$2b$04$abcdefghijklmnopqrstuu30xH7CTUGRI9zJ4rxtuCf1KSQgAmVM2",
    };

    /// Both as docker's config keeps them.
    pub(crate) fn encoded(self) -> String {
        STANDARD.encode(format!("{}:{}", self.username, self.password))
    }

    /// Both as a request shows them.
    pub(crate) fn header(self) -> String {
        format!("Basic {}", self.encoded())
    }
}

/// Who may do what in a registry.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Guard<'a> {
    /// Everybody everything.
    Open,
    /// Who has this password.
    Basic(Login),
    /// Who has a token of this notary.
    Bearer(&'a Notary),
}

/// A line of the registry's access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Logged {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    pub(crate) status: u16,
}

/// A running registry.
#[derive(Debug)]
pub(crate) struct DockerRegistry {
    server: Server,
    folder: TempDir,
}

impl DockerRegistry {
    /// An http registry.
    pub(crate) fn start(guard: Guard) -> Self {
        Self::with(guard, None)
    }

    /// An https registry, with a certificate of `authority`.
    pub(crate) fn start_tls(guard: Guard, authority: &Authority) -> Self {
        Self::with(guard, Some(authority))
    }

    fn with(guard: Guard, authority: Option<&Authority>) -> Self {
        let folder = TempDir::new().expect("a folder can be made");
        let path = |name: &str| folder.path().join(name);
        let mut config = json!({
            "version": "0.1",
            "log": {"formatter": "json"},
            "storage": {"filesystem": {"rootdirectory": path("storage")}, "delete": {"enabled": true}},
            // Port 0: the registry logs which one it got, so that no two tests ever want the same.
            "http": {"addr": "127.0.0.1:0", "secret": "of no importance"},
            // Otherwise a manifest with a layer that is only at a URL is answered with 500.
            "validation": {"manifests": {"urls": {"allow": ["^https://"]}}},
        });
        match guard {
            Guard::Open => {}
            Guard::Basic(login) => {
                fs::write(path("htpasswd"), format!("{}:{}\n", login.username, login.hash)).expect("it can be written");
                config["auth"] = json!({"htpasswd": {"realm": "test", "path": path("htpasswd")}});
            }
            Guard::Bearer(notary) => config["auth"] = json!({"token": notary.config()}),
        }
        if let Some((certificate, key)) = authority.map(Authority::files) {
            config["http"]["tls"] = json!({"certificate": certificate, "key": key});
        }
        // JSON is YAML, too.
        fs::write(path("config.yml"), config.to_string()).expect("it can be written");
        let mut command = Tool::DockerRegistry.command(folder.path());
        command.arg("serve").arg(path("config.yml"));
        Self { server: Server::start(command, folder.path(), "listening on "), folder }
    }

    /// HOST:PORT.
    pub(crate) fn address(&self) -> &str {
        &self.server.address
    }

    /// What was asked of it so far. The registry logs a request before it ends its answer, so that nothing is missing
    /// once the client has it.
    pub(crate) fn requests(&self) -> Vec<Logged> {
        let log = fs::read_to_string(&self.server.stdout).expect("there is a log");
        log.lines().map(|line| logged(line).unwrap_or_else(|| panic!("no line of an access log: {line}"))).collect()
    }

    /// What was asked of it while `what` went on.
    pub(crate) fn during<T>(&self, what: impl FnOnce() -> T) -> (T, Vec<Logged>) {
        let before = self.requests().len();
        let done = what();
        (done, self.requests().split_off(before))
    }

    /// The tags that a repository has, sorted.
    pub(crate) fn tags(&self, repository: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.repository(repository).join("_manifests/tags")) else { return Vec::new() };
        let name = |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
        let mut names: Vec<String> = entries.filter_map(name).collect();
        names.sort();
        names
    }

    /// Takes a blob out of a repository, as somebody's clean-up might.
    pub(crate) fn lose(&self, repository: &str, digest: &str) {
        let hex = digest.strip_prefix("sha256:").expect("a digest of SHA-256");
        let link = self.repository(repository).join("_layers/sha256").join(hex);
        fs::remove_dir_all(link).expect("the repository has it");
    }

    /// Takes a tag away.
    pub(crate) fn untag(&self, repository: &str, tag: &str) {
        fs::remove_dir_all(self.repository(repository).join("_manifests/tags").join(tag)).expect("the tag is there");
    }

    fn repository(&self, name: &str) -> PathBuf {
        self.folder.path().join("storage/docker/registry/v2/repositories").join(name)
    }

    /// How many upload sessions were opened and neither committed nor cancelled. The folder doesn't tell: the registry
    /// leaves those behind that are cancelled before a byte arrives.
    pub(crate) fn open_sessions(&self) -> usize {
        let requests = self.requests();
        let count = |method: &str, status: u16| {
            let is = |request: &&Logged| request.path.contains("/blobs/uploads/") && request.method == method;
            requests.iter().filter(is).filter(|request| request.status == status).count()
        };
        count("POST", 202) - count("PUT", 201) - count("DELETE", 204)
    }
}

/// Reads a line such as `127.0.0.1 - - [23/Nov/2026:00:11:48 +0000] "HEAD /v2/ HTTP/1.1" 200 2 "" "agent"`.
fn logged(line: &str) -> Option<Logged> {
    let (_, rest) = line.split_once('"')?;
    let (request, rest) = rest.split_once('"')?;
    let mut words = request.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    Some(Logged { method, path, status: rest.split_whitespace().next()?.parse().ok()? })
}
