//! `PutImage`, `BatchGetImage`, `DescribeImages`, `ListImages`: the API's forms of what the registry does.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::Outcome;
use super::request::{Exception, Request, text, with_next};
use crate::config::RegistryId;
use crate::digest::Digest;
use crate::images::{self, MANIFEST_LIMIT, Misplaced, NewImage, TAG_FORM, Unfound, find, is_tag};
use crate::state::{Manifest, Repository};

/// Images that may be asked for at once.
const MOST: usize = 100;

/// Puts an image.
pub(super) fn put(request: &Request) -> Outcome {
    let (registry, repository) = request.place()?;
    let manifest = request.text("imageManifest")?.unwrap_or_default();
    if manifest.is_empty() || manifest.len() > MANIFEST_LIMIT {
        let constraint = format!("Member must have length between 1 and {MANIFEST_LIMIT}");
        return Err(Exception::parameter("imageManifest", &constraint));
    }
    // Without a media type the manifest's own counts.
    let parsed: Value = serde_json::from_str(manifest).unwrap_or_default();
    let media_type = request.text("imageManifestMediaType")?.or_else(|| parsed["mediaType"].as_str());
    let media_type = media_type.unwrap_or_default();
    let (tag, digest) = (request.text("imageTag")?, request.text("imageDigest")?);
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(Exception::new("InvalidParameterException", TAG_FORM));
    }
    let bytes = Bytes::copy_from_slice(manifest.as_bytes());
    let placed = images::put(request.shared, &registry, repository, NewImage { media_type, bytes, tag, digest });
    let placed = placed.map_err(|misplaced| exception(misplaced, &registry, repository))?;
    let tagged = tag.map_or_else(String::new, |tag| format!(" and tag '{tag}'"));
    if !placed.new {
        let message = format!(
            "Image with digest '{}'{tagged} already exists in the repository with name '{repository}' in registry with id '{}'",
            placed.digest, registry.account,
        );
        return Err(Exception::new("ImageAlreadyExistsException", message));
    }
    let id = identifier(Some(placed.digest.as_str()), tag);
    Ok(json!({ "image": image(&registry, repository, &id, manifest, media_type) }))
}

/// Gives images by digest or tag, and says of each that can't be given why.
pub(super) fn get(request: &Request) -> Outcome {
    let (registry, repository) = request.place()?;
    let ids = ids(request)?;
    if ids.is_empty() {
        return Err(Exception::parameter("imageIds", "Member must have length between 1 and 100"));
    }
    request.within(&registry, repository, |held| {
        let mut images = Vec::new();
        let mut failures = Vec::new();
        for id in ids {
            match id.find(request, held) {
                Ok((digest, manifest)) => {
                    let text = String::from_utf8_lossy(&manifest.bytes);
                    let id = identifier(Some(digest.as_str()), id.tag);
                    images.push(image(&registry, repository, &id, &text, &manifest.media_type));
                }
                Err((code, reason)) => failures.push(json!({
                    "imageId": identifier(id.digest, id.tag), "failureCode": code, "failureReason": reason,
                })),
            }
        }
        json!({ "images": images, "failures": failures })
    })
}

/// Says of images what there is beside their bytes.
pub(super) fn describe(request: &Request) -> Outcome {
    let (registry, repository) = request.place()?;
    let ids = ids(request)?;
    let wanted = TagFilter::read(request)?;
    let details = request.within(&registry, repository, |held| {
        if ids.is_empty() {
            let all = held.manifests.iter().filter(|(digest, _)| wanted.takes(&tags_of(held, digest)));
            return Ok(all.map(|(digest, manifest)| detail(&registry, repository, held, digest, manifest)).collect());
        }
        let one = |id: &ImageId| {
            let found = held.resolve(id.reference()).and_then(|digest| held.manifests.get_key_value(digest));
            let (digest, manifest) = found.ok_or_else(|| not_found(id, &registry, repository))?;
            Ok(detail(&registry, repository, held, digest, manifest))
        };
        ids.iter().map(one).collect::<Result<Vec<_>, Exception>>()
    })??;
    let (page, next) = request.page(details, 100)?;
    Ok(with_next(json!({ "imageDetails": page }), next))
}

