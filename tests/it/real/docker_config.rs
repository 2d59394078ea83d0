//! Docker's and podman's config files and credential helpers, in front of a registry that wants a password.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::write_auth;
use crate::support::layout::Layout;
use crate::support::servers::{DockerRegistry, Guard, Login, Tool, left_out};
use crate::support::{Push, Ran};

const SECRET: &str = Login::JENKINS.password;

/// A registry that [`Login::JENKINS`] may use, and a push to it that knows no login yet.
struct Bench {
    registry: DockerRegistry,
    layout: Layout,
    push: Push,
}

impl Bench {
    fn new(guard: Guard) -> Self {
        let (registry, layout) = (DockerRegistry::start(guard), Layout::fixture("good/one-manifest"));
        let push = Push::of(layout.path()).to_reference(format!("{}/team/app:v1", registry.address()));
        Self { registry, layout, push }
    }

    fn locked() -> Self {
        Self::new(Guard::Basic(Login::JENKINS))
    }

    fn host(&self) -> String {
        self.registry.address().to_owned()
    }

    /// Where a file below HOME is, its folder made.
    fn at_home(&self, path: &str) -> PathBuf {
        let path = self.push.home().join(path);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("a new folder");
        path
    }

    /// Docker's own config.
    fn docker(&self, config: &Value) -> PathBuf {
        let path = self.at_home(".docker/config.json");
        fs::write(&path, config.to_string()).expect("it can be written");
        path
    }

    /// Puts a credential helper with this body on PATH: it finds the registry in `$server`.
    fn helper(self, name: &str, body: &str) -> Self {
        let path = self.at_home(&format!("bin/docker-credential-{name}"));
        let log = self.helper_log();
        let script = format!("#!/bin/sh\nread -r server\necho \"$0 $* < $server\" >> {}\n{body}\n", log.display());
        let text = path.with_extension("txt");
        fs::write(&text, script).expect("it can be written");
        // Copied by another process: a file that this one had open for writing can't be run while a child that another
        // thread just forked still has it.
        let copied = Command::new("install").args(["-m", "755"]).arg(text).arg(&path).status();
        assert!(copied.expect("coreutils are there").success());
        let folders = format!("{}:/usr/bin:/bin", path.parent().expect("a file has a folder").display());
        Self { push: self.push.env("PATH", folders), ..self }
    }

    fn helper_log(&self) -> PathBuf {
        self.push.home().join("helper.log")
    }

    /// Which helpers were run, each with its arguments and its standard input.
    fn helped(&self) -> Vec<String> {
        let log = fs::read_to_string(self.helper_log()).unwrap_or_default();
        log.lines().map(|line| line.rsplit('/').next().unwrap_or_default().to_owned()).collect()
    }

    /// Runs it at the highest verbosity, where a secret would be seen if one is ever printed.
    #[track_caller]
    fn run(self) -> (Self, Ran) {
        let push = self.push.args(["-vv"]);
        let ran = push.run();
        let ran = ran.says_nothing_of([SECRET, &Login::JENKINS.encoded()]);
        (Self { push, ..self }, ran)
    }

    #[track_caller]
    fn succeeds(self) -> Self {
        let (bench, ran) = self.run();
        ran.exits(0).prints(&[&format!("{}/team/app@{}", bench.host(), bench.layout.root())]);
        assert_eq!(bench.registry.tags("team/app"), ["v1"]);
        bench
    }

    /// Ends with status 4, having changed nothing.
    #[track_caller]
    fn fails_denied(self) -> (Self, Ran) {
        let (bench, ran) = self.run();
        let ran = ran.exits(4).prints(&[]).says_one_error();
        assert_eq!(bench.registry.tags("team/app"), [""; 0]);
        (bench, ran)
    }
}

/// What a helper prints that knows the login.
fn known() -> String {
    format!(r#"printf '{{"ServerURL":"%s","Username":"{}","Secret":"{SECRET}"}}' "$server""#, Login::JENKINS.username)
}

#[test]
fn nobody_has_to_log_in() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    Bench::new(Guard::Open).succeeds();
    // Docker's config knows other registries only.
    let bench = Bench::new(Guard::Open);
    bench.docker(
        &json!({"auths": {"other.example": {"auth": Login::ECR.encoded()}}, "credHelpers": {"x.example": "none"}}),
    );
    bench.succeeds();
}

#[test]
fn nobody_has_logged_in() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let (bench, ran) = Bench::locked().fails_denied();
    ran.says(["401", &format!("docker login {}", bench.host())]);
}

#[test]
fn files() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    for path in [".docker/config.json", ".config/containers/auth.json"] {
        let bench = Bench::locked();
        write_auth(&bench.at_home(path), &bench.host(), Login::JENKINS);
        bench.succeeds();
    }
    let named = [
        ("DOCKER_CONFIG", "docker", "docker/config.json"),
        ("REGISTRY_AUTH_FILE", "anything.json", "anything.json"),
        ("XDG_RUNTIME_DIR", "run", "run/containers/auth.json"),
        ("XDG_CONFIG_HOME", "config", "config/containers/auth.json"),
    ];
    for (variable, value, path) in named {
        let bench = Bench::locked();
        write_auth(&bench.at_home(path), &bench.host(), Login::JENKINS);
        let value = bench.at_home(value);
        let bench = Bench { push: bench.push.env(variable, value), ..bench };
        bench.succeeds();
    }
}

