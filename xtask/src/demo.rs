//! `cargo xtask demo`: a push from beginning to end on this machine, with the real program and an imitation of ECR.
//!
//! Promises nothing that it doesn't check.

mod image;
mod journal;
mod pull;
mod screen;

use std::env;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use local_ecr::LocalEcr;

use crate::fixtures::tree;
use image::Image;
use pull::Repository;
use screen::{Screen, say, size};

const REPOSITORY: &str = "demo/app";
const TAGS: [&str; 2] = ["v1", "latest"];

type Done<T = ()> = Result<T, Box<dyn Error>>;

/// Shows it all and says whether everything was as promised.
pub(crate) fn run(root: &Path, target: &Path) -> bool {
    match show(root, target) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("\nNot as promised: {error}");
            false
        }
    }
}

fn show(root: &Path, target: &Path) -> Done {
    let mut screen = Screen::new();
    println!("A push to Amazon ECR from beginning to end. Nothing leaves this machine.");

    screen.step("Build ecr-push");
    build(&screen, root)?;
    let program = target.join("debug/ecr-push");

    screen.step("Make an image, as `docker buildx build --output type=oci` would: two platforms, two attestations");
    let folder = tempfile::Builder::new().prefix("ecr-push-demo-").tempdir()?;
    let layout = folder.path().join("app");
    let image = image::build();
    tree::write(&layout, &image.tree)?;
    screen.layout(&layout, &image);

    screen.step("Start a registry that behaves as Amazon ECR does");
    let ecr = LocalEcr::builder().repository(REPOSITORY).allow_pull().start()?;
    say(&format!("{}  stands in for ECR's API, which hands out passwords", ecr.api_url()));
    say(&format!("{}  stands in for {}", ecr.registry_url(), ecr.host()));

    screen.step("Push it under two tags, verify it, and free the disk");
    let push = Push::new(&ecr, &program, folder.path());
    push.show(&screen);
    screen.quiet(
        "The second line is needed only because this is not the real ECR. In the environment there is a test key, as",
    );
    screen.quiet(
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and nothing else. Region and account come from the host's name.",
    );
    push.run(&screen, &image)?;

    screen.step("See what the registry was asked");
    let asked = ecr.journal();
    for (number, entry) in (1..).zip(&asked) {
        screen.quiet(&journal::line(number, entry, &image));
    }
    say("Children come before what points to them, tags come last: nobody ever pulls half an image.");

    screen.step("Pull it back, with a reader that shares no code with ecr-push, and compare");
    compare(&screen, &ecr, &image)?;

    screen.step("Look for the image on disk");
    gone(&screen, &layout)?;

    screen.step("Push the same again, from a second copy");
    tree::write(&layout, &image.tree)?;
    push.show(&screen);
    let before = ecr.journal().len();
    push.run(&screen, &image)?;
    let again = ecr.journal();
    for (number, entry) in (1..).zip(&again[before..]) {
        screen.quiet(&journal::line(number, entry, &image));
    }
    let to_registry = again[before..].iter().filter(|entry| entry.side == local_ecr::Side::Registry).count();
    if to_registry != TAGS.len() {
        return Err(format!("{to_registry} registry requests for {} tags that were there", TAGS.len()).into());
    }
    screen.good("already there: one registry request a tag, nothing sent");
    gone(&screen, &layout)?;

    if let Err(found) = ecr.check() {
        for violation in &found {
            eprintln!("   {violation}");
            ecr.expect_violation(violation.kind());
        }
        return Err("the registry saw something that a well-behaved push doesn't do".into());
    }
    println!("\nWhat to try next");
    let shown = program.strip_prefix(env::current_dir()?).unwrap_or(&program).display();
    say(&format!("{shown} --help"));
    say(&format!("{shown} LAYOUT ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPOSITORY:TAG    a push to your own ECR"));
    say("cargo xtask test    everything that is tested, against real registries too");
    Ok(())
}

fn build(screen: &Screen, root: &Path) -> Done {
    let arguments = ["build", "--bin", "ecr-push"];
    screen.command(&[&format!("cargo {}", arguments.join(" "))]);
    screen.quiet("The first time this takes a few minutes.");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(arguments).current_dir(root).status()?;
    if status.success() { Ok(()) } else { Err("ecr-push doesn't build".into()) }
}

