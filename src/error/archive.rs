//! Exit statuses of, and what to do next about, a file that should be an archive of images.

use super::status;
use crate::source::archive::{ArchiveError, Foreign};
use crate::source::docker::DockerError;
use crate::source::spool::SpoolError;
use crate::source::tar::Flaw;

pub(super) fn hint(error: &ArchiveError) -> Option<String> {
    let hint = match error {
        ArchiveError::Terminal => {
            "write the archive there: docker save app | ecr-push - DESTINATION, or ecr-push - DESTINATION < FILE"
        }
        ArchiveError::Empty { .. } => "did the command that writes it fail? In a shell, `set -o pipefail` stops there",
        ArchiveError::Foreign { path, what } => return foreign(&path.to_string_lossy(), *what),
        ArchiveError::Spool { source, .. } => return spool(source),
        ArchiveError::Tar(error) => match error.flaw {
            Flaw::CutInHeader { .. } | Flaw::CutInData { .. } | Flaw::Checksum => {
                "the file is damaged or was not written to its end: write it again"
            }
            Flaw::Sparse => "write the archive without --sparse",
            _ => return None,
        },
        ArchiveError::Filesystem { .. } => {
            "`docker export` writes a container's files; `docker save IMAGE` writes an image (`docker commit` makes one of \
             a container)"
        }
        ArchiveError::Old { .. } => "load it into a newer docker and save it again: docker load -i FILE, docker save",
        ArchiveError::Nested { folder, .. } => {
            return Some(format!("pack what is in the folder, not the folder: tar -C {folder} -cf FILE ."));
        }
        ArchiveError::NoImage { .. } => {
            "an archive of an image is what `docker save`, `podman save`, `skopeo copy … oci-archive:FILE` or `docker buildx \
             build -o type=oci,dest=FILE` write"
        }
        ArchiveError::NotSaid { .. } => "leave the prefix out, and the content tells what it is",
        ArchiveError::Unreadable { .. } | ArchiveError::NotAFile { .. } => return None,
    };
    Some(hint.to_owned())
}

fn foreign(path: &str, what: Foreign) -> Option<String> {
    let hint = match what {
        Foreign::Xz => format!("unpack it on the way: xz -dc {path} | ecr-push - DESTINATION"),
        Foreign::Bzip2 => format!("unpack it on the way: bzip2 -dc {path} | ecr-push - DESTINATION"),
        Foreign::Lz4 => format!("unpack it on the way: lz4 -dc {path} | ecr-push - DESTINATION"),
        Foreign::Zip => "an image's archive is a tar, plain or packed with gzip or zstd".to_owned(),
        Foreign::Page => "whatever fetched it was sent a page instead of the file: look into it".to_owned(),
        Foreign::Dockerfile => {
            "ecr-push pushes what was built: docker buildx build -o type=oci,dest=- . | ecr-push - DESTINATION"
                .to_owned()
        }
        Foreign::Json | Foreign::Text => "look into it: it may say what went wrong where it was written".to_owned(),
        Foreign::Unknown => return None,
    };
    Some(hint)
}

fn spool(error: &SpoolError) -> Option<String> {
    let hint = match error {
        SpoolError::Unreadable { .. } => return None,
        SpoolError::Unpack { .. } => "it is damaged or was not written to its end: write it again",
        SpoolError::Bomb { .. } => "if it is an image all the same, unpack it yourself and push the tar",
        SpoolError::Full { .. } | SpoolError::Folder { .. } => {
            "TMPDIR names a folder with room for the whole archive, unpacked; a plain tar in a file needs none: ecr-push FILE \
             DESTINATION"
        }
    };
    Some(hint.to_owned())
}

pub(super) fn docker_status(error: &DockerError) -> u8 {
    match error {
        DockerError::NoneChosen { .. } | DockerError::NoSuchImage { .. } | DockerError::AmbiguousName { .. } => {
            status::USAGE
        }
        DockerError::Tar(_)
        | DockerError::NoManifest { .. }
        | DockerError::Empty { .. }
        | DockerError::Malformed { .. }
        | DockerError::Missing { .. }
        | DockerError::ConfigDiffers { .. }
        | DockerError::LayersDiffer { .. }
        | DockerError::TwoOfOneConfig { .. }
        | DockerError::LayerPacked { .. } => status::SOURCE,
    }
}

pub(super) fn docker_hint(error: &DockerError) -> Option<String> {
    let hint = match error {
        DockerError::NoneChosen { .. } | DockerError::NoSuchImage { .. } => {
            "choose one of these by writing what stands there behind SOURCE"
        }
        DockerError::AmbiguousName { .. } => "choose one of these by its digest",
        DockerError::Missing { .. } | DockerError::ConfigDiffers { .. } | DockerError::LayersDiffer { .. } => {
            "nothing was sent; save the image again"
        }
        DockerError::LayerPacked { .. } => "nothing was sent; let docker unpack it: docker load, then docker save",
        DockerError::Tar(_)
        | DockerError::NoManifest { .. }
        | DockerError::Empty { .. }
        | DockerError::Malformed { .. }
        | DockerError::TwoOfOneConfig { .. } => return None,
    };
    Some(hint.to_owned())
}
