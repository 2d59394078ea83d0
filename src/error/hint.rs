//! What to do next about an error: the part that has nothing to do with AWS.

use std::io::ErrorKind;

use super::advice;
use crate::auth::AuthError;
use crate::cleanup::CleanupError;
use crate::oci::manifest::ManifestError;
use crate::push::PushError;
use crate::push::reader::ReadError;
use crate::push::streams::MakeError;
use crate::push::upload::UploadError;
use crate::registry::failure::{Network, Oddity, RegistryError};
use crate::scan::ScanError;
use crate::source::SourceError;
use crate::source::engine::EngineError;
use crate::source::folder::FileError;
use crate::source::layout::LayoutError;
use crate::source::platforms::PlatformError;
use crate::source::walk::Defect;

pub(super) fn source_hint(error: &SourceError) -> String {
    match error {
        SourceError::Foreign { prefix: "containers-storage", name } => {
            format!("write it out first: podman save --format oci-dir -o DIR {name}, then ecr-push DIR DESTINATION")
        }
        SourceError::Foreign { name, .. } => {
            format!(
                "write it out first: ctr image export FILE {name} && mkdir DIR && tar -xf FILE -C DIR, then ecr-push DIR \
                 DESTINATION"
            )
        }
        SourceError::Missing { .. } => {
            "SOURCE is a folder with `oci-layout` and `index.json`, an OCI or `docker save` archive, \
             `-` for one from standard input, or docker-daemon:NAME for an engine's image"
                .to_owned()
        }
        SourceError::EmptyChoice { .. } | SourceError::Digest(_) => {
            "choose an image with SOURCE:NAME or SOURCE@sha256:DIGEST".to_owned()
        }
    }
}

pub(super) fn layout_hint(error: &LayoutError) -> Option<String> {
    match error {
        LayoutError::NotAFolder { path } => Some(format!(
            "this version reads folders; an OCI archive is unpacked with `mkdir DIR && tar -xf {} -C DIR`",
            path.display()
        )),
        LayoutError::NoneChosen { .. } | LayoutError::NoSuchImage { .. } => {
            Some("choose one of these by writing what stands there behind SOURCE".to_owned())
        }
        LayoutError::AmbiguousName { .. } => Some("choose one of these by its digest".to_owned()),
        LayoutError::Platform(PlatformError::Missing { .. }) => Some("ask for one of these".to_owned()),
        LayoutError::Platform(PlatformError::Ambiguous { .. }) => {
            Some("name the variant as well; where several have the same, push the image as it is".to_owned())
        }
        LayoutError::Defects { defects, .. } => Some(defects_hint(defects)),
        LayoutError::NoLayout { .. }
        | LayoutError::Unreadable { .. }
        | LayoutError::Locked { .. }
        | LayoutError::Malformed { .. }
        | LayoutError::Tar(_)
        | LayoutError::Version { .. }
        | LayoutError::IndexTooLarge { .. }
        | LayoutError::Empty { .. } => None,
    }
}

fn defects_hint(defects: &[Defect]) -> String {
    let is = |wanted: fn(&Defect) -> bool| defects.iter().any(wanted);
    if is(|defect| matches!(defect, Defect::File(FileError::Outside { .. }))) {
        "--follow-symlinks allows blobs that are symbolic links out of the layout"
    } else if is(|defect| matches!(defect, Defect::Manifest { source: ManifestError::UnknownMediaType { .. }, .. })) {
        "ecr-push knows OCI and Docker schema 2 manifests and indexes; nothing was sent"
    } else {
        "nothing was sent; build or copy the image again"
    }
    .to_owned()
}

pub(super) fn push_hint(error: &PushError) -> Option<String> {
    match error {
        PushError::Registry(error) => registry_hint(error),
        PushError::Upload(failure) => upload_hint(failure),
        PushError::Uploads { failures } => failures.iter().find_map(upload_hint),
        PushError::Create { source, .. } | PushError::Layers { source, .. } => advice::aws(source),
        PushError::TooLarge { .. } => Some("nothing was sent; build the layer as several smaller ones".to_owned()),
        PushError::TagImmutable { .. } => Some(advice::IMMUTABLE.to_owned()),
        PushError::TagMoved { .. } => Some("SOURCE was kept; find out who else writes this tag".to_owned()),
        PushError::NotThere { .. } => Some("SOURCE was kept; push again".to_owned()),
    }
}

pub(super) fn scan_hint(error: &ScanError) -> Option<String> {
    match error {
        ScanError::Aws { source, .. } => advice::aws(source).map(|advice| format!("the image was pushed; {advice}")),
        ScanError::Off { .. } => Some(
            "the image was pushed; let the repository scan what is pushed (aws ecr put-image-scanning-configuration, or --repository-scan-on-push \
             when ecr-push makes it), let the identity start scans (ecr:StartImageScan), or leave --wait-for-scan out"
                .to_owned(),
        ),
        ScanError::Slow { .. } => Some("the image was pushed; --scan-timeout SECONDS waits longer".to_owned()),
        ScanError::Unsupported { .. } => {
            Some("the image was pushed; leave --wait-for-scan out for images that ECR can't scan".to_owned())
        }
        ScanError::Failed { .. } => {
            Some("the image was pushed; ask for another scan in a while (one in 24 hours is free)".to_owned())
        }
        ScanError::Found { .. } => Some("the image was pushed, and SOURCE is kept; mend what was found".to_owned()),
    }
}