/// The push that is shown, ready to run more than once.
struct Push<'a> {
    program: &'a Path,
    /// Where it runs; the layout is `./app` there.
    folder: &'a Path,
    key: (&'a str, &'a str),
    arguments: Vec<String>,
    host: String,
}

impl<'a> Push<'a> {
    fn new(ecr: &'a LocalEcr, program: &'a Path, folder: &'a Path) -> Self {
        let [first, second] = TAGS;
        let destination = format!("{}/{REPOSITORY}:{first}", ecr.host());
        let arguments: Vec<String> = ["./app", &destination, "--tag", second, "--cleanup"]
            .into_iter()
            .chain(["--endpoint-url", &ecr.api_url(), "--registry-endpoint", &ecr.registry_url()])
            .map(str::to_owned)
            .collect();
        Self { program, folder, key: (ecr.access_key_id(), ecr.secret_access_key()), arguments, host: ecr.host() }
    }

    /// Shows it as one would type it.
    fn show(&self, screen: &Screen) {
        let (job, endpoints) = self.arguments.split_at(5);
        screen.command(&[&format!("ecr-push {}", job.join(" ")), &endpoints.join(" ")]);
    }

    /// Runs it and sees that it did what it says.
    fn run(&self, screen: &Screen, image: &Image) -> Done {
        let start = Instant::now();
        // What a terminal needs to be drawn on comes along, and nothing else.
        let terminal = ["TERM", "COLUMNS", "LINES", "NO_COLOR", "LANG"]
            .into_iter()
            .filter_map(|name| Some((name, env::var_os(name)?)));
        let mut running = Command::new(self.program)
            .args(&self.arguments)
            .current_dir(self.folder)
            .env_clear()
            .envs(terminal)
            .envs([("AWS_ACCESS_KEY_ID", self.key.0), ("AWS_SECRET_ACCESS_KEY", self.key.1)])
            .env("HOME", "/nonexistent")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut printed = Vec::new();
        for line in running.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()) {
            printed.push(line?);
            println!("{}", printed.last().map_or("", String::as_str));
        }
        let status = running.wait()?;
        let took = start.elapsed();
        if !status.success() {
            return Err(format!("ecr-push ended with {status}").into());
        }
        let expected = format!("{}/{REPOSITORY}@{}", self.host, image.root());
        if printed != [expected.as_str()] {
            return Err(format!("standard output should be {expected}, and is {printed:?}").into());
        }
        screen.good(&format!(
            "exit status 0 after {:.2} s; standard output is the digest reference alone",
            took.as_secs_f64()
        ));
        Ok(())
    }
}

fn compare(screen: &Screen, ecr: &LocalEcr, image: &Image) -> Done {
    let (url, password) = (ecr.registry_url(), ecr.issue_password());
    let address = url.trim_start_matches("http://");
    let repository = Repository { address, name: REPOSITORY, password: &password };
    for tag in TAGS {
        let found = repository.resolve(tag)?;
        if found != image.root() {
            return Err(format!("tag {tag} is {found} and not {}", image.root()).into());
        }
    }
    screen.good(&format!("tags {} name {}", TAGS.join(" and "), image.root()));
    let pulled = repository.pull(image.root())?;
    let came: Vec<&String> = pulled.manifests.union(&pulled.blobs).collect();
    let mut held: Vec<String> =
        image.tree.keys().filter_map(|path| Some(path.strip_prefix("blobs/")?.replacen('/', ":", 1))).collect();
    held.sort();
    if !came.iter().copied().eq(&held) {
        return Err(format!("the layout held {held:?}, and {came:?} came back").into());
    }
    let (manifests, blobs) = (pulled.manifests.len(), pulled.blobs.len());
    let bytes = size(pulled.bytes as u64);
    screen.good(&format!(
        "{manifests} manifests and {blobs} blobs, {bytes}: every one has the digest that it had in the layout"
    ));
    Ok(())
}

fn gone(screen: &Screen, layout: &Path) -> Done {
    if layout.exists() {
        return Err(format!("{} is still there", layout.display()).into());
    }
    screen.good(&format!("{} is gone, and the space is free again", layout.display()));
    Ok(())
}
