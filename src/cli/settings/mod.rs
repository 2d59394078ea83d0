//! What was meant: typed arguments and environment turned into a job.

mod access;

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use ecr_push::aws::host::EcrRegistry;
use ecr_push::aws::repository::NewRepository;
use ecr_push::aws::scan::Severity;
use ecr_push::clean::Cleaning;
use ecr_push::compress::{Algorithm, Compression};
use ecr_push::doctor::Examination;
use ecr_push::inspect::Inspection;
use ecr_push::job::{Job, Options};
use ecr_push::oci::reference::{Host, Reference, ReferenceError, Repository, Tag};
use ecr_push::platform::{Wanted, WantedError};
use ecr_push::reach::Access;
use ecr_push::scan::ScanWait;
use ecr_push::source::engine::EngineSettings;
use ecr_push::source::{Choice, Source, SourceError};
use thiserror::Error;

use super::args::{
    self, CleanArgs, CompressionArgs, CompressionKind, DoctorArgs, InspectArgs, Output, Progress, PushArgs,
    RepositoryArgs, Scan,
};

/// Commands that the command line's contract names and this version doesn't have.
const COMMANDS: [&str; 1] = ["completions"];

/// Why the command line means nothing.
#[derive(Debug, Error)]
pub(super) enum SettingsError {
    /// SOURCE isn't one.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A command that isn't there yet.
    #[error("the command {command} is not in this version; a folder of that name is written ./{command}")]
    Command {
        /// The command.
        command: &'static str,
    },
    /// Options before a command make that SOURCE.
    #[error("options stand behind the command: ecr-push {command} …; a folder of that name is written ./{command}")]
    OptionsFirst {
        /// The command.
        command: &'static str,
    },
    /// SOURCE isn't UTF-8.
    #[error("SOURCE is not UTF-8: {0:?}")]
    SourceText(OsString),
    /// A destination or a tag isn't one.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A platform isn't one.
    #[error("--platform: {0}")]
    Platform(WantedError),
    /// The source of mounts isn't one.
    #[error(
        "--mount-from: {name:?} is no repository name: it is one of the destination's registry, and written without host \
         and tag"
    )]
    MountFrom {
        /// What was typed.
        name: String,
    },
    /// A URL isn't one.
    #[error("{option}: {value:?} is no http or https URL, or has a user, a query or a fragment")]
    Url {
        /// The option.
        option: &'static str,
        /// What was typed.
        value: String,
    },
    /// One endpoint for several hosts.
    #[error("--registry-endpoint serves one host, and the destinations name several: write HOST=URL")]
    OneEndpoint,
    /// A host that no destination names.
    #[error("{option}: no destination is on {host}")]
    StrayHost {
        /// The option.
        option: &'static str,
        /// The host.
        host: Host,
    },
    /// A host that is almost one of ECR's.
    #[error(
        "{host} looks like an ECR registry and is none: 123456789012.dkr.ecr.REGION.amazonaws.com is the form, and a VPC \
         endpoint's own name goes into --registry-endpoint"
    )]
    LookAlike {
        /// The host.
        host: Host,
    },
    /// A region that can't be one.
    #[error("{place}: {region:?} is no region: was {nearest} meant?")]
    Region {
        /// Where it was typed.
        place: String,
        /// What was typed.
        region: String,
        /// The known one that is most like it.
        nearest: &'static str,
    },
    /// A repository of ECR Public without its alias.
    #[error("{repository}: a destination on ECR Public is public.ecr.aws/ALIAS/REPOSITORY[:TAG]")]
    NoAlias {
        /// What was typed.
        repository: String,
    },
    /// A role that isn't one.
    #[error("--role-arn: {value:?} is no role: arn:aws:iam::123456789012:role/NAME is the form")]
    RoleArn {
        /// What was typed.
        value: String,
    },
    /// Something about a role where there is none.
    #[error("{option}: there is no --role-arn for {host}")]
    NoRole {
        /// The option.
        option: &'static str,
        /// The host.
        host: Host,
    },
    /// Settings of a repository that isn't to be made.
    #[error("{option} is for repositories that --create-repository makes, and it is not given")]
    NoCreation {
        /// The option.
        option: &'static str,
    },
    /// An option of a clean-up that isn't asked for.
    #[error("--prune-orphans (or ECR_PUSH_PRUNE_ORPHANS) is for a clean-up, and --cleanup is not given")]
    NoCleanup,
    /// One image, and something for all of them.
    #[error("{option} (or its environment variable) goes through all images of a layout, and SOURCE chooses one")]
    Chosen {
        /// The option.
        option: &'static str,
    },
    /// ECR Public has no such setting.
    #[error("{option}: repositories of ECR Public have no such setting")]
    NotOnPublic {
        /// The option.
        option: &'static str,
    },
    /// An AWS tag isn't one.
    #[error("--repository-tag: {value:?} is no KEY=VALUE")]
    RepositoryTag {
        /// What was typed.
        value: String,
    },
    /// A scan where there is none.
    #[error("--wait-for-scan: only private ECR scans images, and {host} is not that")]
    NoScan {
        /// The host.
        host: Host,
    },
    /// There is no such level.
    #[error("--compression-level: {kind} has no level {level}, but {range}")]
    Level {
        /// What is compressed with.
        kind: &'static str,
        /// What was asked for.
        level: i32,
        /// What there is.
        range: String,
    },
    /// The digest file could never be written.
    #[error("--digest-file: {path} is a folder, or in one that does not exist")]
    DigestFile {
        /// The file.
        path: PathBuf,
    },
}