/// Lists images, once for each tag.
pub(super) fn list(request: &Request) -> Outcome {
    let (registry, repository) = request.place()?;
    let wanted = TagFilter::read(request)?;
    let ids = request.within(&registry, repository, |held| {
        let ids = held.manifests.keys().flat_map(|digest| {
            let tags = tags_of(held, digest);
            let digest = Some(digest.as_str());
            match tags.as_slice() {
                _ if !wanted.takes(&tags) => Vec::new(),
                [] => vec![identifier(digest, None)],
                tags => tags.iter().map(|tag| identifier(digest, Some(tag))).collect(),
            }
        });
        ids.collect::<Vec<_>>()
    })?;
    let (page, next) = request.page(ids, 100)?;
    Ok(with_next(json!({ "imageIds": page }), next))
}

/// An image that a request names.
pub(super) struct ImageId<'a> {
    digest: Option<&'a str>,
    tag: Option<&'a str>,
}

impl<'a> ImageId<'a> {
    /// Reads an `imageId`, which must have a digest or a tag.
    pub(super) fn read(fields: &'a Map<String, Value>) -> Result<Self, Exception> {
        Ok(Self { digest: text(fields, "imageDigest")?, tag: text(fields, "imageTag")? })
    }

    /// The digest, or else the tag.
    pub(super) fn reference(&self) -> &'a str {
        self.digest.or(self.tag).unwrap_or_default()
    }

    /// The image, or code and reason of a failure.
    fn find<'b>(
        &self,
        request: &Request,
        held: &'b Repository,
    ) -> Result<(&'b Digest, &'b Manifest), (&'static str, &'static str)> {
        match (self.digest, self.tag) {
            (None, None) => {
                return Err(("MissingDigestAndTag", "Invalid request parameters: both tag and digest cannot be null"));
            }
            (Some(digest), _) if Digest::parse(digest).is_none() => {
                return Err(("InvalidImageDigest", "Invalid request parameters: image digest is not valid"));
            }
            (None, Some(tag)) if !is_tag(tag) => {
                return Err(("InvalidImageTag", "Invalid request parameters: image tag is not valid"));
            }
            (Some(digest), Some(tag)) if held.tags.get(tag).is_none_or(|under| under.as_str() != digest) => {
                return Err(("ImageTagDoesNotMatchDigest", "Requested image tag does not match the digest"));
            }
            _ => (),
        }
        find(held, self.reference(), &request.shared.config).map_err(|unfound| match unfound {
            Unfound::Missing => ("ImageNotFound", "Requested image not found"),
            Unfound::Archived => ("ImageInaccessible", "Requested image has been archived"),
        })
    }
}

/// The exception for an image that isn't there.
pub(super) fn not_found(id: &ImageId, registry: &RegistryId, repository: &str) -> Exception {
    let shown = |part: Option<&str>| part.unwrap_or("null").to_owned();
    let message = format!(
        "The image with imageId {{imageDigest:'{}', imageTag:'{}'}} does not exist within the repository with name '{repository}' in the registry with id '{}'",
        shown(id.digest),
        shown(id.tag),
        registry.account,
    );
    Exception::new("ImageNotFoundException", message)
}

fn ids<'a>(request: &'a Request) -> Result<Vec<ImageId<'a>>, Exception> {
    let given = request.list("imageIds")?;
    if given.len() > MOST {
        return Err(Exception::parameter("imageIds", "Member must have length between 1 and 100"));
    }
    let wrong = || Exception::new("SerializationException", "imageIds is not a list of images");
    given.iter().map(|id| ImageId::read(id.as_object().ok_or_else(wrong)?)).collect()
}

/// Which images are wanted by their tags.
enum TagFilter {
    Any,
    Tagged,
    Untagged,
}

impl TagFilter {
    fn read(request: &Request) -> Result<Self, Exception> {
        let Some(filter) = request.input.get("filter").and_then(Value::as_object) else {
            return Ok(Self::Any);
        };
        match text(filter, "tagStatus")? {
            None | Some("ANY") => Ok(Self::Any),
            Some("TAGGED") => Ok(Self::Tagged),
            Some("UNTAGGED") => Ok(Self::Untagged),
            Some(_) => Err(Exception::parameter(
                "filter.tagStatus",
                "Member must satisfy enum value set: [TAGGED, UNTAGGED, ANY]",
            )),
        }
    }

