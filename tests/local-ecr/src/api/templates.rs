//! `DescribeRepositoryCreationTemplates`.

use serde_json::{Value, json};

use super::Outcome;
use super::request::Request;
use crate::config::{MissingRepository, RegistryId};

/// The templates of the registry: one for all repositories, if a push makes those that are missing.
pub(super) fn describe(request: &Request) -> Outcome {
    let registry = RegistryId::new(request.account(), request.region);
    request.permit(&registry, None)?;
    let applies = request.shared.config.missing_repository == MissingRepository::CreateOnPush;
    let root = applies.then(|| {
        json!({
            "prefix": "ROOT",
            "appliedFor": ["CREATE_ON_PUSH"],
            "imageTagMutability": "MUTABLE",
            "encryptionConfiguration": { "encryptionType": "AES256" },
        })
    });
    let templates: Vec<Value> = root.into_iter().collect();
    Ok(json!({ "registryId": registry.account, "repositoryCreationTemplates": templates }))
}
