//! Docker's and Podman's engines, each on a socket in a folder of its own, with no network and no image.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Server, Tool, left_out};
use crate::support::command::signal;
use crate::support::has_root;
use crate::support::layout::{noise, sha256};

/// How long an engine gets to end in an orderly way: it has mounts to undo.
const END: Duration = Duration::from_secs(20);

/// Whose engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Docker,
    Podman,
}

impl Kind {
    /// Those that there are; what isn't is said, and fails unless the environment says that this is known.
    pub(crate) fn all() -> Vec<Self> {
        let there = |kind: &Self| {
            let tool = if *kind == Self::Docker { Tool::Dockerd } else { Tool::Podman };
            has_root("an engine of one's own") && !left_out(&[tool])
        };
        [Self::Docker, Self::Podman].into_iter().filter(there).collect()
    }
}

/// A running engine.
#[derive(Debug)]
pub(crate) struct Engine {
    server: Server,
    kind: Kind,
    folder: TempDir,
}

impl Engine {
    pub(crate) fn start(kind: Kind) -> Self {
        // Sockets' paths are short.
        let folder = TempDir::with_prefix("engine-").expect("a folder can be made");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let host = format!("unix://{}", path("socket"));
        let server = match kind {
            Kind::Docker => {
                // Without one it reads the system's.
                fs::write(path("config.json"), "{}").expect("it can be written");
                let mut command = Tool::Dockerd.command(folder.path());
                command.args(["--config-file", &path("config.json"), "--pidfile", &path("pid"), "-H", &host]);
                command.args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--storage-driver=vfs"]);
                command.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
                Server::start(command, folder.path(), "API listen on ")
            }
            Kind::Podman => {
                let mut command = Tool::Podman.command(folder.path());
                command.args(["--log-level=info", "--root", &path("data"), "--runroot", &path("run")]);
                command.args(["--storage-driver=vfs", "system", "service", "--time=0", &host]);
                Server::start(command, folder.path(), "API service listening on ")
            }
        };
        Self { server, kind, folder }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// As `DOCKER_HOST` has it.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Loads an image, and gives its ID.
    pub(crate) fn load(&self, image: &Saved) -> String {
        let (status, said) = self.ask("POST", "/images/load", "application/x-tar", &image.tar);
        assert_eq!(status, 200, "{said}");
        image.id.clone()
    }

    /// Makes an image of a root filesystem's tar.
    pub(crate) fn import(&self, tar: &Path, name: &str) {
        let (repository, tag) = name.rsplit_once(':').expect("a name with a tag");
        let path = match self.kind {
            Kind::Docker => format!("/images/create?fromSrc=-&repo={repository}&tag={tag}"),
            Kind::Podman => format!("/v4.0.0/libpod/images/import?reference=localhost/{name}"),
        };
        let mut file = fs::File::open(tar).expect("the tar is there");
        let length = file.metadata().expect("it can be looked at").len();
        let mut stream = self.begin("POST", &path, length);
        io::copy(&mut file, &mut stream).expect("the engine reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the engine answers");
        assert!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(!answer.contains("\"error\""), "{answer}");
    }

    /// Writes an image as `docker save` does.
    pub(crate) fn save(&self, image: &str, to: &Path) {
        let mut stream = BufReader::new(self.begin("GET", &format!("/images/{image}/get"), 0));
        let mut line = String::new();
        stream.read_line(&mut line).expect("the engine answers");
        assert!(line.contains(" 200 "), "{line}");
        while line != "\r\n" {
            line.clear();
            assert_ne!(stream.read_line(&mut line).expect("an answer has a head"), 0);
        }
        io::copy(&mut stream, &mut fs::File::create(to).expect("a new file")).expect("the engine writes");
    }

    /// Gives an image one more name.
    pub(crate) fn tag(&self, image: &str, repository: &str, tag: &str) {
        let (status, said) = self.ask("POST", &format!("/images/{image}/tag?repo={repository}&tag={tag}"), "", b"");
        assert_eq!(status, 201, "{said}");
    }

    /// Makes a container of that name, which never runs.
    pub(crate) fn create(&self, name: &str, image: &str) {
        let body = json!({"Image": image, "Cmd": ["/app"]}).to_string();
        let path = format!("/containers/create?name={name}");
        let (status, said) = self.ask("POST", &path, "application/json", body.as_bytes());
        assert_eq!(status, 201, "{said}");
    }

    /// Its images: ID and names, both sorted.
    pub(crate) fn images(&self) -> Vec<(String, Vec<String>)> {
        let (status, said) = self.ask("GET", "/images/json", "", b"");
        assert_eq!(status, 200, "{said}");
        let list: Value = serde_json::from_str(&said).expect("a list");
        let mut images: Vec<_> = list.as_array().expect("a list").iter().map(image).collect();
        images.sort();
        images
    }

    /// Begins to ask for something with so long a body, which the caller sends. 1.0, so that the answer comes as it is.
    fn begin(&self, method: &str, path: &str, length: u64) -> UnixStream {
        let mut stream = UnixStream::connect(self.socket()).expect("the engine listens");
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Length: {length}\r\n\r\n")
            .expect("the engine reads");
        stream
    }

    /// Asks for something, and gives the answer's status and text.
    fn ask(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
        let mut stream = UnixStream::connect(self.socket()).expect("the engine listens");
        // 1.0, so that the answer comes as it is.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).expect("the engine reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the engine answers");
        let _ = stream.shutdown(Shutdown::Both);
        let (head, text) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status");
        (status, text.to_owned())
    }
}

fn image(entry: &Value) -> (String, Vec<String>) {
    let id = entry["Id"].as_str().expect("an image has an ID").to_owned();
    let names = entry["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut names: Vec<String> = names.filter(|name| *name != "<none>:<none>").map(str::to_owned).collect();
    names.sort();
    (id, names)
}

impl Drop for Engine {
    fn drop(&mut self) {
        signal(self.server.child.id(), "TERM");
        let since = Instant::now();
        while since.elapsed() < END && self.server.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// An image as `docker save` writes it, of layers with one file each.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) tar: Vec<u8>,
    /// The digest of its config.
    pub(crate) id: String,
    /// Its layers' tars, the lowest first.
    pub(crate) layers: Vec<Vec<u8>>,
}

impl Saved {
    /// An image of layers with so many bytes of noise, called by these names.
    pub(crate) fn new(seed: u64, sizes: &[usize], names: &[&str]) -> Self {
        let layer = |(at, size): (usize, &usize)| {
            let mut tar = tar::Builder::new(Vec::new());
            append(&mut tar, format!("file-{at}"), &noise(seed + at as u64, *size));
            tar.into_inner().expect("memory is enough")
        };
        let layers: Vec<Vec<u8>> = sizes.iter().enumerate().map(layer).collect();
        let diff_ids: Vec<String> = layers.iter().map(|layer| sha256(layer)).collect();
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/app"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string();
        let id = sha256(config.as_bytes());
        let hex = id.trim_start_matches("sha256:");
        let files: Vec<String> = (0..layers.len()).map(|at| format!("{at}/layer.tar")).collect();
        let manifest = json!([{"Config": format!("{hex}.json"), "RepoTags": names, "Layers": files}]).to_string();
        let mut tar = tar::Builder::new(Vec::new());
        append(&mut tar, format!("{hex}.json"), config.as_bytes());
        for (file, layer) in files.iter().zip(&layers) {
            append(&mut tar, file, layer);
        }
        append(&mut tar, "manifest.json", manifest.as_bytes());
        Self { tar: tar.into_inner().expect("memory is enough"), id, layers }
    }
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: impl AsRef<Path>, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, path, content).expect("memory is enough");
}