#[test]
fn the_file_that_is_named_wins() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let bench = Bench::locked();
    let named = bench.at_home("named.json");
    write_auth(&named, &bench.host(), Login::JENKINS);
    bench.docker(&json!({"auths": {bench.host(): {"auth": Login::ECR.encoded()}}}));
    let bench = Bench { push: bench.push.env("REGISTRY_AUTH_FILE", named), ..bench };
    bench.succeeds();

    // One that knows nothing of the registry leaves it to the next.
    let bench = Bench::locked();
    let named = bench.at_home("named.json");
    write_auth(&named, "other.example", Login::ECR);
    bench.docker(&json!({"auths": {bench.host(): {"auth": Login::JENKINS.encoded()}}}));
    let bench = Bench { push: bench.push.env("REGISTRY_AUTH_FILE", named), ..bench };
    bench.succeeds();
}

#[test]
fn keys() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    for key in ["HOST", "http://HOST", "https://HOST", "https://HOST/v1/", "HOST/team", "HOST/team/app"] {
        let bench = Bench::locked();
        let wrong = if key.contains("/team") { "HOST" } else { "HOST:1" };
        let [key, wrong] = [key, wrong].map(|key| key.replace("HOST", &bench.host()));
        bench.docker(
            &json!({"auths": {key: {"auth": Login::JENKINS.encoded()}, wrong: {"auth": Login::ECR.encoded()}}}),
        );
        bench.succeeds();
    }
    let bench = Bench::locked();
    let Login { username, password, .. } = Login::JENKINS;
    bench.docker(&json!({"auths": {bench.host(): {"username": username, "password": password}}}));
    bench.succeeds();
}

#[test]
fn wrong_password() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let bench = Bench::locked();
    bench.docker(&json!({"auths": {bench.host(): {"auth": STANDARD.encode("jenkins:wrong")}}}));
    let (bench, ran) = bench.fails_denied();
    ran.says([&format!("docker login {}", bench.host())[..]]).says_nothing_of(["wrong"]);
    assert_eq!(bench.registry.requests().len(), 1, "a password that is refused is not tried again");
}

#[test]
fn malformed() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let host = "HOST";
    let texts = [
        "{\"auths\": {".to_owned(),
        "[]".to_owned(),
        json!({"auths": {host: {"auth": "%%%"}}}).to_string(),
        json!({"auths": {host: {"auth": STANDARD.encode("no colon")}}}).to_string(),
        json!({"auths": {host: {"auth": 7}}}).to_string(),
    ];
    for text in texts {
        let bench = Bench::locked();
        let path = bench.docker(&json!(null));
        fs::write(&path, text.replace(host, &bench.host())).expect("it can be written");
        let (bench, ran) = bench.fails_denied();
        ran.says([path_text(&path)]);
        assert_eq!(bench.registry.requests(), []);
    }
}

#[test]
fn helper() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let configs: [fn(&str) -> Value; 3] = [
        |host| json!({"credHelpers": {host: "test"}, "credsStore": "other"}),
        |host| json!({"credsStore": "test", "auths": {host: {}}}),
        |_| json!({"credsStore": "test", "credHelpers": {"other.example": "other"}}),
    ];
    for config in configs {
        let bench = Bench::locked().helper("test", &known()).helper("other", "echo no; exit 1");
        bench.docker(&config(&bench.host()));
        let bench = bench.succeeds();
        assert_eq!(bench.helped(), [format!("docker-credential-test get < {}", bench.host())]);
    }
}

#[test]
fn helper_that_knows_nothing() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let unknown = "echo 'credentials not found in native keychain'; exit 1";
    for guard in [Guard::Open, Guard::Basic(Login::JENKINS)] {
        let bench = Bench::new(guard).helper("test", unknown);
        bench.docker(&json!({"credsStore": "test"}));
        match guard {
            Guard::Open => drop(bench.succeeds()),
            _ => drop(bench.fails_denied().1.says(["401", "docker login"])),
        }
    }
    // What one file doesn't know another may.
    let bench = Bench::locked().helper("test", unknown);
    bench.docker(&json!({"credsStore": "test"}));
    write_auth(&bench.at_home(".config/containers/auth.json"), &bench.host(), Login::JENKINS);
    bench.succeeds();
}

#[test]
fn helper_that_fails() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let bodies = [
        format!("echo 'the vault says {SECRET}'; echo 'sealed: {SECRET}' >&2; exit 1"),
        format!("echo '{SECRET}'"),
        format!("{}; echo '{SECRET}' >&2; exit 3", known()),
    ];
    for body in bodies {
        let bench = Bench::new(Guard::Open).helper("test", &body);
        let path = bench.docker(&json!({"credHelpers": {bench.host(): "test"}}));
        // Nothing that it printed is shown: the bench looks for the secret.
        let (bench, ran) = bench.fails_denied();
        ran.says(["docker-credential-test", path_text(&path), &bench.host()]).says_nothing_of(["vault", "sealed"]);
        assert_eq!(bench.registry.requests(), []);
    }
}

#[test]
fn helper_that_is_not_there() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    let bench = Bench::new(Guard::Open);
    let path = bench.docker(&json!({"credsStore": "desktop"}));
    let (_, ran) = bench.fails_denied();
    ran.says(["docker-credential-desktop", path_text(&path)]);
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a path of the test is UTF-8")
}
