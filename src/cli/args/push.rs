//! `ecr-push SOURCE DESTINATION...`: the main job.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Parser, ValueEnum};

use super::clean::OrphanArgs;
use super::environment::switch;
use super::shared::{AwsArgs, ConnectionArgs, TalkArgs};

const EXAMPLES: &str = "\
Examples:
  ecr-push ./out 123456789012.dkr.ecr.eu-central-1.amazonaws.com/app:v1
      push the image in the OCI image layout ./out

  ecr-push --cleanup ./out:v1 123456789012.dkr.ecr.eu-central-1.amazonaws.com/app:v1 --tag latest
      push the one called v1 under two tags, verify it, then remove it from ./out

  docker save app | ecr-push - 123456789012.dkr.ecr.eu-central-1.amazonaws.com/app:v1
      push what another program writes

  ecr-push --cleanup docker-daemon:app:v1 123456789012.dkr.ecr.eu-central-1.amazonaws.com/app:v1
      push an image of the Docker or Podman engine, then remove both of its names there

  IMAGE=$(ecr-push ./out 123456789012.dkr.ecr.eu-central-1.amazonaws.com/app:v1)
      standard output is the digest reference, and nothing else

  ecr-push clean --keep 5 ./out
      remove all images but the five newest from ./out, without a push

  ecr-push doctor 123456789012.dkr.ecr.eu-central-1.amazonaws.com/app:v1
      say whether a push there would work, and if not, why";

const AFTER: &str = "\
Every option can be given as ECR_PUSH_<OPTION> in the environment (ECR_PUSH_TAG, ECR_PUSH_REGISTRY_ENDPOINT, …); the
command line wins. Empty means unset, switches are true/1/yes or false/0/no, lists are split on white space. A SOURCE that
is called like a command is written ./doctor.

Exit status: 0 done; 1 a bug; 2 the command line is wrong; 3 SOURCE is missing, malformed or corrupt; 4 no credentials or
no permission; 5 the destination refused; 6 network or registry unavailable; 7 pushed, but clean-up could not finish;
9 pushed, but the scan found something; 130, 143 interrupted.";

/// What standard error gets while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// Bars on a terminal, plain lines elsewhere
    Auto,
    /// Bars
    Bar,
    /// Lines
    Plain,
    /// Nothing but warnings and errors
    None,
}

/// Whether ECR's scan is waited for, and what of it fails the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scan {
    /// It isn't waited for.
    Off,
    /// It is waited for, whatever it finds.
    Any,
    /// Findings of this severity or a higher one fail the run.
    At(Severity),
}

/// ECR's severities, the lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Severity {
    Undefined,
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

/// Puts a container image that is on this machine into Amazon ECR, verifies it, and frees the disk afterwards.
#[derive(Debug, Parser)]
#[command(
    name = "ecr-push",
    version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("ECR_PUSH_COMMIT"), ", ", env!("ECR_PUSH_TARGET"), ")"),
    before_long_help = EXAMPLES,
    after_long_help = AFTER,
    max_term_width = 110
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct PushArgs {
    /// The image: an OCI image layout folder DIR; a FILE that is an OCI or `docker save` archive, plain or in gzip or zstd; such
    /// an archive from standard input as `-`; or docker-daemon:NAME[:TAG], an image of a Docker or Podman engine. One image of
    /// several is chosen with :NAME or @sha256:DIGEST behind it
    #[arg(value_name = "SOURCE")]
    pub(crate) source: OsString,

    /// Where it goes: HOST/REPOSITORY[:TAG][@DIGEST]; without TAG, --tag and DIGEST the tag is `latest`
    #[arg(value_name = "DESTINATION", required = true)]
    pub(crate) destinations: Vec<String>,

    /// One more tag in every destination; repeatable
    #[arg(short, long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,

    /// Of a multi-platform image push just this platform: its manifest alone, or with several of them a new index; the digest
    /// is another one then. Repeatable
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platforms: Vec<String>,

    /// Remove the image from SOURCE once every destination is verified
    #[arg(long, value_parser = switch, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) cleanup: bool,

    #[command(flatten)]
    pub(crate) orphans: OrphanArgs,

    /// Ask the registries what is there, say what would be sent, tagged and removed, and change nothing
    #[arg(long, value_parser = switch, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) dry_run: bool,

    /// Leave out signatures, SBOMs and attestations in SOURCE that refer to the image
    #[arg(long, value_parser = switch, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) no_referrers: bool,

    /// Allow blobs that are symbolic links out of the layout; clean-up removes the links only
    #[arg(long, value_parser = switch, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) follow_symlinks: bool,

    /// Most blobs in flight at once; how many there are is found out on the way
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: u16,

    /// Write the lines of `--output text` to this file, too, when the push succeeded
    #[arg(long, value_name = "FILE")]
    pub(crate) digest_file: Option<PathBuf>,

    /// What standard error gets while it works
    #[arg(long, value_name = "KIND", default_value = "auto")]
    pub(crate) progress: Progress,

    #[command(flatten)]
    pub(crate) compression: CompressionArgs,

    #[command(flatten)]
    pub(crate) talk: TalkArgs,

    #[command(flatten)]
    pub(crate) aws: AwsArgs,

    #[command(flatten)]
    pub(crate) mounts: MountArgs,

    #[command(flatten)]
    pub(crate) repository: RepositoryArgs,

    /// Wait for ECR's scan of the image and print what it found; exit 9 if it found something of SEVERITY or above
    /// (critical, high, medium, low, informational, undefined)
    #[arg(long, value_parser = scan, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "SEVERITY", hide_default_value = true,
          help_heading = "Amazon ECR")]
    pub(crate) wait_for_scan: Scan,

    /// Seconds to wait for the scan
    #[arg(long, value_name = "SECONDS", default_value_t = 900, help_heading = "Amazon ECR",
          value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub(crate) scan_timeout: u64,

    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// What layers are compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompressionKind {
    /// What every client reads
    Gzip,
    /// Smaller and faster to unpack; Fargate starts sooner
    Zstd,
    /// As they are
    None,
}