/// Everything that a run needs to know.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) job: Job,
    pub(super) output: Output,
    pub(super) progress: Progress,
    pub(super) verbose: u8,
    pub(super) quiet: bool,
    pub(super) digest_file: Option<PathBuf>,
    /// What is said before anything else.
    pub(super) warnings: Vec<String>,
    /// Whether the terminal can draw bars.
    pub(super) bars: bool,
    /// Whether it knows UTF-8.
    pub(super) utf8: bool,
}

impl Settings {
    /// What `args` mean.
    pub(super) fn of(args: PushArgs) -> Result<Self, SettingsError> {
        if let Some(command) = COMMANDS.into_iter().find(|command| args.source == *command) {
            return Err(SettingsError::Command { command });
        }
        if let Some(command) = args::NAMES.into_iter().find(|command| args.source == **command) {
            return Err(SettingsError::OptionsFirst { command });
        }
        let destinations =
            args.destinations.iter().map(|text| Reference::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let tags = args.tags.iter().map(|text| Tag::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let platforms = args.platforms.iter().map(|text| Wanted::parse(text)).collect::<Result<Vec<_>, _>>();
        let platforms = platforms.map_err(SettingsError::Platform)?;
        let hosts = access::hosts(&destinations)?;
        let access = access::access(&args.aws, args.connection, &hosts)?;
        let warnings = warnings(&access, args.aws.region.as_deref(), &hosts);
        let create = new_repository(args.repository, &hosts)?;
        let scan = scan(args.wait_for_scan, Duration::from_secs(args.scan_timeout), &hosts)?;
        if let Some(path) = &args.digest_file
            && (path.is_dir() || !path.parent().is_none_or(|parent| parent.as_os_str().is_empty() || parent.is_dir()))
        {
            return Err(SettingsError::DigestFile { path: path.clone() });
        }
        let mount_from = args.mounts.mount_from;
        if let Some(name) = mount_from.iter().find(|name| !Repository::is_name(name)) {
            return Err(SettingsError::MountFrom { name: name.clone() });
        }
        let prune_orphans = args.orphans.prune_orphans;
        if prune_orphans.is_some() && !args.cleanup {
            return Err(SettingsError::NoCleanup);
        }
        let source = args.source.to_str().ok_or_else(|| SettingsError::SourceText(args.source.clone()))?;
        let options = Options {
            cleanup: args.cleanup,
            prune_orphans,
            platforms,
            referrers: !args.no_referrers,
            follow_symlinks: args.follow_symlinks,
            dry_run: args.dry_run,
            jobs: usize::from(args.jobs),
            access,
            create,
            scan,
            mount_from,
            engine: engine(),
            cache: args.mounts.cache_dir.or_else(cache_folder).filter(|_| !args.mounts.no_cache),
            temporary: temporary(),
            compression: compression(&args.compression)?,
            recompress: args.compression.recompress,
            threads: threads(args.compression.compression_threads),
        };
        Ok(Self {
            job: Job { source: Source::parse(source)?, destinations, tags, options },
            output: args.talk.output,
            progress: args.progress,
            verbose: args.talk.verbose,
            quiet: args.talk.quiet,
            digest_file: args.digest_file,
            warnings,
            bars: env::var_os("TERM").is_none_or(|term| term != "dumb"),
            utf8: utf8(),
        })
    }
}

fn compression(args: &CompressionArgs) -> Result<Compression, SettingsError> {
    let (algorithm, kind) = match args.compression {
        CompressionKind::Gzip => (Algorithm::Gzip, "gzip"),
        CompressionKind::Zstd => (Algorithm::Zstd, "zstd"),
        CompressionKind::None => (Algorithm::None, "none"),
    };
    let (levels, level) = (algorithm.levels(), args.compression_level.map(i32::from));
    if let Some(level) = level.filter(|level| algorithm == Algorithm::None || !levels.contains(level)) {
        let range = match algorithm {
            Algorithm::None => "none at all".to_owned(),
            _ => format!("{} to {}", levels.start(), levels.end()),
        };
        return Err(SettingsError::Level { kind, level, range });
    }
    Ok(Compression { algorithm, level })
}

/// As many as there are cores that may be used: containers often have fewer than their machine.
fn threads(asked: Option<u16>) -> usize {
    asked.map(usize::from).or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1)
}

/// What the doctor needs to know.
#[derive(Debug)]
pub(super) struct DoctorSettings {
    pub(super) examination: Examination,
    pub(super) output: Output,
    pub(super) verbose: u8,
    pub(super) quiet: bool,
    pub(super) warnings: Vec<String>,
}

impl DoctorSettings {
    /// What `args` mean.
    pub(super) fn of(args: DoctorArgs) -> Result<Self, SettingsError> {
        let destination = Reference::parse(&args.destination)?;
        let hosts = access::hosts(std::slice::from_ref(&destination))?;
        let access = access::access(&args.aws, args.connection, &hosts)?;
        let warnings = warnings(&access, args.aws.region.as_deref(), &hosts);
        Ok(Self {
            warnings,
            examination: Examination { destination, access, create_repository: args.create_repository },
            output: args.talk.output,
            verbose: args.talk.verbose,
            quiet: args.talk.quiet,
        })
    }
}

/// What an inspection needs to know.
#[derive(Debug)]
pub(super) struct InspectSettings {
    pub(super) inspection: Inspection,
    /// SOURCE as typed.
    pub(super) source: String,
    pub(super) output: Output,
    pub(super) verbose: u8,
    /// Whether the terminal knows UTF-8.
    pub(super) utf8: bool,
}

impl InspectSettings {
    /// What `args` mean.
    pub(super) fn of(args: InspectArgs) -> Result<Self, SettingsError> {
        let source = args.source.to_str().ok_or_else(|| SettingsError::SourceText(args.source.clone()))?;
        let inspection = Inspection {
            source: Source::parse(source)?,
            follow_symlinks: args.follow_symlinks,
            temporary: temporary(),
            engine: engine(),
            access: access::to_engine(args.connection),
        };
        Ok(Self {
            inspection,
            source: source.to_owned(),
            output: args.talk.output,
            verbose: args.talk.verbose,
            utf8: utf8(),
        })
    }
}

/// What a clean-up without a push needs to know.
#[derive(Debug)]
pub(super) struct CleanSettings {
    pub(super) cleaning: Cleaning,
    /// SOURCE as typed.
    pub(super) source: String,
    pub(super) output: Output,
    pub(super) verbose: u8,
    pub(super) quiet: bool,
}

impl CleanSettings {
    /// What `args` mean.
    pub(super) fn of(args: CleanArgs) -> Result<Self, SettingsError> {
        let text = args.source.to_str().ok_or_else(|| SettingsError::SourceText(args.source.clone()))?;
        let source = Source::parse(text)?;
        let aged = args.keep.map(|_| "--keep").or(args.older_than.map(|_| "--older-than"));
        if let Some(option) = aged.filter(|_| source.choice != Choice::Only) {
            return Err(SettingsError::Chosen { option });
        }
        Ok(Self {
            cleaning: Cleaning {
                source,
                keep: args.keep,
                older_than: args.older_than,
                prune_orphans: args.orphans.prune_orphans,
                dry_run: args.dry_run,
                follow_symlinks: args.follow_symlinks,
                temporary: temporary(),
                engine: engine(),
                access: access::to_engine(args.connection),
            },
            source: text.to_owned(),
            output: args.talk.output,
            verbose: args.talk.verbose,
            quiet: args.talk.quiet,
        })
    }
}

/// The folder for what has to lie on disk for a while.
fn temporary() -> PathBuf {
    path("TMPDIR").unwrap_or_else(|| "/tmp".into())
}

/// What the user should know before anything is sent.
fn warnings(access: &Access, region: Option<&str>, hosts: &[&Host]) -> Vec<String> {
    let endpoints = access.registry_endpoints.bare.iter();
    let endpoints = endpoints.chain(access.registry_endpoints.hosts.iter().map(|(_, endpoint)| endpoint));
    let insecure = endpoints.filter(|endpoint| endpoint.is_in_the_clear());
    let insecure = insecure.map(|endpoint| format!("credentials and image go to {endpoint} in the clear"));
    let elsewhere = hosts.iter().filter_map(|host| match EcrRegistry::of(host) {
        Some(EcrRegistry::Private(ecr)) => {
            let other = region.filter(|region| *region != ecr.region)?;
            Some(format!("--region {other} does not count: {host} is in {}", ecr.region))
        }
        Some(EcrRegistry::Public) | None => None,
    });
    insecure.chain(elsewhere).collect()
}

/// How a missing repository is to be made.
fn new_repository(args: RepositoryArgs, hosts: &[&Host]) -> Result<Option<NewRepository>, SettingsError> {
    let given = [
        (args.repository_immutable, "--repository-immutable"),
        (args.repository_scan_on_push, "--repository-scan-on-push"),
        (args.repository_kms_key.is_some(), "--repository-kms-key"),
        (!args.repository_tags.is_empty(), "--repository-tag"),
    ];
    let mut given = given.into_iter().filter(|(given, _)| *given).map(|(_, option)| option);
    if !args.create_repository {
        return given.next().map_or(Ok(None), |option| Err(SettingsError::NoCreation { option }));
    }
    let public = hosts.iter().any(|host| EcrRegistry::of(host) == Some(EcrRegistry::Public));
    if let Some(option) = given.find(|option| public && *option != "--repository-tag") {
        return Err(SettingsError::NotOnPublic { option });
    }
    let tag = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(SettingsError::RepositoryTag { value: text.clone() }),
    };
    Ok(Some(NewRepository {
        immutable: args.repository_immutable,
        scan_on_push: args.repository_scan_on_push,
        kms_key: args.repository_kms_key,
        tags: args.repository_tags.iter().map(tag).collect::<Result<_, _>>()?,
    }))
}