fn upload_hint(error: &UploadError) -> Option<String> {
    match error {
        UploadError::Read(error) => match &**error {
            ReadError::Corrupt(_) => Some("this destination got no tag; build or copy the image again".to_owned()),
            ReadError::Unreadable { .. } | ReadError::Died(_) => None,
        },
        UploadError::Make(error) => match &**error {
            MakeError::Content { .. } | MakeError::NotExported { .. } => {
                Some("this destination got no tag; build or save the image again".to_owned())
            }
            MakeError::Packing { .. } => Some("layers are plain tars, or compressed with gzip or zstd".to_owned()),
            MakeError::Record { .. } => Some("push again with --no-cache".to_owned()),
            MakeError::Unreadable { .. } | MakeError::Engine { .. } | MakeError::Died { .. } => None,
        },
        UploadError::Registry { source, .. } => registry_hint(source),
    }
}

pub(super) fn registry_hint(error: &RegistryError) -> Option<String> {
    match error {
        RegistryError::Answered(answer) => Some(advice::registry_answer(answer)),
        RegistryError::Unreachable { method, network, ecr, .. } => match network {
            Network::Name if *ecr => Some(
                "look at the spelling of the host, of the region in it above all; else at DNS, and at the VPC endpoint \
                 `ecr.dkr`"
                    .to_owned(),
            ),
            Network::Name => Some("look at the spelling of the host; else at DNS".to_owned()),
            Network::NotTls => Some("it may speak http: --plain-http, or http:// in --registry-endpoint".to_owned()),
            Network::Tls => Some(advice::AUTHORITY.to_owned()),
            Network::Closed if *ecr && *method == "POST" => Some(
                "ECR closes the connection without a word where the repository, or the right ecr:InitiateLayerUpload on it, is \
                 missing"
                    .to_owned(),
            ),
            Network::Closed => Some("does a proxy or a firewall cut it? Try again, or raise --retries".to_owned()),
            Network::Timeout => Some("--timeout SECONDS allows for a slower registry".to_owned()),
            Network::Connect => Some(
                "is the registry reachable from here (proxy, VPC endpoint `ecr.dkr`, --registry-endpoint)?".to_owned(),
            ),
        },
        RegistryError::Shut { action, resource, .. } => Some(format!(
            "the identity needs {action} on {resource}: ECR refuses an upload in this way, too; else a proxy in between lets no POST \
             pass"
        )),
        RegistryError::Stalled { .. } => Some("--timeout SECONDS allows for a slower line".to_owned()),
        RegistryError::Auth(error) => auth_hint(error),
        RegistryError::Persistent { last, .. } => registry_hint(last),
        RegistryError::Odd { oddity, .. } => Some(match oddity {
            Oddity::OtherDigest { .. } => {
                "something between here and the registry changes what is sent: look at the proxy".to_owned()
            }
            Oddity::NoLocation
            | Oddity::InsecureLocation
            | Oddity::NoPlace
            | Oddity::Page
            | Oddity::Redirects
            | Oddity::Body
            | Oddity::Early => advice::IMPOSTOR.to_owned(),
        }),
        RegistryError::Client(_) => None,
    }
}

pub(super) fn cleanup_hint(error: &CleanupError) -> String {
    let what = match error {
        CleanupError::Withheld { .. } => "remove it by hand if these layers may go",
        CleanupError::Kept { source, .. }
            if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) =>
        {
            "make a little room first: the new index has to be written before anything can go"
        }
        CleanupError::Left { .. } | CleanupError::Kept { .. } => {
            "remove what is named by hand, or mend that and clean again (`ecr-push clean`)"
        }
        CleanupError::EngineInterrupted { .. } => "remove what is left by hand: `docker rmi`",
        CleanupError::Engine { source, .. } => match &**source {
            EngineError::InUse { .. } => "remove the container, then the image: `docker rm`, `docker rmi`",
            _ => "remove it by hand: `docker rmi`",
        },
        CleanupError::NoFile { .. } | CleanupError::HoldsMore { .. } => "remove it by hand if it may go",
        CleanupError::Interrupted { .. } | CleanupError::Unfinished { .. } => {
            "the next clean-up of it goes on where this one ended (`ecr-push clean`)"
        }
        CleanupError::Changed { .. } => "look at what it is now before you remove it",
        CleanupError::NameGiven { .. } => "somebody else uses this name",
        CleanupError::Unnamed { .. } => "remove it by hand (`docker rmi`), or give SOURCE by its name",
        CleanupError::Layout(_)
        | CleanupError::NameMoved { .. }
        | CleanupError::Unclear { .. }
        | CleanupError::Locked { .. }
        | CleanupError::Busy { .. } => "look at the layout before you remove it",
    };
    what.to_owned()
}

pub(super) fn auth_hint(error: &AuthError) -> Option<String> {
    match error {
        AuthError::Token(error) => advice::token(error),
        AuthError::Config { .. } | AuthError::Unreadable { .. } => {
            Some("mend it, or name another with DOCKER_CONFIG or REGISTRY_AUTH_FILE".to_owned())
        }
        AuthError::Helper { helper, server, .. } => {
            Some(format!("is {helper} in PATH? Try it by hand: echo {server} | {helper} get"))
        }
        AuthError::Realm { .. } if error.is_transient() => Some("try again later".to_owned()),
        AuthError::Realm { host, .. } => Some(format!("log in again: docker login {host}")),
        AuthError::RealmForeign { .. } => Some(advice::IMPOSTOR.to_owned()),
        AuthError::Slow { .. } => Some("is it waiting for somebody? --timeout SECONDS waits longer".to_owned()),
        AuthError::RealmUnreachable { .. } => {
            Some(format!("is that reachable from here (DNS, proxy)? {}", advice::AUTHORITY))
        }
        AuthError::RealmInsecure { .. } => Some(
            "a password does not go there in the clear: the registry's owner has to name a place with https".to_owned(),
        ),
    }
}