/// Layers that are compressed on their way.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Compression")]
pub(crate) struct CompressionArgs {
    /// What layers are compressed with that docker archives and engines give uncompressed
    #[arg(long, value_name = "KIND", default_value = "gzip")]
    pub(crate) compression: CompressionKind,

    /// How hard: gzip 1 to 9, zstd 1 to 19; without it what makes the push shortest
    #[arg(long, value_name = "N")]
    pub(crate) compression_level: Option<u8>,

    /// Threads that compress; without it as many as there are cores
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) compression_threads: Option<u16>,

    /// Compress all layers with --compression, whatever they are in SOURCE: the image gets a new digest
    #[arg(long, value_parser = switch, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) recompress: bool,
}

/// Blobs that needn't be sent, because they are in the registry.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Mounts")]
pub(crate) struct MountArgs {
    /// Try to mount blobs from this repository of the same registry before uploading them; repeatable
    #[arg(long = "mount-from", value_name = "REPOSITORY")]
    pub(crate) mount_from: Vec<String>,

    /// Folder of the record of where blobs are known to be, from which they are mounted; safe to delete. Without it
    /// `$XDG_CACHE_HOME/ecr-push`, else `~/.cache/ecr-push` (on macOS `~/Library/Caches/ecr-push`)
    #[arg(long, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Neither read nor write that record
    #[arg(long, value_parser = switch, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) no_cache: bool,
}

/// What becomes of a repository that is missing.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Missing repositories")]
pub(crate) struct RepositoryArgs {
    /// Create a repository that is missing; one that is there is left as it is
    #[arg(long, value_parser = switch, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) create_repository: bool,

    /// Its tags can't be moved
    #[arg(long, value_parser = switch, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) repository_immutable: bool,

    /// Its images are scanned when they are pushed
    #[arg(long, value_parser = switch, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) repository_scan_on_push: bool,

    /// It is encrypted with this KMS key: an ARN, a key id or an alias; `aws/ecr` is AWS's own key for ECR
    #[arg(long, value_name = "KEY")]
    pub(crate) repository_kms_key: Option<String>,

    /// It gets this AWS tag; repeatable
    #[arg(long = "repository-tag", value_name = "KEY=VALUE")]
    pub(crate) repository_tags: Vec<String>,
}

/// Reads what may stand behind `--wait-for-scan`.
fn scan(text: &str) -> Result<Scan, String> {
    if let Ok(on) = switch(text) {
        return Ok(if on { Scan::Any } else { Scan::Off });
    }
    let severity = Severity::from_str(text, true);
    severity
        .map(Scan::At)
        .map_err(|_| format!("{text:?} is none of critical, high, medium, low, informational, undefined"))
}

/// Whether a word is one of those that may stand behind `--wait-for-scan`.
pub(super) fn is_severity(text: &str) -> bool {
    Severity::from_str(text, true).is_ok()
}
