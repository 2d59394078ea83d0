//! `CreateRepository`, `DescribeRepositories`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Outcome;
use super::request::{Exception, Request, missing, text, with_next};
use crate::config::{RegistryId, TagMutability};
use crate::iam::repository_arn;
use crate::repository::{Encryption, RepositorySettings, key_arn};
use crate::state::{Repository, State};
use crate::sync::lock;

/// AWS tags that a repository may have.
const MOST_TAGS: usize = 50;
/// Filters that a mode of tags may have.
const MOST_FILTERS: usize = 5;

/// Makes a repository as it is asked for.
pub(super) fn create(request: &Request) -> Outcome {
    let (registry, name) = request.place()?;
    let settings = settings(request, &registry)?;
    let creation = &request.shared.config.creation;
    if let Some(failure) = creation.key_failure(&settings.encryption) {
        return Err(Exception::new("KmsException", failure));
    }
    let mut state = lock(&request.shared.state);
    if creation.race && !state.raced {
        state.raced = true;
        state.create(&request.shared.config, &registry, name);
    }
    let held = add(request, &mut state, &registry, name)?;
    held.settings = settings;
    Ok(json!({ "repository": described(&registry, name, held) }))
}

/// A repository with nothing set, unless there is one or there are too many.
pub(super) fn add<'a>(
    request: &Request,
    state: &'a mut State,
    registry: &RegistryId,
    name: &str,
) -> Result<&'a mut Repository, Exception> {
    let account = &registry.account;
    if state.repository(registry, name).is_some() {
        let message = format!("The repository with name '{name}' already exists in the registry with id '{account}'");
        return Err(Exception::new("RepositoryAlreadyExistsException", message));
    }
    let there = state.repositories.keys().filter(|(id, _)| id == registry).count();
    if let Some(limit) = request.shared.config.creation.limit.filter(|limit| there >= *limit) {
        let message = format!(
            "The registry with id '{account}' already has the maximum allowed number of repositories which is '{limit}'"
        );
        return Err(Exception::new("LimitExceededException", message));
    }
    Ok(state.create(&request.shared.config, registry, name))
}

/// The repositories that are named, or all.
pub(super) fn describe(request: &Request) -> Outcome {
    let registry = request.registry()?;
    let names = request.texts("repositoryNames")?;
    request.permit(&registry, Some(names.first().unwrap_or(&"*")))?;
    let found = listed(&lock(&request.shared.state), &registry, &names, described)?;
    let (page, next) = request.page(found, 100)?;
    Ok(with_next(json!({ "repositories": page }), next))
}

/// What is to be said of the repositories that are named, all of which must be there, or else of all that are.
pub(super) fn listed(
    state: &State,
    registry: &RegistryId,
    names: &[&str],
    say: impl Fn(&RegistryId, &str, &Repository) -> Value,
) -> Result<Vec<Value>, Exception> {
    if names.is_empty() {
        let here = state.repositories.iter().filter(|((id, _), _)| id == registry);
        return Ok(here.map(|((_, name), held)| say(registry, name, held)).collect());
    }
    let one = |name: &&str| {
        let held = state.repository(registry, name).ok_or_else(|| missing(registry, name))?;
        Ok(say(registry, name, held))
    };
    names.iter().map(one).collect()
}

fn described(registry: &RegistryId, name: &str, held: &Repository) -> Value {
    let RepositorySettings { mutability, scan_on_push, encryption, .. } = &held.settings;
    let (mode, filters) = mode(mutability);
    let filters: Vec<_> = filters.iter().map(|f| json!({ "filterType": "WILDCARD", "filter": f })).collect();
    let kind = match encryption {
        Encryption::Aes256 => "AES256",
        Encryption::Kms { .. } => "KMS",
        Encryption::KmsDsse { .. } => "KMS_DSSE",
    };
    let mut described = json!({
        "repositoryArn": repository_arn(registry, name),
        "registryId": registry.account,
        "repositoryName": name,
        "repositoryUri": format!("{}/{name}", registry.host()),
        "createdAt": held.created,
        "imageTagMutability": mode,
        "imageScanningConfiguration": { "scanOnPush": scan_on_push },
        "encryptionConfiguration": { "encryptionType": kind },
    });
    if !filters.is_empty() {
        described["imageTagMutabilityExclusionFilters"] = filters.into();
    }
    if let Some(key) = encryption.key() {
        described["encryptionConfiguration"]["kmsKey"] = key.into();
    }
    described
}

fn mode(mutability: &TagMutability) -> (&'static str, &[String]) {
    match mutability {
        TagMutability::Mutable => ("MUTABLE", &[]),
        TagMutability::Immutable => ("IMMUTABLE", &[]),
        TagMutability::MutableWithExclusion(filters) => ("MUTABLE_WITH_EXCLUSION", filters),
        TagMutability::ImmutableWithExclusion(filters) => ("IMMUTABLE_WITH_EXCLUSION", filters),
    }
}

