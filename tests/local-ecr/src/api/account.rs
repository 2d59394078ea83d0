//! `GetAccountSetting`.

use serde_json::json;

use super::Outcome;
use super::request::{Exception, Request};
use crate::config::RegistryId;

/// A setting of the account by its name, as far as the service model has it.
pub(super) fn setting(request: &Request) -> Outcome {
    let registry = RegistryId::new(request.account(), request.region);
    request.permit(&registry, None)?;
    let name = request.text("name")?.unwrap_or_default();
    let value = match name {
        "BLOB_MOUNTING" if request.shared.config.blob_mounting => "ENABLED",
        "BLOB_MOUNTING" => "DISABLED",
        "BASIC_SCAN_TYPE_VERSION" => "AWS_NATIVE",
        "REGISTRY_POLICY_SCOPE" => "V2",
        _ => return Err(Exception::parameter("name", "Unknown account setting")),
    };
    Ok(json!({ "name": name, "value": value }))
}
