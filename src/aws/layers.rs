//! Layers: which blobs a repository has, asked of the API, many at once.
//!
//! Says what is there and what AWS answers; what to do where it can't be asked is the push's business.

use std::collections::HashSet;

use aws_sdk_ecr::types::LayerAvailability;
use aws_sdk_ecrpublic::types::LayerAvailability as PublicAvailability;

use super::host::EcrRegistry;
use super::session::{AwsError, AwsSession};
use crate::oci::digest::Digest;

/// Digests that one request may name (facts/ecr.md, Speed).
pub const MOST: usize = 100;

/// Which of `digests`, [`MOST`] of them at the most, the repository of that name has. Needs `BatchCheckLayerAvailability`,
/// as a HEAD of each does.
///
/// What has been archived is not there (facts/ecr.md, Speed), and neither is what AWS says anything else of.
///
/// # Errors
/// When AWS refuses, can't be asked, or doesn't know the repository.
pub async fn available<'a>(
    session: &AwsSession,
    repository: &str,
    digests: &[&'a Digest],
) -> Result<HashSet<&'a Digest>, AwsError> {
    let named = || Some(digests.iter().map(ToString::to_string).collect());
    let there: HashSet<String> = match session.registry() {
        EcrRegistry::Private(host) => {
            let asking = session.ask("ecr:BatchCheckLayerAvailability", || async {
                let request = session.ecr().await?.batch_check_layer_availability().registry_id(&host.account);
                Ok(request.repository_name(repository).set_layer_digests(named()).send().await)
            });
            let layers = asking.await?.layers.unwrap_or_default().into_iter();
            let there = layers.filter(|layer| layer.layer_availability == Some(LayerAvailability::Available));
            there.filter_map(|layer| layer.layer_digest).collect()
        }
        EcrRegistry::Public => {
            let (alias, name) = (session.registry().alias(repository), session.registry().own_name(repository));
            let asking = session.ask("ecr-public:BatchCheckLayerAvailability", || async {
                let request = session.public().await?.batch_check_layer_availability();
                // The caller's own registry otherwise, whose alias may be another one.
                let request = request.set_registry_id(alias.map(str::to_owned)).repository_name(name);
                Ok(request.set_layer_digests(named()).send().await)
            });
            let layers = asking.await?.layers.unwrap_or_default().into_iter();
            let there = layers.filter(|layer| layer.layer_availability == Some(PublicAvailability::Available));
            there.filter_map(|layer| layer.layer_digest).collect()
        }
    };
    Ok(digests.iter().copied().filter(|digest| there.contains(digest.as_str())).collect())
}