fn settings(request: &Request, registry: &RegistryId) -> Result<RepositorySettings, Exception> {
    let scanning = request.input.get("imageScanningConfiguration");
    Ok(RepositorySettings {
        mutability: mutability(request)?,
        scan_on_push: scanning.is_some_and(|scanning| scanning["scanOnPush"] == true),
        encryption: encryption(request, registry)?,
        tags: tags(request, "Key", "Value")?,
    })
}

fn mutability(request: &Request) -> Result<TagMutability, Exception> {
    let filters = request.list("imageTagMutabilityExclusionFilters")?;
    let filters: Result<Vec<_>, _> = filters.iter().map(filter).collect();
    let filters = filters?;
    let mode = request.text("imageTagMutability")?.unwrap_or("MUTABLE");
    let excluding = mode.ends_with("_WITH_EXCLUSION");
    if filters.is_empty() == excluding || filters.len() > MOST_FILTERS {
        let constraint = "Exclusion filters go with a mode that has exclusions, and there may be 5 of them";
        return Err(Exception::parameter("imageTagMutabilityExclusionFilters", constraint));
    }
    match mode {
        "MUTABLE" => Ok(TagMutability::Mutable),
        "IMMUTABLE" => Ok(TagMutability::Immutable),
        "MUTABLE_WITH_EXCLUSION" => Ok(TagMutability::MutableWithExclusion(filters)),
        "IMMUTABLE_WITH_EXCLUSION" => Ok(TagMutability::ImmutableWithExclusion(filters)),
        _ => Err(enumeration(
            "imageTagMutability",
            "MUTABLE, IMMUTABLE, MUTABLE_WITH_EXCLUSION, IMMUTABLE_WITH_EXCLUSION",
        )),
    }
}

/// A wildcard of tag characters and asterisks.
fn filter(value: &Value) -> Result<String, Exception> {
    let filter = value["filter"].as_str().filter(|_| value["filterType"] == "WILDCARD");
    let word = |b: u8| b.is_ascii_alphanumeric() || b"._-*".contains(&b);
    let filter = filter.filter(|filter| (1..=128).contains(&filter.len()) && filter.bytes().all(word));
    let wrong = || {
        Exception::parameter(
            "imageTagMutabilityExclusionFilters",
            "must satisfy regular expression '^[0-9a-zA-Z._*-]{1,128}'",
        )
    };
    filter.map(str::to_owned).ok_or_else(wrong)
}

fn encryption(request: &Request, registry: &RegistryId) -> Result<Encryption, Exception> {
    let Some(asked) = request.input.get("encryptionConfiguration").and_then(Value::as_object) else {
        return Ok(Encryption::Aes256);
    };
    let named = text(asked, "kmsKey")?;
    let key = || key_arn(registry, named);
    match text(asked, "encryptionType")? {
        Some("AES256") if named.is_none() => Ok(Encryption::Aes256),
        Some("AES256") => Err(Exception::parameter("kmsKey", "Only with encryption type KMS or KMS_DSSE")),
        Some("KMS") => Ok(Encryption::Kms { key: key() }),
        Some("KMS_DSSE") => Ok(Encryption::KmsDsse { key: key() }),
        _ => Err(enumeration("encryptionType", "AES256, KMS, KMS_DSSE")),
    }
}

/// AWS tags, under the names that a service gives their parts.
pub(super) fn tags(request: &Request, key: &str, value: &str) -> Result<BTreeMap<String, String>, Exception> {
    let given = request.list("tags")?;
    if given.len() > MOST_TAGS {
        let message = format!("The repository can't have more than {MOST_TAGS} tags");
        return Err(Exception::new("TooManyTagsException", message));
    }
    let wrong = |what: &str| Exception::new("InvalidTagParameterException", format!("Invalid tag: {what}"));
    let empty = Map::new();
    let mut tags = BTreeMap::new();
    for tag in given {
        let fields = tag.as_object().unwrap_or(&empty);
        let name = text(fields, key)?.filter(|name| (1..=128).contains(&name.chars().count()));
        let name = name.filter(|name| !name.starts_with("aws:")).ok_or_else(|| wrong("its key"))?;
        let content = text(fields, value)?.unwrap_or_default();
        if content.chars().count() > 256 {
            return Err(wrong("its value is too long"));
        }
        if tags.insert(name.to_owned(), content.to_owned()).is_some() {
            return Err(wrong("its key is there twice"));
        }
    }
    Ok(tags)
}

fn enumeration(name: &str, values: &str) -> Exception {
    Exception::parameter(name, &format!("Member must satisfy enum value set: [{values}]"))
}
