//! Which of other people's programs there are, and where.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use crate::support::has_tool;

/// A program that a test needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    DockerRegistry,
    Skopeo,
    Buildah,
    Podman,
    Dockerd,
    Umoci,
    Debootstrap,
    Strace,
    Moto,
}

impl Tool {
    /// Where `cargo xtask test` says that it is, else its name, which is looked for on PATH.
    pub(crate) fn program(self) -> OsString {
        let (variable, name) = match self {
            Self::DockerRegistry => ("ECR_PUSH_TEST_DOCKER_REGISTRY", "docker-registry"),
            Self::Skopeo => ("ECR_PUSH_TEST_SKOPEO", "skopeo"),
            Self::Buildah => ("ECR_PUSH_TEST_BUILDAH", "buildah"),
            Self::Podman => ("ECR_PUSH_TEST_PODMAN", "podman"),
            Self::Dockerd => ("ECR_PUSH_TEST_DOCKERD", "dockerd"),
            Self::Umoci => ("ECR_PUSH_TEST_UMOCI", "umoci"),
            Self::Debootstrap => ("ECR_PUSH_TEST_DEBOOTSTRAP", "debootstrap"),
            Self::Strace => ("ECR_PUSH_TEST_STRACE", "strace"),
            // One on PATH might be of any version, or pyenv's shim for none at all: only what the variable names will do.
            Self::Moto => ("ECR_PUSH_TEST_MOTO_SERVER", "moto_server in ECR_PUSH_TEST_MOTO_SERVER"),
        };
        env::var_os(variable).filter(|path| !path.is_empty()).unwrap_or_else(|| name.into())
    }

    /// The program, with nothing in its environment but PATH and, for whatever it keeps, this folder as its HOME.
    pub(crate) fn command(self, home: &Path) -> Command {
        let mut command = Command::new(self.program());
        command.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default());
        command.env("HOME", home).env("XDG_RUNTIME_DIR", home);
        command
    }

    /// Runs it with these arguments to its end, which has to be success, and gives its standard output.
    #[track_caller]
    pub(crate) fn run(self, home: &Path, args: &[&str]) -> String {
        let output = self.command(home).args(args).output().unwrap_or_else(|error| panic!("{self:?}: {error}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        assert!(output.status.success(), "{self:?} {args:?}: {}\n{}", output.status, text(&output.stderr));
        text(&output.stdout)
    }
}

/// Whether a test is left out, since one of `tools` is missing and the environment says that this is known.
pub(crate) fn left_out(tools: &[Tool]) -> bool {
    tools.iter().any(|tool| !has_tool(&tool.program().to_string_lossy()))
}
