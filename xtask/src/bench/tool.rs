//! Who pushes: how each is called, and what has to be done before its push can be timed.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::args::Shape;
use super::floor;
use super::process;
use super::registry::{Access, REPOSITORY, TAG, docker_config};
use crate::servers::find;

/// The floors that are measured unless others are asked for: few large blobs need few lanes, many small ones many.
const FLOORS: [usize; 2] = [8, 32];

/// Something that pushes an image.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) name: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Ours, or the build of it that is at this path.
    EcrPush(Option<PathBuf>),
    Peer(Peer),
    /// Ours or skopeo, out of something else than a layout's folder.
    From(Program, Source),
    /// As many blobs at a time.
    Floor(usize),
}

/// A program of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Crane,
    Skopeo,
    Regctl,
    Oras,
    Podman,
    Docker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    EcrPush,
    Skopeo,
}

/// What an image is pushed from, if not from a layout's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    OciArchive,
    DockerArchive,
    Engine,
}

impl Source {
    /// As ecr-push and skopeo call it.
    fn prefix(self) -> &'static str {
        match self {
            Self::OciArchive => "oci-archive",
            Self::DockerArchive => "docker-archive",
            Self::Engine => "docker-daemon",
        }
    }
}

/// Measured when they are asked for.
const FROM: [(&str, Program, Source); 6] = [
    ("ecr-push-oci-archive", Program::EcrPush, Source::OciArchive),
    ("ecr-push-docker-archive", Program::EcrPush, Source::DockerArchive),
    ("ecr-push-engine", Program::EcrPush, Source::Engine),
    ("skopeo-oci-archive", Program::Skopeo, Source::OciArchive),
    ("skopeo-docker-archive", Program::Skopeo, Source::DockerArchive),
    ("skopeo-engine", Program::Skopeo, Source::Engine),
];

const PEERS: [(&str, Peer); 6] = [
    ("crane", Peer::Crane),
    ("skopeo", Peer::Skopeo),
    ("regctl", Peer::Regctl),
    ("oras", Peer::Oras),
    ("podman", Peer::Podman),
    ("docker", Peer::Docker),
];

/// Where a push finds what it needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The build of ecr-push that is meant unless a tool names another.
    pub(crate) ecr_push: &'a Path,
    /// What outlives a push: podman's store.
    pub(crate) store: &'a Path,
    /// Where podman keeps what it has mounted; it wants a short path.
    pub(crate) mounts: &'a Path,
    /// `HOME` and all that is temporary.
    pub(crate) home: &'a Path,
}

impl Tool {
    /// Reads what was typed.
    pub(crate) fn parse(typed: &str) -> Result<Self, String> {
        let tool = |kind| Ok(Self { name: typed.to_owned(), kind });
        if let Some((name, path)) = typed.split_once('=') {
            if name.is_empty() {
                return Err("a name is missing before the =".to_owned());
            }
            return Ok(Self { name: name.to_owned(), kind: Kind::EcrPush(Some(path.into())) });
        }
        if typed == "ecr-push" {
            return tool(Kind::EcrPush(None));
        }
        if let Some((_, peer)) = PEERS.iter().find(|(name, _)| *name == typed) {
            return tool(Kind::Peer(*peer));
        }
        if let Some((_, program, source)) = FROM.iter().find(|(name, ..)| *name == typed) {
            return tool(Kind::From(*program, *source));
        }
        match typed.strip_prefix("floor").map(str::parse) {
            Some(Ok(lanes)) if lanes > 0 => tool(Kind::Floor(lanes)),
            _ => Err("no tool of that name is known".to_owned()),
        }
    }

    /// All that are known.
    pub(crate) fn all() -> Vec<Self> {
        let new = |name: &str, kind| Self { name: name.to_owned(), kind };
        let mut all = vec![new("ecr-push", Kind::EcrPush(None))];
        all.extend(PEERS.iter().map(|(name, peer)| new(name, Kind::Peer(*peer))));
        all.extend(FLOORS.iter().map(|lanes| new(&format!("floor{lanes}"), Kind::Floor(*lanes))));
        all
    }