    fn takes(&self, tags: &[&str]) -> bool {
        match self {
            Self::Any => true,
            Self::Tagged => !tags.is_empty(),
            Self::Untagged => tags.is_empty(),
        }
    }
}

fn tags_of<'a>(held: &'a Repository, digest: &Digest) -> Vec<&'a str> {
    held.tags.iter().filter(|(_, under)| *under == digest).map(|(tag, _)| tag.as_str()).collect()
}

fn detail(registry: &RegistryId, repository: &str, held: &Repository, digest: &Digest, manifest: &Manifest) -> Value {
    let blobs = manifest.document.blobs.iter();
    let size: u64 = blobs.filter_map(|digest| held.blobs.get(digest)).map(|blob| blob.size).sum();
    let mut detail = json!({
        "registryId": registry.account,
        "repositoryName": repository,
        "imageDigest": digest.as_str(),
        "imageSizeInBytes": size,
        "imagePushedAt": manifest.pushed,
        "imageManifestMediaType": manifest.media_type,
        "imageStatus": if manifest.archived { "ARCHIVED" } else { "ACTIVE" },
    });
    let tags = tags_of(held, digest);
    if !tags.is_empty() {
        detail["imageTags"] = json!(tags);
    }
    if let Some(artifact_type) = &manifest.document.artifact_type {
        detail["artifactMediaType"] = artifact_type.as_str().into();
    }
    if let Some(subject) = &manifest.document.subject {
        detail["subjectManifestDigest"] = subject.as_str().into();
    }
    detail
}

fn image(registry: &RegistryId, repository: &str, id: &Value, manifest: &str, media_type: &str) -> Value {
    json!({
        "registryId": registry.account,
        "repositoryName": repository,
        "imageId": id,
        "imageManifest": manifest,
        "imageManifestMediaType": media_type,
    })
}

/// An `imageId`, with what is known of it.
pub(super) fn identifier(digest: Option<&str>, tag: Option<&str>) -> Value {
    let parts = [("imageDigest", digest), ("imageTag", tag)];
    let known = parts.into_iter().filter_map(|(name, part)| Some((name.to_owned(), Value::from(part?))));
    Value::Object(known.collect())
}

/// The API's words for why an image can't be put.
fn exception(misplaced: Misplaced, registry: &RegistryId, repository: &str) -> Exception {
    let account = &registry.account;
    let lacking = |what: &str, digests: &[Digest]| {
        let digests: Vec<_> = digests.iter().map(Digest::as_str).collect();
        format!(
            "{what} with digests '[{}]' required for pushing image into repository with name '{repository}' in the registry with id '{account}' do not exist",
            digests.join(", "),
        )
    };
    match misplaced {
        Misplaced::RepositoryMissing => super::request::missing(registry, repository),
        Misplaced::Syntax => Exception::parameter("imageManifest", "Invalid JSON syntax"),
        Misplaced::MediaType => Exception::parameter("imageManifestMediaType", "Does not match the manifest"),
        Misplaced::Digest(digest) => Exception::new(
            "ImageDigestDoesNotMatchException",
            format!("The specified image digest '{digest}' does not match the digest of the manifest"),
        ),
        Misplaced::TooManyLayers => {
            Exception::parameter("imageManifest", "Limit on number of layers per image exceeded")
        }
        Misplaced::Children(digests) => {
            Exception::new("ReferencedImagesNotFoundException", lacking("Images", &digests))
        }
        Misplaced::Layers(digests) => Exception::new("LayersNotFoundException", lacking("Layers", &digests)),
        Misplaced::Immutable(tag) => Exception::new(
            "ImageTagAlreadyExistsException",
            format!(
                "The image tag '{tag}' already exists in the '{repository}' repository and cannot be overwritten because the tag is immutable."
            ),
        ),
        Misplaced::TooManyTags => {
            Exception::new("LimitExceededException", "Limit on number of tags per image exceeded")
        }
        Misplaced::Archived => {
            Exception::new("InvalidParameterException", "The image has been archived. Restore it before it is used.")
        }
        Misplaced::Key(failure) => Exception::new("KmsException", failure),
    }
}
