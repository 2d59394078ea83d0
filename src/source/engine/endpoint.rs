//! Where engines are: what the environment, docker's contexts and custom say. Asks nobody, and reads no environment itself.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::EngineError;
use crate::cause::Cause;
use crate::oci::digest::{Algorithm, Digest};
use crate::oci::reference::without_user;

/// What the environment says of engines.
#[derive(Debug, Clone, Default)]
pub struct EngineSettings {
    /// `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub docker_context: Option<String>,
    /// `CONTAINER_HOST`, which is Podman's.
    pub container_host: Option<String>,
    /// Whether `DOCKER_TLS_VERIFY` or `DOCKER_TLS` is set. Certificates are looked at with either.
    pub tls: bool,
    /// `DOCKER_CERT_PATH`.
    pub cert_path: Option<PathBuf>,
    /// The folder of docker's config: `DOCKER_CONFIG`, else `~/.docker`.
    pub config: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime: Option<PathBuf>,
    /// The user's home.
    pub home: Option<PathBuf>,
}

/// What says where an engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An environment variable.
    Variable(&'static str),
    /// A docker context of that name.
    Context(String),
    /// Custom.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => f.write_str(name),
            Self::Context(name) => write!(f, "the docker context {name:?}"),
            Self::Default => f.write_str("the default socket"),
        }
    }
}

/// An engine's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A port of a host.
    Tcp {
        /// The host, with brackets if it is an IPv6 address.
        host: String,
        /// The port.
        port: u16,
        /// What goes before every path; empty, or begins with a slash and ends without.
        base: String,
        /// The folder of `ca.pem`, `cert.pem` and `key.pem`, if it speaks TLS. None of these need be there.
        tls: Option<PathBuf>,
    },
}

/// A place where an engine may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where that is.
    pub address: Address,
    /// What says so.
    pub origin: Origin,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp { host, port, base, .. } => write!(f, "tcp://{host}:{port}{base}"),
        }?;
        match &self.origin {
            Origin::Default => Ok(()),
            origin => write!(f, " ({origin})"),
        }
    }
}

/// Docker's own socket.
const SOCKET: &str = "/var/run/docker.sock";

/// The name of the context that isn't one.
const DEFAULT_CONTEXT: &str = "default";

impl EngineSettings {
    /// Where to look for engines, the first one first: where `DOCKER_HOST` says, else where `DOCKER_CONTEXT` says; with
    /// neither, where `CONTAINER_HOST` says, and then where docker's current context says, or else at the customary sockets.
    /// `read` gives a file's content.
    ///
    /// # Errors
    /// When what one of them says can't be followed.
    pub fn endpoints(&self, read: impl Fn(&Path) -> io::Result<Vec<u8>>) -> Result<Vec<Endpoint>, EngineError> {
        if let Some(host) = &self.docker_host {
            return Ok(vec![self.variable("DOCKER_HOST", host)?]);
        }
        match self.docker_context.as_deref() {
            Some(DEFAULT_CONTEXT) => return Ok(self.customary()),
            Some(name) => return Ok(vec![self.context(name, &read)?]),
            None => {}
        }
        let mut endpoints = Vec::new();
        if let Some(host) = &self.container_host {
            endpoints.push(self.variable("CONTAINER_HOST", host)?);
        }
        match self.current_context(&read) {
            Some(name) => endpoints.push(self.context(&name, &read)?),
            None => endpoints.extend(self.customary()),
        }
        Ok(endpoints)
    }

    fn variable(&self, name: &'static str, value: &str) -> Result<Endpoint, EngineError> {
        let certificates = self.cert_path.as_ref().or(self.config.as_ref());
        let tls = self.tls.then(|| certificates.cloned().unwrap_or_default());
        endpoint(Origin::Variable(name), value, tls)
    }

