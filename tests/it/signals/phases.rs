//! Whatever a run waits for when the signal comes, it ends.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use local_ecr::{Answer, Fault, FaultKind};
use tempfile::TempDir;

use super::{AT_ONCE, Awaited, interrupted, wait_for};
use crate::support::archive::{Era, LARGE, Saved, Stored, gzip, layer};
use crate::support::command::Running;
use crate::support::engine::Engine;
use crate::support::layout::noise;
use crate::support::{Layout, Push, builder, ecr, start};

/// Asserts that a run ends at once, and how.
fn ends(run: Running) {
    let (ran, time) = interrupted(run, "TERM");
    ran.exits(143).prints(&[]).says(["interrupted"]);
    assert!(time < AT_ONCE, "it took {time:?}");
}

fn fifo(folder: &TempDir, name: &str) -> PathBuf {
    let path = folder.path().join(name);
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

fn folder() -> TempDir {
    TempDir::with_prefix("ecr-push-it-").unwrap()
}

#[test]
fn a_signal_ends_the_wait_for_standard_input() {
    let (image, ecr) = (Saved::usual(), ecr());
    let plain = Era::Podman.save(&[&image]);
    // As it is, and unpacked on the way.
    for bytes in [plain.clone(), gzip(&noise(7, 600_000))] {
        let temporary = folder();
        let (reader, mut writer) = io::pipe().unwrap();
        let push = Push::of("-").at(&ecr).to("app:v1").env("TMPDIR", temporary.path());
        let run = push.start_with(|command| _ = command.stdin(reader));
        // More than the pipe holds: it is being read.
        writer.write_all(&bytes[..300_000]).unwrap();
        ends(run);
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_signal_ends_the_wait_for_a_fifo() {
    let (folder, ecr) = (folder(), ecr());
    let path = fifo(&folder, "source");
    let run = Push::of(&path).at(&ecr).to("app:v1").start();
    // Waits for the reader, and writes nothing.
    let _writer = File::options().write(true).open(&path).unwrap();
    ends(run);
}

/// A program that says that it runs, and then waits for as long as the test does.
fn waiting_program(folder: &TempDir, name: &str) -> (PathBuf, PathBuf, File) {
    let (says, waits) = (fifo(folder, "says"), fifo(folder, "waits"));
    let program = folder.path().join(name);
    let script = format!("#!/bin/sh\necho > '{}'\nexec cat '{}' > /dev/null\n", says.display(), waits.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let held = File::options().read(true).write(true).open(&waits).unwrap();
    (program, says, held)
}

fn runs(says: &Path) {
    File::open(says).unwrap().read_to_string(&mut String::new()).unwrap();
}

#[test]
fn a_signal_ends_the_wait_for_a_credential_process() {
    let (folder, ecr, layout) = (folder(), ecr(), Layout::fixture("good/one-manifest"));
    let (program, says, _held) = waiting_program(&folder, "process");
    let config = folder.path().join("config");
    fs::write(&config, format!("[default]\ncredential_process = {}\n", program.display())).unwrap();
    let push = Push::of(layout.path()).at(&ecr).to("app:v1").env("AWS_CONFIG_FILE", &config);
    let run = push.without("AWS_ACCESS_KEY_ID").without("AWS_SECRET_ACCESS_KEY").start();
    runs(&says);
    ends(run);
}

#[test]
fn a_signal_ends_the_wait_for_a_credential_helper() {
    let (folder, layout) = (folder(), Layout::fixture("good/one-manifest"));
    let (program, says, _held) = waiting_program(&folder, "docker-credential-waits");
    fs::write(folder.path().join("config.json"), r#"{"credsStore":"waits"}"#).unwrap();
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let push = Push::of(layout.path()).to_reference("127.0.0.1:9/app:v1").env("PATH", path);
    let run = push.env("DOCKER_CONFIG", folder.path()).start();
    runs(&says);
    ends(run);
}

#[test]
fn a_signal_ends_the_wait_for_a_proxy() {
    let (layout, proxy) = (Layout::fixture("good/one-manifest"), TcpListener::bind("127.0.0.1:0").unwrap());
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let run = Push::of(layout.path()).to_reference("registry.example/app:v1").env("HTTPS_PROXY", url).start();
    let _connection = proxy.accept().unwrap();
    ends(run);
}

#[test]
fn a_signal_ends_the_wait_for_an_engine() {
    let (folder, ecr) = (folder(), ecr());
    let socket = folder.path().join("s");
    let engine = UnixListener::bind(&socket).unwrap();
    let push = Push::of("docker-daemon:app:v1").at(&ecr).to("app:v1");
    let run = push.env("DOCKER_HOST", format!("unix://{}", socket.display())).start();
    let _connection = engine.accept().unwrap();
    ends(run);
}

#[test]
fn a_signal_ends_layers_that_are_being_compressed() {
    let image = Saved::new(&["app:v1"], vec![layer(1, LARGE), layer(2, LARGE)]);
    let archive = Stored::new(&Era::Podman.save(&[&image]));
    let engine = Engine::of(&image, Era::Podman.save(&[&image]), None);
    for source in [archive.path().to_str().unwrap(), "docker-daemon:app:v1"] {
        let stall = Fault::on("PATCH", "/blobs/uploads/").times(u64::MAX).does(FaultKind::StallAfter(100_000));
        let ecr = start(builder().upload_cancel(true).fault(stall));
        let run = Push::of(source).at(&ecr).to("app:v1").env("DOCKER_HOST", engine.host()).start();
        wait_for(&ecr, |entry| entry.method == "PATCH" && entry.bytes >= 60_000);
        ends(run);
        assert_eq!(ecr.open_sessions(), 0, "{source}");
    }
}

#[test]
fn a_signal_ends_manifests_and_the_look_at_tags() {
    for (method, path) in [("PUT", "/manifests/"), ("PUT", "/manifests/v1"), ("HEAD", "/manifests/v1")] {
        // The first HEAD of a tag is from before anything is sent.
        let nth = if method == "HEAD" { 2 } else { 1 };
        let ecr = start(builder().fault(Fault::on(method, path).nth(nth).times(u64::MAX).does(FaultKind::Stall)));
        let layout = Layout::fixture("good/index");
        let stalled = Awaited::new(&ecr, |entry| entry.answer == Answer::Stalled);
        let run = Push::of(layout.path()).at(&ecr).to("app:v1").start();
        stalled.arrives();
        ends(run);
    }
}
