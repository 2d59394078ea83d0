//! What was meant: typed arguments and environment turned into a job.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use ecr_push::aws::host::EcrHost;
use ecr_push::job::{Job, Options, PerHost};
use ecr_push::oci::reference::{Host, Reference, ReferenceError, Tag};
use ecr_push::registry::endpoint::Endpoint;
use ecr_push::source::{Source, SourceError};
use thiserror::Error;

use super::args::{Args, Output, Progress};

/// Ends of host names that belong to AWS.
const AWS_DOMAINS: [&str; 4] = [".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".on.aws"];

/// Commands that the command line's contract names and this version doesn't have.
const COMMANDS: [&str; 4] = ["inspect", "clean", "doctor", "completions"];

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
    /// SOURCE isn't UTF-8.
    #[error("SOURCE is not UTF-8: {0:?}")]
    SourceText(OsString),
    /// A destination or a tag isn't one.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
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
    /// Whether the terminal can draw bars.
    pub(super) bars: bool,
    /// Whether it knows UTF-8.
    pub(super) utf8: bool,
}

impl Settings {
    /// What `args` mean.
    pub(super) fn of(args: Args) -> Result<Self, SettingsError> {
        if let Some(command) = COMMANDS.into_iter().find(|command| args.source == *command) {
            return Err(SettingsError::Command { command });
        }
        let destinations =
            args.destinations.iter().map(|text| Reference::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let tags = args.tags.iter().map(|text| Tag::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let mut hosts: Vec<&Host> = destinations.iter().map(|destination| &destination.repository.host).collect();
        hosts.sort();
        hosts.dedup();
        // No AWS credentials go there, and whoever wrote it meant that they do.
        let look_alike = |host: &&&Host| {
            let name = host.name();
            (name.contains(".dkr.ecr") || name.contains(".dkr-ecr"))
                && AWS_DOMAINS.iter().any(|end| name.ends_with(end))
        };
        if let Some(host) = hosts.iter().filter(look_alike).find(|host| EcrHost::of(host).is_none()) {
            return Err(SettingsError::LookAlike { host: (*host).clone() });
        }
        let url = |option: &'static str| {
            move |value: &str| {
                Endpoint::parse(value).ok_or_else(|| SettingsError::Url { option, value: value.to_owned() })
            }
        };
        let registry_endpoints =
            per_host("--registry-endpoint", &args.registry_endpoints, &hosts, url("--registry-endpoint"))?;
        if registry_endpoints.bare.is_some() && hosts.len() > 1 {
            return Err(SettingsError::OneEndpoint);
        }
        let endpoint_urls = per_host("--endpoint-url", &args.endpoint_urls, &hosts, |value| {
            url("--endpoint-url")(value).map(|url| url.to_string())
        })?;
        let profiles = per_host("--profile", &args.profiles, &hosts, |value| Ok(value.to_owned()))?;
        if let Some(path) = &args.digest_file
            && (path.is_dir() || !path.parent().is_none_or(|parent| parent.as_os_str().is_empty() || parent.is_dir()))
        {
            return Err(SettingsError::DigestFile { path: path.clone() });
        }
        let mut ca_files = args.ca_files;
        // The SDK for Rust ignores it; whoever sets it for the aws CLI expects it to count everywhere.
        ca_files.extend(path("AWS_CA_BUNDLE"));
        let source = args.source.to_str().ok_or_else(|| SettingsError::SourceText(args.source.clone()))?;
        let options = Options {
            cleanup: args.cleanup,
            referrers: !args.no_referrers,
            follow_symlinks: args.follow_symlinks,
            jobs: usize::from(args.jobs),
            retries: args.retries,
            plain_http: args.plain_http,
            connect_timeout: Duration::from_secs(args.connect_timeout),
            timeout: Duration::from_secs(args.timeout),
            ca_files,
            config_files: config_files(),
            profiles,
            endpoint_urls,
            registry_endpoints,
        };
        Ok(Self {
            job: Job { source: Source::parse(source)?, destinations, tags, options },
            output: args.output,
            progress: args.progress,
            verbose: args.verbose,
            quiet: args.quiet,
            digest_file: args.digest_file,
            bars: env::var_os("TERM").is_none_or(|term| term != "dumb"),
            utf8: utf8(),
        })
    }
}

/// Reads values that may begin with `HOST=`.
fn per_host<T>(
    option: &'static str,
    values: &[String],
    hosts: &[&Host],
    read: impl Fn(&str) -> Result<T, SettingsError>,
) -> Result<PerHost<T>, SettingsError> {
    let mut settings = PerHost { bare: None, hosts: Vec::new() };
    for value in values {
        // A profile's name may hold an equals sign, and so may a URL: only what looks like a host is one.
        let named = value.split_once('=').filter(|(host, _)| host.contains(['.', ':']) || *host == "localhost");
        match named.and_then(|(host, rest)| Some((Host::parse(host).ok()?, rest))) {
            Some((host, rest)) => {
                if !hosts.contains(&&host) {
                    return Err(SettingsError::StrayHost { option, host });
                }
                settings.hosts.push((host, read(rest)?));
            }
            None => settings.bare = Some(read(value)?),
        }
    }
    Ok(settings)
}

/// The files in which docker and podman keep credentials, the strongest first.
fn config_files() -> Vec<PathBuf> {
    let docker = path("DOCKER_CONFIG").or_else(|| Some(path("HOME")?.join(".docker")));
    let runtime = path("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
    let config = path("XDG_CONFIG_HOME").or_else(|| Some(path("HOME")?.join(".config")));
    let podman = config.map(|dir| dir.join("containers/auth.json"));
    let docker = docker.map(|dir| dir.join("config.json"));
    [path("REGISTRY_AUTH_FILE"), docker, runtime, podman].into_iter().flatten().collect()
}

/// The path in an environment variable; empty means unset.
fn path(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Whether the terminal says that it knows UTF-8; the first of these that is set and not empty counts (POSIX, locale).
fn utf8() -> bool {
    let set = |name: &&str| env::var(name).is_ok_and(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find(set).and_then(|name| env::var(name).ok());
    locale.is_some_and(|text| text.to_ascii_lowercase().replace('-', "").contains("utf8"))
}