    /// The customary sockets: docker's, its rootless one, Docker Desktop's, Colima's, then Podman's.
    fn customary(&self) -> Vec<Endpoint> {
        let below = |folder: &Option<PathBuf>, path: &str| folder.as_ref().map(|folder| folder.join(path));
        let sockets = [
            Some(SOCKET.into()),
            below(&self.runtime, "docker.sock"),
            below(&self.home, ".docker/run/docker.sock"),
            below(&self.home, ".docker/desktop/docker.sock"),
            below(&self.home, ".colima/default/docker.sock"),
            below(&self.runtime, "podman/podman.sock"),
            Some("/run/podman/podman.sock".into()),
        ];
        let endpoint = |path| Endpoint { address: Address::Unix(path), origin: Origin::Default };
        sockets.into_iter().flatten().map(endpoint).collect()
    }

    /// What docker's config says; a config that can't be read says nothing, to docker neither.
    fn current_context(&self, read: impl Fn(&Path) -> io::Result<Vec<u8>>) -> Option<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Config {
            current_context: Option<String>,
        }
        let bytes = read(&self.config.as_ref()?.join("config.json")).ok()?;
        let config: Config = serde_json::from_slice(&bytes).ok()?;
        config.current_context.filter(|name| !name.is_empty() && name != DEFAULT_CONTEXT)
    }

    fn context(&self, name: &str, read: impl Fn(&Path) -> io::Result<Vec<u8>>) -> Result<Endpoint, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Context {
            #[serde(default)]
            endpoints: Endpoints,
        }
        #[derive(Default, Deserialize)]
        struct Endpoints {
            #[serde(default)]
            docker: Docker,
        }
        #[derive(Default, Deserialize)]
        struct Docker {
            #[serde(default, rename = "Host")]
            host: String,
            #[serde(default, rename = "SkipTLSVerify")]
            skip_tls_verify: bool,
        }
        let origin = Origin::Context(name.to_owned());
        let contexts = self.config.clone().unwrap_or_default().join("contexts");
        let digest = Digest::of(Algorithm::Sha256, name.as_bytes());
        let path = contexts.join("meta").join(digest.hex()).join("meta.json");
        let unreadable = |source| EngineError::Context { origin: origin.clone(), path: path.clone(), source };
        let bytes = read(&path).map_err(|error| unreadable(Cause::new(error)))?;
        let context: Context = serde_json::from_slice(&bytes).map_err(|error| unreadable(Cause::new(error)))?;
        let Docker { host, skip_tls_verify } = context.endpoints.docker;
        let certificates = contexts.join("tls").join(digest.hex()).join("docker");
        let has = |name: &str| read(&certificates.join(name)).is_ok();
        let tls = skip_tls_verify || has("ca.pem") || has("cert.pem");
        let host = if host.is_empty() { format!("unix://{SOCKET}") } else { host };
        let endpoint = endpoint(origin.clone(), &host, tls.then_some(certificates))?;
        match endpoint.address {
            Address::Tcp { .. } if skip_tls_verify => Err(EngineError::Unchecked { origin }),
            _ => Ok(endpoint),
        }
    }
}

/// Reads an address; with `tls` a `tcp` one speaks TLS.
fn endpoint(origin: Origin, value: &str, tls: Option<PathBuf>) -> Result<Endpoint, EngineError> {
    let malformed = || EngineError::Malformed { origin: origin.clone(), value: without_user(value) };
    let (scheme, rest) = value.split_once("://").ok_or_else(malformed)?;
    let address = match scheme {
        "unix" if rest.is_empty() => Address::Unix(SOCKET.into()),
        "unix" if rest.starts_with('/') => Address::Unix(rest.into()),
        "tcp" | "http" => tcp(rest, tls).ok_or_else(malformed)?,
        "https" => tcp(rest, Some(tls.unwrap_or_default())).ok_or_else(malformed)?,
        "ssh" => return Err(EngineError::Ssh { origin, url: without_user(value) }),
        _ => return Err(malformed()),
    };
    Ok(Endpoint { address, origin })
}

