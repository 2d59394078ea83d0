//! What an engine's export holds, where the engine keeps images as they came, in containerd's store (Docker's own choice
//! since 29): an OCI layout whose documents are kept, and whose blobs pass by and are gone.
//!
//! Such an image has a manifest that others know by its digest, and is pushed byte for byte like any layout's.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::image::{Content, Raw, Role};
use crate::oci::descriptor::Descriptor;

/// A member that may be a document is smaller, in bytes.
pub const DOCUMENT: u64 = 4 * 1024 * 1024;

/// Whatever is this small is kept, in bytes: a walk wants small blobs at hand.
const SMALL: u64 = 64 * 1024;

/// All that is kept together, in bytes.
pub const KEPT: usize = 16 * 1024 * 1024;

/// The members of an export.
#[derive(Debug)]
pub struct Listing {
    path: PathBuf,
    kept: HashMap<String, Bytes>,
    sizes: HashMap<String, u64>,
}

impl Listing {
    /// Reads an export to its end; `path` is what it is called, for people. Blocks.
    ///
    /// # Errors
    /// When it breaks off, or isn't a tar, or has more documents than an image needs.
    pub fn read(export: impl Read, path: &Path) -> io::Result<Self> {
        let (mut kept, mut sizes, mut total) = (HashMap::new(), HashMap::new(), 0);
        for entry in tar::Archive::new(export).entries()? {
            let mut entry = entry?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let (name, size, mut bytes) = (name(&entry.path_bytes()), entry.size(), Vec::new());
            if size <= SMALL {
                entry.read_to_end(&mut bytes)?;
            }
            if size <= SMALL || size <= DOCUMENT && is_document(&mut entry, &mut bytes)? {
                total += bytes.len();
                if total > KEPT {
                    return Err(too_many());
                }
                kept.insert(name.clone(), bytes.into());
            }
            sizes.insert(name, size);
        }
        Ok(Self { path: path.to_owned(), kept, sizes })
    }

    /// What it is called, for people.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes of a member that was kept.
    #[must_use]
    pub fn document(&self, name: &str) -> Option<&Bytes> {
        self.kept.get(name)
    }

    /// The size of a member, if there is such a one.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<u64> {
        self.sizes.get(name).copied()
    }

    /// Where a blob's bytes are: here, or in another export.
    #[must_use]
    pub fn content(&self, name: &str, descriptor: &Descriptor) -> Content {
        if let Some(bytes) = self.kept.get(name) {
            return Content::Held(bytes.clone());
        }
        let Descriptor { digest, size, .. } = descriptor;
        let (digest, diff_id) = (digest.clone(), digest.clone());
        Content::Made(Arc::new(Raw { digest, diff_id, size: *size, role: Role::Config, content: None, as_is: true }))
    }
}

/// A member's name as others write it, too.
pub(crate) fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_start_matches("./").to_owned()
}

/// Whether a member is JSON; `first` gets what was read of it, and all of it if it is.
pub(crate) fn is_document(entry: &mut impl Read, first: &mut Vec<u8>) -> io::Result<bool> {
    entry.by_ref().take(1).read_to_end(first)?;
    if !matches!(first.first(), Some(b'{' | b'[')) {
        return Ok(false);
    }
    entry.read_to_end(first)?;
    Ok(serde_json::from_slice::<serde::de::IgnoredAny>(first).is_ok())
}

/// For an export that would fill the memory.
pub(crate) fn too_many() -> io::Error {
    io::Error::other("it has more documents than an image needs")
}
