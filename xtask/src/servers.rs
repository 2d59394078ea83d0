//! The programs of others that the tests talk to: finds them, and installs them where it may.
//!
//! Never installs anything system-wide unless it is root already, and nothing at all with `--no-install`.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program of a Debian package.
struct Program {
    name: &'static str,
    package: &'static str,
    /// The variable that tells the tests where it is, if they run it.
    variable: Option<&'static str>,
}

const PROGRAMS: [Program; 11] = [
    Program::run("docker-registry", "docker-registry", "ECR_PUSH_TEST_DOCKER_REGISTRY"),
    Program::run("skopeo", "skopeo", "ECR_PUSH_TEST_SKOPEO"),
    Program::run("buildah", "buildah", "ECR_PUSH_TEST_BUILDAH"),
    Program::run("podman", "podman", "ECR_PUSH_TEST_PODMAN"),
    Program::run("dockerd", "docker.io", "ECR_PUSH_TEST_DOCKERD"),
    Program::run("umoci", "umoci", "ECR_PUSH_TEST_UMOCI"),
    Program::run("debootstrap", "debootstrap", "ECR_PUSH_TEST_DEBOOTSTRAP"),
    Program::run("strace", "strace", "ECR_PUSH_TEST_STRACE"),
    Program::run("script", "bsdutils", "ECR_PUSH_TEST_SCRIPT"),
    Program::run("kill", "procps", "ECR_PUSH_TEST_KILL"),
    Program { name: MUSL_GCC, package: "musl-tools", variable: None },
];

/// The compiler that the static binary's C parts need.
pub(crate) const MUSL_GCC: &str = "musl-gcc";

const MOTO: &str = "moto[server,ecr]==5.2.5";
const MOTO_VARIABLE: &str = "ECR_PUSH_TEST_MOTO_SERVER";

impl Program {
    const fn run(name: &'static str, package: &'static str, variable: &'static str) -> Self {
        Self { name, package, variable: Some(variable) }
    }
}

/// What is there, and what isn't.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    /// For the tests' environment: a variable, and a path if there is one.
    pub(crate) variables: Vec<(&'static str, Option<PathBuf>)>,
    /// What isn't there and how to get it.
    pub(crate) missing: Vec<String>,
}

/// Looks for all that the tests run, and installs what is missing if `install` says so and it may.
pub(crate) fn provide(target: &Path, install: bool) -> Servers {
    let absent = || PROGRAMS.iter().filter(|program| find(program.name).is_none());
    let packages: Vec<&str> = absent().map(|program| program.package).collect();
    if install && !packages.is_empty() {
        apt_get(&packages);
    }
    let mut servers = Servers::default();
    for Program { name, package, variable } in &PROGRAMS {
        let path = find(name);
        // Whoever needs what the tests don't run says so when the time comes.
        let Some(variable) = variable else { continue };
        if path.is_none() {
            servers.missing.push(format!("{name} (`sudo apt-get install {package}`)"));
        }
        servers.variables.push((variable, path));
    }
    let moto = moto_server(target, install);
    if moto.is_none() {
        servers.missing.push(format!("moto_server (Python 3 with venv, then `pip install '{MOTO}'` in {VENV})"));
    }
    servers.variables.push((MOTO_VARIABLE, moto));
    servers
}

const VENV: &str = "target/venv";

/// moto's server in a virtual environment of ours.
fn moto_server(target: &Path, install: bool) -> Option<PathBuf> {
    let venv = target.join("venv");
    let (server, stamp) = (venv.join("bin/moto_server"), venv.join("installed"));
    let current = || server.exists() && fs::read_to_string(&stamp).is_ok_and(|installed| installed == MOTO);
    if install && !current() {
        println!("   installing {MOTO} in {}", venv.display());
        let create = || succeeds(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        // Debian's Python comes without what makes environments.
        let made = create() || (apt_get(&["python3-venv"]) && create());
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", MOTO];
        if made && succeeds(Command::new(venv.join("bin/python")).args(pip)) {
            fs::write(&stamp, MOTO).ok()?;
        }
    }
    current().then_some(server)
}

/// Installs Debian packages, if this is a Debian and we are root; says whether that worked.
fn apt_get(packages: &[&str]) -> bool {
    if !is_root() || find("apt-get").is_none() {
        return false;
    }
    println!("   installing {} with apt-get", packages.join(", "));
    let apt_get = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
        command
    };
    // An index that can't be brought up to date may still do.
    let _ = succeeds(apt_get().arg("update"));
    succeeds(apt_get().args(["install", "-y", "--no-install-recommends"]).args(packages))
}

/// Whether this process may change the system.
pub(crate) fn is_root() -> bool {
    // A process's own entry belongs to the user that it runs as; elsewhere than on Linux nobody is root.
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Where a program is, if `PATH` leads to it.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
}

/// Runs a command quietly and says whether it succeeded; shows what it said if not.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    match command.output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            eprintln!("   {command:?} failed: {}", output.status);
            for line in String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).lines() {
                eprintln!("   | {line}");
            }
            false
        }
        Err(error) => {
            eprintln!("   {command:?} can't be run: {error}");
            false
        }
    }
}