    /// Whether it is ecr-push as it is in this workspace.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.kind, Kind::EcrPush(None) | Kind::From(Program::EcrPush, _))
    }

    pub(crate) fn is_floor(&self) -> bool {
        matches!(self.kind, Kind::Floor(_))
    }

    /// Whether it pushes an image of its own making, with other digests.
    pub(crate) fn rewrites(&self) -> bool {
        matches!(
            self.kind,
            Kind::Peer(Peer::Podman | Peer::Docker) | Kind::From(_, Source::DockerArchive | Source::Engine)
        )
    }

    /// Why it can't be run here, if it can't.
    pub(crate) fn missing(&self) -> Option<String> {
        let found = |name: &str| find(name).is_some();
        match &self.kind {
            Kind::EcrPush(Some(path)) => (!path.is_file()).then(|| format!("there is no {}", path.display())),
            Kind::From(..) if !found("skopeo") => {
                Some("skopeo writes what it is pushed from, and isn't installed".to_owned())
            }
            Kind::Peer(_) if !found(&self.name) => Some("it isn't installed".to_owned()),
            Kind::Peer(Peer::Docker) | Kind::From(_, Source::Engine)
                if !answers(Command::new("docker").arg("version")) =>
            {
                Some("no engine answers, neither at DOCKER_HOST nor at the usual socket".to_owned())
            }
            Kind::Peer(Peer::Docker) if !found("skopeo") => {
                Some("its engine is loaded by skopeo, which isn't installed".to_owned())
            }
            Kind::EcrPush(None) | Kind::Floor(_) | Kind::From(..) | Kind::Peer(_) => None,
        }
    }

    /// Why it isn't measured with that image, if it isn't.
    pub(crate) fn unfit(&self, shape: Shape) -> Option<&'static str> {
        (self.rewrites() && shape == Shape::Multi).then_some("it pushes one platform of two")
    }

    /// What it calls its own version.
    pub(crate) fn version(&self) -> Option<String> {
        let Kind::Peer(peer) = self.kind else { return None };
        let argument = match peer {
            Peer::Crane | Peer::Regctl | Peer::Oras => "version",
            Peer::Skopeo | Peer::Podman | Peer::Docker => "--version",
        };
        let output = Command::new(&self.name).arg(argument).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // Each has a word with digits and dots somewhere.
        let words =
            text.split(|char: char| char.is_whitespace() || char == ',').map(|word| word.trim_start_matches('v'));
        let mut numbers =
            words.filter(|word| word.contains('.') && word.starts_with(|first: char| first.is_ascii_digit()));
        numbers.next().map(|number| format!("{} {number}", self.name))
    }

    /// Loads an image into the store that it is pushed from, if it needs that; gives its name there.
    pub(crate) fn prepare(&self, layout: &Path, place: Place) -> Result<Option<String>, Box<dyn Error>> {
        let image = format!("oci:{}:{TAG}", layout.display());
        let shape = layout.components().rev().take(2).map(|part| part.as_os_str().to_string_lossy());
        let shape = shape.collect::<Vec<_>>().join("-");
        match self.kind {
            Kind::From(_, source @ (Source::OciArchive | Source::DockerArchive)) => {
                let file = place.store.join(format!("{shape}.{}", source.prefix()));
                let _ = std::fs::remove_file(&file);
                let name = format!("{}:{}:ecr-push-bench:{TAG}", source.prefix(), file.display());
                let mut command = alone("skopeo", place);
                process::measure(command.args(["--insecure-policy", "copy", "-q", &image, &name]), place.home)?;
                Ok(Some(format!("{}:{}", source.prefix(), file.display())))
            }
            Kind::Peer(Peer::Podman) => {
                let mut command = podman(place);
                command.args(["pull", "-q", &image]);
                let (_, said) = process::measure(&command, place.home)?;
                Ok(said.lines().last().map(str::to_owned))
            }
            Kind::Peer(Peer::Docker) | Kind::From(_, Source::Engine) => {
                let name = format!("ecr-push-bench:{shape}");
                let mut command = alone("skopeo", place);
                command.args(["--insecure-policy", "copy", "-q", &image, &format!("docker-daemon:{name}")]);
                if let Some(engine) = env::var_os("DOCKER_HOST") {
                    command.arg("--dest-daemon-host").arg(engine);
                }
                process::measure(&command, place.home)?;
                Ok(Some(name))
            }
            _ => Ok(None),
        }
    }

    /// What is left to do before each push, once its destination is known.
    pub(crate) fn address(&self, prepared: &str, access: &Access, place: Place) -> Result<(), Box<dyn Error>> {
        if self.kind == Kind::Peer(Peer::Docker) {
            let mut command = docker(place);
            process::measure(command.args(["tag", prepared, &access.image()]), place.home)?;
        }
        Ok(())
    }

    /// Takes back what `address` did.
    pub(crate) fn forget(&self, name: &str, place: Place) -> Result<(), Box<dyn Error>> {
        if matches!(self.kind, Kind::Peer(Peer::Docker)) {
            process::measure(docker(place).args(["rmi", name]), place.home)?;
        }
        Ok(())
    }

    /// The push of a layout to a registry that has that other one.
    pub(crate) fn push(
        &self,
        layout: &Path,
        there: Option<&Path>,
        prepared: Option<&str>,
        access: &Access,
        place: Place,
    ) -> Result<Command, Box<dyn Error>> {
        let (image, folder) = (access.image(), layout.display().to_string());
        let (oci, prepared) = (format!("{folder}:{TAG}"), prepared.unwrap_or_default());
        let peer = match &self.kind {
            Kind::EcrPush(path) => return Ok(ecr_push(path.as_deref(), &folder, access, place)),
            Kind::From(program, source) => {
                // An engine's image has its name there; an archive its prefix.
                let engine = format!("docker-daemon:{prepared}");
                let from = if *source == Source::Engine { engine.as_str() } else { prepared };
                if *program == Program::EcrPush {
                    let mut command = ecr_push(None, from, access, place);
                    command.envs(env::var_os("DOCKER_HOST").map(|engine| ("DOCKER_HOST", engine)));
                    // What a layer became would be known after the first run.
                    command.arg("--no-cache");
                    return Ok(command);
                }
                let mut command = alone("skopeo", place);
                command.args(["--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]);
                if let (Source::Engine, Some(host)) = (source, env::var_os("DOCKER_HOST")) {
                    command.arg("--src-daemon-host").arg(host);
                }
                command.args([from, &format!("docker://{image}")]);
                access.equip(&mut command, place.home)?;
                return Ok(command);
            }
            Kind::Floor(lanes) => {
                let mut command = Command::new(env::current_exe()?);
                command.args(["bench-floor", &access.address, REPOSITORY, TAG, &folder, &lanes.to_string()]);
                command.args(there.into_iter().flat_map(|layout| [Path::new("--except"), layout]));
                command.env(floor::PASSWORD, &access.password);
                return Ok(command);
            }
            Kind::Peer(peer) => peer,
        };
        let mut command = match peer {
            Peer::Podman => podman(place),
            Peer::Docker => docker(place),
            _ => alone(&self.name, place),
        };
        let verify = "--tls-verify=false";
        match peer {
            Peer::Crane => command.args(["push", "--insecure", &folder, &image]),
            Peer::Skopeo => command
                .args(["--insecure-policy", "copy", "-q", "--all", "--preserve-digests", "--dest-tls-verify=false"])
                .args([format!("oci:{oci}"), format!("docker://{image}")]),
            Peer::Regctl => {
                let tls = if access.tls { "insecure" } else { "disabled" };
                let host = format!("reg={},tls={tls}", access.address);
                command.args(["--host", &host, "image", "copy", &format!("ocidir://{oci}"), &image])
            }
            Peer::Oras => {
                let how = if access.tls { "--to-insecure" } else { "--to-plain-http" };
                command.args(["cp", "--no-tty", "--from-oci-layout", how, &oci, &image])
            }
            Peer::Podman => command.args(["push", "-q", verify, prepared, &format!("docker://{image}")]),
            Peer::Docker => command.args(["push", "-q", &image]),
        };
        access.equip(&mut command, place.home)?;
        Ok(command)
    }
}

/// ecr-push, as it is called for ECR, or for another registry.
fn ecr_push(path: Option<&Path>, layout: &str, access: &Access, place: Place) -> Command {
    let mut command = alone(path.unwrap_or(place.ecr_push), place);
    let url = access.url();
    let image = access.ecr.as_ref().map_or_else(|| access.image(), |ecr| format!("{}/{REPOSITORY}:{TAG}", ecr.host));
    command.args(["--progress", "none", "--registry-endpoint", &url, layout, &image]);
    if let Some(ecr) = &access.ecr {
        command.args(["--endpoint-url", &ecr.api_url]).envs(ecr.environment.iter().cloned());
    } else {
        command.env("DOCKER_CONFIG", docker_config(place.home));
    }
    if let Some(authority) = &access.authority {
        command.env("AWS_CA_BUNDLE", authority);
    }
    command
}

/// A program that finds no configuration of the user's.
///
/// Run by root, skopeo and podman still note in /var/lib/containers/cache which registry has which blob; nothing turns
/// that off. It tells them nothing about a registry that has just been given its port.
fn alone(program: impl AsRef<std::ffi::OsStr>, place: Place) -> Command {
    let mut command = Command::new(program);
    for variable in ["HOME", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"] {
        command.env(variable, place.home);
    }
    command
}

fn podman(place: Place) -> Command {
    let mut command = alone("podman", place);
    command.arg("--root").arg(place.store.join("root"));
    command.arg("--runroot").arg(place.mounts.join("run")).arg("--tmpdir").arg(place.mounts.join("tmp"));
    command
}

fn docker(place: Place) -> Command {
    let mut command = alone("docker", place);
    command.envs(env::var_os("DOCKER_HOST").map(|engine| ("DOCKER_HOST", engine)));
    command
}

fn answers(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_tools_by_name() {
        let check = |typed: &str, expected: Option<(&str, Kind)>| {
            let found = Tool::parse(typed).ok();
            assert_eq!(found.as_ref().map(|tool| (tool.name.as_str(), tool.kind.clone())), expected, "{typed}");
        };
        check("ecr-push", Some(("ecr-push", Kind::EcrPush(None))));
        check("before=/tmp/old", Some(("before", Kind::EcrPush(Some("/tmp/old".into())))));
        check("oras", Some(("oras", Kind::Peer(Peer::Oras))));
        check("floor12", Some(("floor12", Kind::Floor(12))));
        check("skopeo-engine", Some(("skopeo-engine", Kind::From(Program::Skopeo, Source::Engine))));
        for typed in ["floor", "floor0", "floor-1", "=/tmp/old", "Crane", ""] {
            check(typed, None);
        }
        for Tool { name, kind } in Tool::all() {
            check(&name, Some((&name, kind)));
        }
    }

    #[test]
    fn commands_are_as_each_tool_wants_them() {
        let access = Access {
            address: "127.0.0.1:5000".to_owned(),
            tls: false,
            password: "secret".to_owned(),
            authority: None,
            ecr: None,
        };
        let home = tempfile::tempdir().unwrap();
        let place = Place {
            ecr_push: Path::new("/ours"),
            store: Path::new("/store"),
            mounts: Path::new("/m"),
            home: home.path(),
        };
        let check = |name: &str, tls, expected: &str| {
            let access = Access { tls, ..access.clone() };
            let command = Tool::parse(name).unwrap().push(Path::new("/l"), None, Some("id"), &access, place).unwrap();
            let words = [command.get_program()].into_iter().chain(command.get_args());
            let found: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
            assert_eq!(found.join(" "), expected.replace("IMAGE", &access.image()), "{name}");
            let secret = |word: &str| word.contains("secret");
            assert!(!found.iter().any(|word| secret(word)), "{name}: a password that ps shows");
        };
        check("ecr-push", false, "/ours --progress none --registry-endpoint http://127.0.0.1:5000 /l IMAGE");
        check("old=/old", true, "/old --progress none --registry-endpoint https://127.0.0.1:5000 /l IMAGE");
        check("crane", false, "crane push --insecure /l IMAGE");
        check(
            "skopeo",
            false,
            "skopeo --insecure-policy copy -q --all --preserve-digests --dest-tls-verify=false oci:/l:latest docker://IMAGE",
        );
        check("regctl", true, "regctl --host reg=127.0.0.1:5000,tls=insecure image copy ocidir:///l:latest IMAGE");
        check("oras", false, "oras cp --no-tty --from-oci-layout --to-plain-http /l:latest IMAGE");
        check(
            "podman",
            false,
            "podman --root /store/root --runroot /m/run --tmpdir /m/tmp push -q --tls-verify=false id docker://IMAGE",
        );
        check("docker", false, "docker push -q IMAGE");
        let ours = "/ours --progress none --registry-endpoint http://127.0.0.1:5000";
        check("ecr-push-engine", false, &format!("{ours} docker-daemon:id IMAGE --no-cache"));
        check("ecr-push-oci-archive", false, &format!("{ours} id IMAGE --no-cache"));
        check(
            "skopeo-docker-archive",
            false,
            "skopeo --insecure-policy copy -q --dest-tls-verify=false id docker://IMAGE",
        );
    }
}
