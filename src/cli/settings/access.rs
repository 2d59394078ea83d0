//! How each destination's host is reached, out of what was typed and what the environment says.

use std::path::PathBuf;
use std::time::Duration;

use ecr_push::aws::credentials::Role;
use ecr_push::aws::host::{EcrRegistry, SUFFIXES};
use ecr_push::aws::region;
use ecr_push::oci::reference::{Host, Reference, without_user};
use ecr_push::reach::{Access, PerHost};
use ecr_push::registry::endpoint::Endpoint;

use super::{SettingsError, docker_config, path, text};
use crate::cli::args::{AwsArgs, ConnectionArgs};

/// Ends of host names that belong to AWS, beside those of ECR's registries.
const AWS_DOMAINS: [&str; 2] = ["api.aws", "ecr.aws"];

/// The name of a role's session, where nobody gives one.
const SESSION: &str = "ecr-push";

/// The hosts of the destinations, each once and each of them one that can be meant.
///
/// # Errors
/// For one that is almost ECR's, a region that can't be one, and a repository that ECR Public can't have.
pub(super) fn hosts(destinations: &[Reference]) -> Result<Vec<&Host>, SettingsError> {
    let mut hosts: Vec<&Host> = destinations.iter().map(|destination| &destination.repository.host).collect();
    hosts.sort();
    hosts.dedup();
    for host in &hosts {
        match EcrRegistry::of(host) {
            // No AWS credentials go there, and whoever wrote it meant that they do.
            None if is_look_alike(host) => return Err(SettingsError::LookAlike { host: (*host).clone() }),
            Some(EcrRegistry::Private(ecr)) if !region::is_well_formed(&ecr.region) => {
                return Err(SettingsError::Region {
                    place: host.to_string(),
                    nearest: region::nearest(&ecr.region),
                    region: ecr.region,
                });
            }
            Some(EcrRegistry::Public | EcrRegistry::Private(_)) | None => {}
        }
    }
    let without_alias = |destination: &&Reference| {
        let repository = &destination.repository;
        !repository.name.contains('/') && EcrRegistry::of(&repository.host) == Some(EcrRegistry::Public)
    };
    match destinations.iter().find(without_alias) {
        Some(destination) => Err(SettingsError::NoAlias { repository: destination.repository.to_string() }),
        None => Ok(hosts),
    }
}

fn is_look_alike(host: &Host) -> bool {
    let name = host.name();
    let registry_like = [".dkr.", ".dkr-", ".ecr.", ".ecr-", "public.ecr."].iter().any(|part| name.contains(part));
    let mut domains = AWS_DOMAINS.iter().chain(&SUFFIXES);
    registry_like && domains.any(|end| name.strip_suffix(end).is_some_and(|rest| rest.ends_with('.')))
}

/// How `hosts` are reached.
///
/// # Errors
/// For what isn't of its form, or belongs to a host that no destination has.
pub(super) fn access(aws: &AwsArgs, connection: ConnectionArgs, hosts: &[&Host]) -> Result<Access, SettingsError> {
    let url = |option: &'static str| {
        move |value: &str| {
            Endpoint::parse(value).ok_or_else(|| SettingsError::Url { option, value: without_user(value) })
        }
    };
    let registry_endpoints =
        per_host("--registry-endpoint", &connection.registry_endpoints, hosts, url("--registry-endpoint"))?;
    if registry_endpoints.bare.is_some() && hosts.len() > 1 {
        return Err(SettingsError::OneEndpoint);
    }
    let endpoint_urls = per_host("--endpoint-url", &aws.endpoint_urls, hosts, |value| {
        url("--endpoint-url")(value).map(|url| url.to_string())
    })?;
    let profiles = per_host("--profile", &aws.profiles, hosts, as_it_is)?;
    if let Some(region) = aws.region.as_ref().filter(|region| !region::is_well_formed(region)) {
        let (place, nearest) = ("--region".to_owned(), region::nearest(region));
        return Err(SettingsError::Region { place, region: region.clone(), nearest });
    }
    let mut ca_files = connection.ca_files;
    // The SDK for Rust ignores it; whoever sets it for the aws CLI expects it to count everywhere.
    ca_files.extend(path("AWS_CA_BUNDLE"));
    Ok(Access {
        plain_http: connection.plain_http,
        connect_timeout: Duration::from_secs(connection.connect_timeout),
        timeout: Duration::from_secs(connection.timeout),
        retries: connection.retries,
        ca_files,
        config_files: config_files(),
        profiles,
        roles: roles(aws, hosts)?,
        region: aws.region.clone().or_else(|| text("AWS_REGION")).or_else(|| text("AWS_DEFAULT_REGION")),
        endpoint_urls,
        registry_endpoints,
    })
}