/// Whether and how long a scan is waited for, and what of it fails the run.
fn scan(asked: Scan, bound: Duration, hosts: &[&Host]) -> Result<Option<ScanWait>, SettingsError> {
    let fail_at = match asked {
        Scan::Off => return Ok(None),
        Scan::Any => None,
        Scan::At(severity) => Some(match severity {
            args::Severity::Undefined => Severity::Undefined,
            args::Severity::Informational => Severity::Informational,
            args::Severity::Low => Severity::Low,
            args::Severity::Medium => Severity::Medium,
            args::Severity::High => Severity::High,
            args::Severity::Critical => Severity::Critical,
        }),
    };
    let scans = |host: &&Host| matches!(EcrRegistry::of(host), Some(EcrRegistry::Private(_)));
    match hosts.iter().find(|host| !scans(host)) {
        Some(host) => Err(SettingsError::NoScan { host: (*host).clone() }),
        None => Ok(Some(ScanWait { fail_at, bound })),
    }
}

/// What the environment says of engines. That docker's config is asked at all is docker's way: whoever is logged in there
/// works with the engine that it names.
fn engine() -> EngineSettings {
    EngineSettings {
        docker_host: text("DOCKER_HOST"),
        docker_context: text("DOCKER_CONTEXT"),
        container_host: text("CONTAINER_HOST"),
        tls: text("DOCKER_TLS_VERIFY").or_else(|| text("DOCKER_TLS")).is_some(),
        cert_path: path("DOCKER_CERT_PATH"),
        config: docker_config(),
        runtime: path("XDG_RUNTIME_DIR"),
        home: path("HOME"),
    }
}

