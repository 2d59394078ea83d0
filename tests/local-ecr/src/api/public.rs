//! ECR Public's own operations. They are to be had in one region only, and name repositories without the alias.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Outcome;
use super::repositories::{add, listed, tags};
use super::request::{Request, with_next};
use crate::auth::{Kind, expires_at};
use crate::config::RegistryId;
use crate::iam::{Action, repository_arn};
use crate::state::Repository;
use crate::sync::lock;

/// `GetAuthorizationToken`: one token, for the exchange (facts/ecr.md, Credentials).
pub(super) fn token(request: &Request) -> Outcome {
    let registry = RegistryId::public(request.account());
    let bearer = Action::GetServiceBearerToken;
    request.shared.journal.note(request.sequence, |entry| entry.actions.push(bearer.name(request.service)));
    request.permit(&registry, None)?;
    request.permit_action(bearer, &registry, None)?;
    let password = lock(&request.shared.state).tokens.issue(Kind::Exchange, request.holder);
    Ok(json!({ "authorizationData": {
        "authorizationToken": STANDARD.encode(format!("AWS:{password}")),
        "expiresAt": expires_at(request.shared.config.token_expires_at_in_past),
    } }))
}

/// `CreateRepository`.
pub(super) fn create(request: &Request) -> Outcome {
    let registry = RegistryId::public(request.account());
    let name = full_name(request, request.repository()?);
    request.permit(&registry, Some(&name))?;
    let tags = tags(request, "Key", "Value")?;
    let mut state = lock(&request.shared.state);
    let race = request.shared.config.creation.race && !state.raced;
    if race {
        state.raced = true;
        state.create(&request.shared.config, &registry, &name);
    }
    let held = add(request, &mut state, &registry, &name)?;
    held.settings.tags = tags;
    let catalog = request.input.get("catalogData").filter(|data| data.is_object());
    Ok(json!({
        "repository": described(&registry, &name, held),
        "catalogData": catalog.cloned().unwrap_or_else(|| json!({})),
    }))
}

/// `DescribeRepositories`.
pub(super) fn describe(request: &Request) -> Outcome {
    let registry = request.registry()?;
    let names: Vec<_> = request.texts("repositoryNames")?.iter().map(|name| full_name(request, name)).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    request.permit(&registry, Some(names.first().unwrap_or(&"*")))?;
    let found = listed(&lock(&request.shared.state), &registry, &names, described)?;
    let (page, next) = request.page(found, 100)?;
    Ok(with_next(json!({ "repositories": page }), next))
}

/// As the registry calls it.
pub(super) fn full_name(request: &Request, name: &str) -> String {
    let alias = request.shared.config.public_alias.as_deref().unwrap_or("local");
    format!("{alias}/{name}")
}

fn described(registry: &RegistryId, name: &str, held: &Repository) -> Value {
    let short = name.split_once('/').map_or(name, |(_, short)| short);
    json!({
        "repositoryArn": repository_arn(registry, name),
        "registryId": registry.account,
        "repositoryName": short,
        "repositoryUri": format!("{}/{name}", registry.host()),
        "createdAt": held.created,
    })
}
