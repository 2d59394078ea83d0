//! Other people's clients against local-ecr: that it is a registry, and not a mirror of our own client.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use local_ecr::{Builder, Entry, LocalEcr};
use tempfile::TempDir;

use super::reader::Reader;
use super::{blobs, images};
use crate::support::layout::{Layout, digest, fixture_names};
use crate::support::servers::{Tool, left_out};
use crate::support::{Push, assert_arrived, builder, reference, requests, start};

/// A client of containers/image's family, with a folder for all that it keeps, logged in to a local-ecr.
struct Client<'a> {
    folder: TempDir,
    ecr: &'a LocalEcr,
    credentials: String,
}

impl<'a> Client<'a> {
    fn of(ecr: &'a LocalEcr) -> Self {
        let folder = TempDir::with_prefix("ecr-push-it-").expect("a temporary folder");
        let policy = folder.path().join(".config/containers");
        fs::create_dir_all(&policy).expect("a new folder");
        fs::write(policy.join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).expect("a file");
        let certificates = folder.path().join("certificates");
        fs::create_dir(&certificates).expect("a new folder");
        if let Some(authority) = ecr.ca_pem() {
            fs::write(certificates.join("ca.crt"), authority).expect("a new file");
        }
        Self { folder, ecr, credentials: format!("AWS:{}", ecr.issue_password()) }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// How it names an image there.
    fn there(&self, image: &str) -> String {
        let url = self.ecr.registry_url();
        format!("docker://{}/{image}", url.split_once("://").expect("a URL").1)
    }

    /// The options for logging in, which skopeo wants prefixed.
    fn options(&self, prefix: &str) -> [String; 2] {
        let tls = match self.ecr.ca_file() {
            Some(_) => format!("--{prefix}cert-dir={}", self.path("certificates")),
            None => format!("--{prefix}tls-verify=false"),
        };
        [format!("--{prefix}creds={}", self.credentials), tls]
    }

    /// Copies whole images, byte for byte.
    fn skopeo(&self, side: &str, from: &str, to: &str) {
        let [credentials, tls] = self.options(side);
        let copy = ["copy", "--quiet", "--all", "--preserve-digests", &credentials, &tls, from, to];
        Tool::Skopeo.run(self.folder.path(), &copy);
    }

    /// Runs podman or buildah, on storage of its own.
    fn run(&self, tool: Tool, args: &[&str]) -> String {
        let (root, run) = (self.path("storage"), self.path("run"));
        let own = ["--storage-driver", "vfs", "--root", &root, "--runroot", &run];
        tool.run(self.folder.path(), &[&own, args].concat())
    }

    /// Pushes what it has under a name.
    fn push(&self, tool: Tool, name: &str, image: &str, options: &[&str]) {
        let [credentials, tls] = self.options("");
        let push = ["push", "--quiet", &credentials, &tls];
        self.run(tool, &[&push, options, &[name, &self.there(image)]].concat());
    }

    /// Pulls an image; gives its id.
    fn pull(&self, tool: Tool, image: &str) -> String {
        let [credentials, tls] = self.options("");
        self.run(tool, &["pull", "--quiet", &credentials, &tls, &self.there(image)])
    }
}

/// A local-ecr from which may be pulled.
fn ecr(set: impl FnOnce(Builder) -> Builder) -> LocalEcr {
    start(set(builder().allow_pull()))
}

/// Methods and statuses, each pair once.
fn answers(entries: &[Entry]) -> BTreeSet<String> {
    entries.iter().map(|entry| format!("{} {}", entry.method, entry.answer)).collect()
}

#[test]
fn skopeo_copies_there_and_back() {
    if left_out(&[Tool::Skopeo]) {
        return;
    }
    for tls in [false, true] {
        let ecr = ecr(|builder| builder.tls(tls));
        let client = Client::of(&ecr);
        for name in ["one-manifest", "index", "zstd-layer", "uncompressed-layer"] {
            let layout = Layout::fixture(&format!("good/{name}"));
            let (back, image) = (client.path(name), format!("app:{name}"));
            client.skopeo("dest-", &format!("oci:{}", layout.path().display()), &client.there(&image));
            assert_arrived(&ecr, "app", &layout, &layout.root());
            client.skopeo("src-", &client.there(&image), &format!("oci:{back}"));
            assert_eq!(blobs(Path::new(&back)), blobs(layout.path()), "{name}");
            assert_eq!(images(Path::new(&back))[0].1, layout.root(), "{name}");
        }
        let asked = ecr.registry_requests();
        assert_eq!((asked[0].path.as_str(), asked[0].answer), ("/v2/", local_ecr::Answer::Status(401)));
        let expected = ["GET 200", "GET 401", "HEAD 200", "HEAD 404", "PATCH 201", "POST 202", "PUT 201"];
        assert_eq!(answers(&asked), expected.map(str::to_owned).into());
        assert!(requests(&ecr, "PATCH", "").iter().all(|entry| entry.bytes > 0 && entry.content_range.is_none()));
        assert!(requests(&ecr, "PUT", "/uploads/").iter().all(|entry| entry.bytes == 0));
    }
}

#[test]
fn skopeo_converts_to_docker_types_as_far_as_ecr_takes_them() {
    if left_out(&[Tool::Skopeo]) {
        return;
    }
    let (ecr, layout) = (ecr(|builder| builder), Layout::fixture("good/one-manifest"));
    let client = Client::of(&ecr);
    let from = format!("oci:{}", layout.path().display());
    let copy = |format: &str| {
        let ([credentials, tls], to) = (client.options("dest-"), client.there(&format!("app:{format}")));
        let args = ["copy", "--quiet", "--format", format, &credentials, &tls, &from, &to];
        Tool::Skopeo.command(client.folder.path()).args(args).output().expect("skopeo runs")
    };
    assert!(copy("v2s2").status.success());
    let converted = ecr.manifest("app", &ecr.tag("app", "v2s2").expect("it is there")).expect("it is there");
    assert!(String::from_utf8_lossy(&converted).contains("application/vnd.docker.distribution.manifest.v2+json"));
    // The first schema has no fields that ECR knows.
    let refused = copy("v2s1");
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Invalid JSON syntax"), "{refused:?}");
    assert_eq!(ecr.tags("app"), ["v2s2"]);
}

#[test]
fn podman_pushes_and_pulls() {
    if left_out(&[Tool::Podman]) {
        return;
    }
    let (ecr, layout) = (ecr(|builder| builder.tls(true).http2(true)), Layout::fixture("good/one-manifest"));
    let client = Client::of(&ecr);
    Push::of(layout.path()).at(&ecr).to("app:ours").run().exits(0);
    let id = client.pull(Tool::Podman, "app:ours");
    for (tag, format) in [("oci", "oci"), ("docker", "v2s2")] {
        client.push(Tool::Podman, &id, &format!("app:{tag}"), &["--format", format]);
    }
    client.run(Tool::Podman, &["rmi", "--force", &id]);
    // The id is the config's digest, which names all layers uncompressed.
    assert_eq!(client.pull(Tool::Podman, "app:oci"), id);
    client.pull(Tool::Podman, "app:docker");
    let host = client.there("app").replace("docker://", "");
    let args = ["login", "--username", "AWS", "--password-stdin", "--cert-dir"];
    let mut login = Tool::Podman.command(client.folder.path());
    login.args(args).arg(client.path("certificates")).arg(host.split('/').next().expect("a host"));
    let said = with_input(login, client.credentials.trim_start_matches("AWS:"));
    assert!(said.contains("Login Succeeded!"), "{said}");
}

/// Runs a command that reads this.
fn with_input(mut command: std::process::Command, input: &str) -> String {
    use std::io::Write as _;
    use std::process::Stdio;
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("it starts");
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn podman_pulls_what_was_pushed() {
    if left_out(&[Tool::Podman]) {
        return;
    }
    let ecr = ecr(|builder| builder.tls(true));
    let client = Client::of(&ecr);
    for name in ["one-manifest", "index", "docker-schema2", "docker-list", "zstd-layer"] {
        let layout = Layout::fixture(&format!("good/{name}"));
        let root = layout.root();
        let push = Push::of(layout.path()).at(&ecr).to(&format!("app:{name}"));
        push.run().exits(0).prints(&[&reference(&ecr, "app", &root)]);
        // It runs on one platform only: of an index it takes that image.
        let id = client.pull(Tool::Podman, &format!("app:{name}"));
        let digests = client.run(Tool::Podman, &["image", "inspect", "--format", "{{.RepoDigests}}", &id]);
        assert!(digests.contains(&root), "{name}: {digests}");
    }
}

#[test]
fn buildah_pushes_and_pulls() {
    if left_out(&[Tool::Buildah]) {
        return;
    }
    let ecr = ecr(|builder| builder);
    let client = Client::of(&ecr);
    let container = client.run(Tool::Buildah, &["from", "scratch"]);
    let content = client.path("content");
    fs::write(&content, crate::support::layout::noise(1, 300_000)).expect("a new file");
    client.run(Tool::Buildah, &["copy", "--quiet", &container, &content, "/content"]);
    let id = client.run(Tool::Buildah, &["commit", "--quiet", "--rm", &container, "made"]);
    client.push(Tool::Buildah, "made", "app:v1", &[]);
    client.run(Tool::Buildah, &["rmi", "--force", &id]);
    assert_eq!(client.pull(Tool::Buildah, "app:v1"), id);
    let layer = requests(&ecr, "PATCH", "").iter().map(|entry| entry.bytes).max();
    assert!(layer.is_some_and(|bytes| bytes >= 300_000), "{layer:?}");
}

#[test]
fn oci_client_finds_every_layout() {
    for tls in [false, true] {
        let ecr = ecr(|builder| builder.tls(tls).sha512(true));
        let reader = Reader::of_ecr(&ecr);
        for name in fixture_names("good") {
            let layout = Layout::fixture(&format!("good/{name}"));
            for (number, entry) in layout.entries().iter().enumerate() {
                let (root, tag) = (digest(entry), format!("{name}-{number}"));
                let push = Push::of(layout.choosing(&format!("@{root}"))).at(&ecr).to(&format!("app:{tag}"));
                push.run().exits(0).prints(&[&reference(&ecr, "app", root)]);
                if root.starts_with("sha256:") {
                    let found = reader.manifest("app", &tag).map(|(_, digest)| digest);
                    assert_eq!(found.as_deref(), Some(root), "{tag}");
                }
                reader.finds_all("app", &layout, root);
            }
        }
    }
}
