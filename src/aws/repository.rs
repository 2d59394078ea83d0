//! Repositories: making one that is missing, and what one says of its tags.

use std::fmt;

use aws_sdk_ecr::types as ecr;

use super::failure::AwsMeaning;
use super::host::EcrRegistry;
use super::session::{AwsError, AwsSession};

/// How a repository is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewRepository {
    /// Its tags can't be moved.
    pub immutable: bool,
    /// Its images are scanned when they are pushed.
    pub scan_on_push: bool,
    /// The KMS key that it is encrypted with, instead of S3's own.
    pub kms_key: Option<String>,
    /// The AWS tags that it gets.
    pub tags: Vec<(String, String)>,
}

/// Makes the repository `name`; one that somebody else has made meanwhile is as good. Says whether it was made now.
///
/// # Errors
/// When AWS refuses, or can't be asked.
pub async fn create(session: &AwsSession, name: &str, new: &NewRepository) -> Result<bool, AwsError> {
    let created = match session.registry() {
        EcrRegistry::Private(host) => create_private(session, &host.account, name, new).await,
        EcrRegistry::Public => create_public(session, name, new).await,
    };
    match created {
        Ok(()) => Ok(true),
        Err(error) if error.meaning() == Some(AwsMeaning::RepositoryExists) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn create_private(session: &AwsSession, account: &str, name: &str, new: &NewRepository) -> Result<(), AwsError> {
    let mutability = if new.immutable { ecr::ImageTagMutability::Immutable } else { ecr::ImageTagMutability::Mutable };
    let scanning = ecr::ImageScanningConfiguration::builder().scan_on_push(new.scan_on_push).build();
    // `aws/ecr` is AWS's own key, which is asked for by naming none.
    let key = new.kms_key.as_ref().map(|key| Some(key.clone()).filter(|key| !is_awss_own(key)));
    let encryption = key.and_then(|key| {
        let builder = ecr::EncryptionConfiguration::builder().encryption_type(ecr::EncryptionType::Kms);
        builder.set_kms_key(key).build().ok()
    });
    let tags = new.tags.iter().filter_map(|(key, value)| ecr::Tag::builder().key(key).value(value).build().ok());
    let tags: Vec<ecr::Tag> = tags.collect();
    let asking = session.ask("ecr:CreateRepository", || async {
        let request = session.ecr().await?.create_repository().registry_id(account).repository_name(name);
        let request = request
            .image_tag_mutability(mutability.clone())
            .image_scanning_configuration(scanning.clone())
            .set_encryption_configuration(encryption.clone())
            .set_tags(Some(tags.clone()).filter(|tags| !tags.is_empty()));
        Ok(request.send().await)
    });
    asking.await.map(drop)
}

fn is_awss_own(key: &str) -> bool {
    matches!(key, "aws/ecr" | "alias/aws/ecr")
}

async fn create_public(session: &AwsSession, name: &str, new: &NewRepository) -> Result<(), AwsError> {
    let name = session.registry().own_name(name);
    let tag = |(key, value): &(String, String)| aws_sdk_ecrpublic::types::Tag::builder().key(key).value(value).build();
    let tags: Vec<_> = new.tags.iter().map(tag).collect();
    let asking = session.ask("ecr-public:CreateRepository", || async {
        let request = session.public().await?.create_repository().repository_name(name);
        Ok(request.set_tags(Some(tags.clone()).filter(|tags| !tags.is_empty())).send().await)
    });
    asking.await.map(drop)
}

/// Which tags of a repository can't be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mutability {
    /// None but those that match a filter.
    Mutable(Vec<String>),
    /// All but those that match a filter.
    Immutable(Vec<String>),
}

impl Mutability {
    /// Whether `tag` can't be moved.
    #[must_use]
    pub fn is_immutable(&self, tag: &str) -> bool {
        let matched = |filters: &[String]| filters.iter().any(|filter| matches(filter, tag));
        match self {
            Self::Mutable(filters) => matched(filters),
            Self::Immutable(filters) => !matched(filters),
        }
    }
}

impl fmt::Display for Mutability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, filters) = match self {
            Self::Mutable(filters) => ("mutable", filters),
            Self::Immutable(filters) => ("immutable", filters),
        };
        f.write_str(word)?;
        if filters.is_empty() { Ok(()) } else { write!(f, " but for {}", filters.join(", ")) }
    }
}

