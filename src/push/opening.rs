//! Opens an upload session, and explains why ECR doesn't.

use std::sync::Arc;
use std::time::Duration;

use super::sessions::{Opened, Sessions};
use crate::aws::host::EcrRegistry;
use crate::event::{Event, Reporter};
use crate::oci::reference::Repository;
use crate::registry::failure::{Network, RegistryError};
use crate::registry::{Mount, Registry};

/// Opens a session in `repository`, unless what is to be mounted is there; `reference` is a manifest that may be asked for
/// there.
///
/// ECR may just close the connection where the repository or the right is missing (facts/ecr.md, Uploading a blob): a GET is
/// answered with the reason, or else shows that the line is good; a registry that closes the next attempt, too, is not tried
/// again and again.
///
/// # Errors
/// As [`Sessions::open`].
pub(crate) async fn open(
    sessions: &Sessions,
    registry: &Arc<Registry>,
    repository: &Repository,
    reference: &str,
    mount: Option<&Mount>,
    reporter: &dyn Reporter,
) -> Result<Opened, RegistryError> {
    let name = &repository.name;
    let open = async || sessions.open(registry.clone(), name, mount.cloned()).await;
    let closed = match open().await {
        Err(error @ RegistryError::Unreachable { network: Network::Closed, ecr: true, .. }) => error,
        opened => return opened,
    };
    let asking = async || registry.get_manifest(name, reference).await;
    match asking().await {
        Err(reason @ RegistryError::Answered(_)) if !reason.is_transient() => return Err(reason),
        Err(_) => return Err(closed),
        Ok(_) => {}
    }
    let what = format!("{repository}: upload session");
    reporter.report(&Event::Waiting { what, why: closed.brief(), wait: Duration::ZERO });
    match open().await {
        Err(RegistryError::Unreachable { method, url, network: Network::Closed, .. }) if asking().await.is_ok() => {
            let ecr = EcrRegistry::of(&repository.host);
            let (service, resource) = ecr.map_or(("ecr", repository.to_string()), |ecr| (ecr.service(), ecr.arn(name)));
            Err(RegistryError::Shut { method, url, action: format!("{service}:InitiateLayerUpload"), resource })
        }
        opened => opened,
    }
}
