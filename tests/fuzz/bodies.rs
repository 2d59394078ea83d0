//! What the fuzz targets do with their input: whatever it is, nothing panics, and what is accepted holds what it promises.

#![allow(dead_code, unreachable_pub, reason = "each target has one of these")]

use std::collections::BTreeMap;
use std::io::{Seek, Write};
use std::path::Path;
use std::sync::Arc;

use ecr_push::source::docker::{Config, Entry};
use ecr_push::source::tar::{MAX_NAME, TarIndex};

/// The index of a tar: names that are safe, members within the file, and none that the `tar` crate sees elsewhere.
pub(crate) fn tar_index(bytes: &[u8]) {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).expect("it takes them");
    let Ok(index) = TarIndex::read(Arc::new(file), Path::new("fuzz.tar")) else { return };
    let sound = index.check_links().is_ok();
    let mut parts = BTreeMap::new();
    for name in index.names() {
        let safe = !name.split('/').any(|part| matches!(part, "" | "." | "..")) && name.len() <= MAX_NAME;
        assert!(safe && !name.contains('\0'), "the name {name:?} was accepted");
        assert!(index.offset(name).is_some_and(|offset| offset + 512 <= bytes.len() as u64), "{name:?} is nowhere");
        let Ok(Some(part)) = index.part(name) else { continue };
        assert!(part.offset + part.length <= bytes.len() as u64, "{name:?} ends behind the file");
        let content = index.content(name, bytes.len() as u64).expect("it can be read").expect("it is there");
        assert_eq!(content.len() as u64, part.length, "the length of {name:?}");
        parts.insert(name.to_owned(), (part.offset, part.length));
    }
    if sound {
        sees_the_same(bytes, &parts);
    }
}

/// Another reader of tars must not find other bytes under a name. It may find less, and fail where it knows less.
fn sees_the_same(bytes: &[u8], parts: &BTreeMap<String, (u64, u64)>) {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).and_then(|()| file.rewind()).expect("it takes them");
    let mut archive = tar::Archive::new(file);
    let Ok(entries) = archive.entries_with_seek() else { return };
    for entry in entries {
        let Ok(entry) = entry else { return };
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        // That reader takes one zero byte from the end of a GNU long name, others all of them.
        let name = name.trim_end_matches('\0');
        let folder = name.ends_with('/');
        let name: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if entry.header().entry_type().is_file() && !folder {
            let theirs = (entry.raw_file_position(), entry.size());
            assert_eq!(parts.get(&name.join("/")), Some(&theirs), "where {name:?} is, of {parts:?}");
        }
    }
}

/// `manifest.json`.
pub(crate) fn docker_manifest(bytes: &[u8]) {
    let Ok(entries) = Entry::parse(bytes) else { return };
    assert!(bytes.len() >= 2 && entries.len() <= bytes.len(), "so many images in so few bytes");
}

/// A docker image's config.
pub(crate) fn docker_config(bytes: &[u8]) {
    let Ok(config) = Config::parse(bytes) else { return };
    for diff_id in config.rootfs.diff_ids.unwrap_or_default() {
        assert!(diff_id.hex().bytes().all(|byte| byte.is_ascii_hexdigit()), "{diff_id} was accepted");
    }
}