/// Whether `tag` matches `filter`, in which `*` stands for any characters.
fn matches(filter: &str, tag: &str) -> bool {
    let mut parts = filter.split('*');
    let Some(mut rest) = parts.next().and_then(|first| tag.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// What a repository is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositorySettings {
    /// Which of its tags can't be moved.
    pub mutability: Mutability,
    /// Whether its images are scanned when they are pushed.
    pub scan_on_push: bool,
    /// The KMS key that it is encrypted with, if it is one of KMS's.
    pub kms_key: Option<String>,
}

/// What the private repository `name` is set to. Needs `ecr:DescribeRepositories`, which a push doesn't; `None` on ECR Public.
///
/// # Errors
/// When AWS refuses, or can't be asked.
pub async fn describe(session: &AwsSession, name: &str) -> Result<Option<RepositorySettings>, AwsError> {
    let EcrRegistry::Private(host) = session.registry() else { return Ok(None) };
    let asking = session.ask("ecr:DescribeRepositories", || async {
        let request = session.ecr().await?.describe_repositories().registry_id(&host.account);
        Ok(request.repository_names(name).send().await)
    });
    let described = asking.await?.repositories.unwrap_or_default();
    Ok(described.first().map(settings))
}

/// Whether a push would make the private repository `name`, because a creation template says so (facts/ecr.md, Uploading a
/// blob). Needs `ecr:DescribeRepositoryCreationTemplates`, which a push doesn't.
///
/// # Errors
/// When AWS refuses, or can't be asked.
pub async fn is_created_by_push(session: &AwsSession, name: &str) -> Result<bool, AwsError> {
    if *session.registry() == EcrRegistry::Public {
        return Ok(false);
    }
    let mut next: Option<String> = None;
    // The template with the longest prefix counts, and ROOT is for what no other one is for.
    let mut best: Option<(usize, bool)> = None;
    loop {
        let asking = session.ask("ecr:DescribeRepositoryCreationTemplates", || async {
            let request = session.ecr().await?.describe_repository_creation_templates();
            Ok(request.set_next_token(next.clone()).send().await)
        });
        let page = asking.await?;
        for template in page.repository_creation_templates.unwrap_or_default() {
            let prefix = template.prefix().unwrap_or_default();
            let length = if prefix == "ROOT" { 0 } else { prefix.len() };
            let applies = length == 0 || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
            if applies && best.is_none_or(|(longest, _)| length >= longest) {
                best = Some((length, template.applied_for().contains(&ecr::RctAppliedFor::CreateOnPush)));
            }
        }
        next = page.next_token.filter(|token| !token.is_empty());
        if next.is_none() {
            return Ok(best.is_some_and(|(_, on_push)| on_push));
        }
    }
}

fn settings(repository: &ecr::Repository) -> RepositorySettings {
    let filters = repository.image_tag_mutability_exclusion_filters();
    let filters: Vec<String> = filters.iter().map(|filter| filter.filter().to_owned()).collect();
    let mutability = match repository.image_tag_mutability() {
        Some(ecr::ImageTagMutability::Immutable) => Mutability::Immutable(Vec::new()),
        Some(ecr::ImageTagMutability::ImmutableWithExclusion) => Mutability::Immutable(filters),
        Some(ecr::ImageTagMutability::MutableWithExclusion) => Mutability::Mutable(filters),
        _ => Mutability::Mutable(Vec::new()),
    };
    let encryption = repository.encryption_configuration();
    RepositorySettings {
        mutability,
        scan_on_push: repository.image_scanning_configuration().is_some_and(|scanning| scanning.scan_on_push),
        kms_key: encryption.and_then(|encryption| encryption.kms_key().map(str::to_owned)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let check = |filter: &str, tag: &str, expected| assert_eq!(matches(filter, tag), expected, "{filter} {tag}");
        check("latest", "latest", true);
        check("latest", "latest2", false);
        check("latest*", "latest2", true);
        check("*", "x", true);
        check("*-rc", "v1-rc", true);
        check("*-rc", "v1-rc2", false);
        check("v*-*c", "v1-rc", true);
        check("a*a", "a", false);
        check("a*b*c", "a1c2b3c", true);
        check("a*b*c", "a1c2c", false);
    }

    #[test]
    fn modes() {
        let filters = || vec!["dev-*".to_owned()];
        let check = |mutability: &Mutability, tag: &str, expected| {
            assert_eq!(mutability.is_immutable(tag), expected, "{mutability:?} {tag}");
        };
        check(&Mutability::Mutable(Vec::new()), "v1", false);
        check(&Mutability::Immutable(Vec::new()), "v1", true);
        check(&Mutability::Mutable(filters()), "dev-1", true);
        check(&Mutability::Mutable(filters()), "v1", false);
        check(&Mutability::Immutable(filters()), "dev-1", false);
        check(&Mutability::Immutable(filters()), "v1", true);
    }
}