/// How an engine is reached, where nothing is meant for a registry.
pub(super) fn to_engine(connection: ConnectionArgs) -> Access {
    Access {
        plain_http: false,
        connect_timeout: Duration::from_secs(connection.connect_timeout),
        timeout: Duration::from_secs(connection.timeout),
        retries: connection.retries,
        ca_files: connection.ca_files,
        config_files: Vec::new(),
        profiles: PerHost::default(),
        roles: PerHost::default(),
        region: None,
        endpoint_urls: PerHost::default(),
        registry_endpoints: PerHost::default(),
    }
}

/// The role of each host.
fn roles(aws: &AwsArgs, hosts: &[&Host]) -> Result<PerHost<Role>, SettingsError> {
    let arns = per_host("--role-arn", &aws.role_arns, hosts, |value| {
        let parts: Vec<&str> = value.splitn(6, ':').collect();
        let is_role = matches!(parts[..], ["arn", _, "iam", "", account, role]
            if account.len() == 12 && role.strip_prefix("role/").is_some_and(|name| !name.is_empty()));
        if is_role { Ok(value.to_owned()) } else { Err(SettingsError::RoleArn { value: value.to_owned() }) }
    })?;
    let external_ids = per_host("--external-id", &aws.external_ids, hosts, as_it_is)?;
    let session_names = per_host("--role-session-name", &aws.role_session_names, hosts, as_it_is)?;
    let mut roles = PerHost::default();
    for host in hosts {
        let (external_id, session_name) = (external_ids.get(host), session_names.get(host));
        let Some(arn) = arns.get(host) else {
            // What is said of all hosts is for those that have a role.
            let bare = arns.bare.is_some() || !arns.hosts.is_empty();
            let meant = |option: &PerHost<String>| option.hosts.iter().any(|(named, _)| named == *host) || !bare;
            let option = match (external_id, session_name) {
                (Some(_), _) if meant(&external_ids) => "--external-id",
                (_, Some(_)) if meant(&session_names) => "--role-session-name",
                _ => continue,
            };
            return Err(SettingsError::NoRole { option, host: (*host).clone() });
        };
        let session_name = session_name.or_else(|| text("AWS_ROLE_SESSION_NAME")).unwrap_or_else(|| SESSION.to_owned());
        roles.hosts.push(((*host).clone(), Role { arn, external_id, session_name }));
    }
    Ok(roles)
}

#[expect(clippy::unnecessary_wraps, reason = "one of several ways to read a value, and the one that takes all")]
fn as_it_is(value: &str) -> Result<String, SettingsError> {
    Ok(value.to_owned())
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
    let docker = docker_config();
    let runtime = path("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
    let config = path("XDG_CONFIG_HOME").or_else(|| Some(path("HOME")?.join(".config")));
    let podman = config.map(|dir| dir.join("containers/auth.json"));
    let docker = docker.map(|dir| dir.join("config.json"));
    [path("REGISTRY_AUTH_FILE"), docker, runtime, podman].into_iter().flatten().collect()
}