/// The folder of docker's config.
fn docker_config() -> Option<PathBuf> {
    path("DOCKER_CONFIG").or_else(|| Some(path("HOME")?.join(".docker")))
}

/// The user's folder for what can be made again; a relative one is none (XDG Base Directory Specification).
fn cache_folder() -> Option<PathBuf> {
    let below = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
    let home = || Some(path("HOME").filter(|home| home.is_absolute())?.join(below));
    path("XDG_CACHE_HOME").filter(|folder| folder.is_absolute()).or_else(home).map(|folder| folder.join("ecr-push"))
}

/// The path in an environment variable; empty means unset.
fn path(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The text in an environment variable; empty means unset.
fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether the terminal says that it knows UTF-8; the first of these that is set and not empty counts (POSIX, locale).
fn utf8() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(text);
    locale.is_some_and(|text| text.to_ascii_lowercase().replace('-', "").contains("utf8"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The names of the variants. One that is added to the enum and not to the list doesn't compile.
    macro_rules! names {
        ($($variant:ident),* $(,)?) => {{
            let _exhaustive = |error: &SettingsError| match error { $(SettingsError::$variant { .. } => {})* };
            [$(concat!("SettingsError::", stringify!($variant))),*]
        }};
    }

    #[test]
    fn every_error_has_a_golden_case() {
        let all = names! {
            Source, Command, SourceText, Reference, Platform, MountFrom, Level, Url, OneEndpoint, StrayHost, LookAlike, Region, NoAlias, RoleArn,
            NoRole, NoCreation, NoCleanup, Chosen, OptionsFirst, NotOnPublic, RepositoryTag, NoScan, DigestFile,
        };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cli/command-line");
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let cases: String = files
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .map(|path| fs::read_to_string(path).unwrap())
            .collect();
        // What isn't UTF-8 can't be written into a case.
        let missing: Vec<_> = all
            .into_iter()
            .filter(|name| *name != "SettingsError::SourceText" && !cases.contains(&format!("{name:?}")))
            .collect();
        assert!(missing.is_empty(), "these have no case in testdata/cli/command-line: {missing:?}");
    }
}