/// `HOST[:PORT][/PATH]`, as docker has it: no host is this one, no port is the customary one.
fn tcp(rest: &str, tls: Option<PathBuf>) -> Option<Address> {
    let (authority, base) = rest.split_once('/').map_or((rest, ""), |(authority, base)| (authority, base));
    if authority.contains('@') || rest.contains(['?', '#']) || rest.contains(char::is_whitespace) {
        return None;
    }
    let (host, port) = match authority.rsplit_once(':') {
        // The colon is one of an IPv6 address.
        Some((_, port)) if port.ends_with(']') => (authority, ""),
        Some((host, port)) => (host, port),
        None => (authority, ""),
    };
    let port = match port {
        "" if tls.is_some() => 2376,
        "" => 2375,
        port => port.parse().ok()?,
    };
    let host = if host.is_empty() { "localhost" } else { host }.to_owned();
    let base = base.trim_matches('/');
    let base = if base.is_empty() { String::new() } else { format!("/{base}") };
    // Whether that is a host and a path the HTTP library knows.
    format!("http://{host}:{port}{base}/").parse::<http::Uri>().ok()?;
    Some(Address::Tcp { host, port, base, tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A docker config folder `/c` with these files in it.
    fn found(settings: EngineSettings, files: &[(&str, &str)]) -> Result<Vec<String>, EngineError> {
        let settings = EngineSettings { config: Some("/c".into()), home: Some("/h".into()), ..settings };
        let read = |path: &Path| {
            let file = files.iter().find(|(name, _)| Path::new("/c").join(name) == path);
            file.map(|(_, text)| text.as_bytes().to_vec()).ok_or_else(|| io::ErrorKind::NotFound.into())
        };
        let shown = |endpoint: &Endpoint| match &endpoint.address {
            Address::Tcp { tls: Some(folder), .. } => format!("{endpoint} with {}", folder.display()),
            _ => endpoint.to_string(),
        };
        Ok(settings.endpoints(read)?.iter().map(shown).collect())
    }

    fn docker_host(value: &str) -> EngineSettings {
        EngineSettings { docker_host: Some(value.to_owned()), ..EngineSettings::default() }
    }

    #[test]
    fn addresses() {
        let check = |value: &str, expected: &str| {
            assert_eq!(found(docker_host(value), &[]).unwrap(), [expected], "{value}");
        };
        check("unix:///run/x.sock", "unix:///run/x.sock (DOCKER_HOST)");
        check("unix://", "unix:///var/run/docker.sock (DOCKER_HOST)");
        check("tcp://h.example", "tcp://h.example:2375 (DOCKER_HOST)");
        check("tcp://h.example:99", "tcp://h.example:99 (DOCKER_HOST)");
        check("tcp://:99", "tcp://localhost:99 (DOCKER_HOST)");
        check("tcp://[::1]", "tcp://[::1]:2375 (DOCKER_HOST)");
        check("tcp://[::1]:99/", "tcp://[::1]:99 (DOCKER_HOST)");
        check("tcp://h.example:99/a/b/", "tcp://h.example:99/a/b (DOCKER_HOST)");
        check("http://h.example:99", "tcp://h.example:99 (DOCKER_HOST)");
        check("https://h.example", "tcp://h.example:2376 (DOCKER_HOST) with ");
        let tls = |cert_path: Option<&str>| {
            let settings = EngineSettings { tls: true, cert_path: cert_path.map(Into::into), ..docker_host("tcp://h") };
            found(settings, &[]).unwrap()
        };
        assert_eq!(tls(Some("/certs")), ["tcp://h:2376 (DOCKER_HOST) with /certs"]);
        assert_eq!(tls(None), ["tcp://h:2376 (DOCKER_HOST) with /c"]);
    }

    #[test]
    fn refuses() {
        let check = |value: &str| found(docker_host(value), &[]).unwrap_err();
        let malformed = [
            "",
            "/run/x.sock",
            "h:99",
            "unix:/x",
            "unix://x.sock",
            "tcp://h:x",
            "tcp://h:99999",
            "tcp://u:p@h",
            "tcp://h?x",
            "fd://",
            "npipe:////./pipe/docker_engine",
            "tcp://a b",
            "tcp://[::1",
            "tcp://h:1/a b",
        ];
        for value in malformed {
            assert!(matches!(check(value), EngineError::Malformed { .. }), "{value}");
        }
        assert!(!check("tcp://u:secret@h").to_string().contains("secret"));
        let EngineError::Ssh { url, .. } = check("ssh://me@h.example") else { panic!() };
        assert_eq!(url, "ssh://…@h.example");
    }

    #[test]
    fn order() {
        let text = |text: &str| Some(text.to_owned());
        let meta = format!("contexts/meta/{}/meta.json", Digest::of(Algorithm::Sha256, b"remote").hex());
        let certificate =
            |name: &str| format!("contexts/tls/{}/docker/{name}", Digest::of(Algorithm::Sha256, b"remote").hex());
        let config = ("config.json", r#"{"auths":{},"currentContext":"remote"}"#);
        let plain = (meta.as_str(), r#"{"Name":"remote","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://r:1"}}}"#);
        let skips = (meta.as_str(), r#"{"Endpoints":{"docker":{"Host":"tcp://r:1","SkipTLSVerify":true}}}"#);
        let unix = (meta.as_str(), r#"{"Endpoints":{"docker":{"Host":"unix:///r.sock","SkipTLSVerify":true}}}"#);
        let empty = (meta.as_str(), r#"{"Name":"remote"}"#);
        let ca = certificate("ca.pem");
        let none = EngineSettings::default;
        let in_context = |name: &str| EngineSettings { docker_context: text(name), ..none() };
        let podman = || EngineSettings { container_host: text("unix:///p.sock"), ..none() };

        let check = |settings: EngineSettings, files: &[(&str, &str)], expected: &[&str]| {
            assert_eq!(found(settings, files).unwrap(), expected);
        };
        let remote = "tcp://r:1 (the docker context \"remote\")";
        let both = EngineSettings { docker_context: text("remote"), ..docker_host("unix:///d.sock") };
        check(both, &[config, plain], &["unix:///d.sock (DOCKER_HOST)"]);
        let both = EngineSettings { container_host: text("unix:///p.sock"), ..in_context("remote") };
        check(both, &[plain], &[remote]);
        check(none(), &[config, plain], &[remote]);
        check(podman(), &[config, plain], &["unix:///p.sock (CONTAINER_HOST)", remote]);
        let with_tls = format!("{remote} with /c/{}", certificate("").trim_end_matches('/'));
        check(none(), &[config, plain, (ca.as_str(), "")], &[&with_tls]);
        check(none(), &[config, unix], &["unix:///r.sock (the docker context \"remote\")"]);
        check(none(), &[config, empty], &["unix:///var/run/docker.sock (the docker context \"remote\")"]);

        let customary = [
            "unix:///var/run/docker.sock",
            "unix:///u/docker.sock",
            "unix:///h/.docker/run/docker.sock",
            "unix:///h/.docker/desktop/docker.sock",
            "unix:///h/.colima/default/docker.sock",
            "unix:///u/podman/podman.sock",
            "unix:///run/podman/podman.sock",
        ];
        let at_home = |settings| EngineSettings { runtime: Some("/u".into()), ..settings };
        check(at_home(none()), &[], &customary);
        check(at_home(none()), &[("config.json", "{")], &customary);
        check(at_home(none()), &[("config.json", r#"{"currentContext":"default"}"#)], &customary);
        check(at_home(in_context("default")), &[config, plain], &customary);
        let with_podman: Vec<&str> = ["unix:///p.sock (CONTAINER_HOST)"].into_iter().chain(customary).collect();
        check(at_home(podman()), &[], &with_podman);

        let error = |settings: EngineSettings, files: &[(&str, &str)]| found(settings, files).unwrap_err();
        assert!(matches!(error(none(), &[config]), EngineError::Context { .. }));
        assert!(matches!(error(none(), &[config, (&meta, "{")]), EngineError::Context { .. }));
        assert!(matches!(error(none(), &[config, skips]), EngineError::Unchecked { .. }));
        assert!(matches!(error(in_context("x"), &[config, plain]), EngineError::Context { .. }));
    }
}
