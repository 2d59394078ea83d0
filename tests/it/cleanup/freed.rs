//! What is said to be freed is what the file system has more of afterwards.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::layout::{digest, sha512};
use crate::support::{Layout, Push, builder, has_root, has_tool, start};

/// A block of every file system here.
const BLOCK: usize = 4096;

/// Mounts a file system that nobody else uses and sees, copies the layout there with its links and holes, and asks the file
/// system before and after the run.
const IN_MEMORY: &str = r#"mount -t tmpfs none "$PLACE" || exit 99"#;
const ON_EXT4: &str = r#"truncate -s 64M "$OUT/disk" && mkfs.ext4 -q -b 4096 "$OUT/disk" && mount -o loop "$OUT/disk" "$PLACE" || exit 99"#;
const MEASURE: &str = r#"
cp -a "$FROM/." "$PLACE/" || exit 99
free() { sync -f "$PLACE" && stat -f -c '%f %S' "$PLACE"; }
free > "$OUT/before"
"$0" "$@"
status=$?
free > "$OUT/after"
[ -e "$PLACE/layout" ] || touch "$OUT/gone"
exit $status
"#;

/// Where the layout is copied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    Memory,
    Ext4,
}

/// What came of a clean-up.
struct Measured {
    /// What it says.
    said: Value,
    /// Bytes that the file system has more of.
    more: i64,
}

/// Cleans `choice` of a copy of the layout.
fn measure(layout: &Layout, choice: &str, disk: Disk) -> Measured {
    let ecr = start(builder().sha512(true));
    let (place, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut source = place.path().join("layout").into_os_string();
    source.push(choice);
    let script = format!("{}{MEASURE}", if disk == Disk::Memory { IN_MEMORY } else { ON_EXT4 });
    let under = ["unshare", "--mount", "sh", "-c", &script];
    let mapped = ["unshare", "--map-root-user", "--mount", "sh", "-c", &script];
    let push = Push::of(source).at(&ecr).to("app:v1").args(["--cleanup", "--output=json"]);
    let push = push.env("FROM", layout.parent()).env("PLACE", place.path()).env("OUT", out.path());
    let ran = push.under(if disk == Disk::Memory { &mapped } else { &under }).run().exits(0);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    let said = document["cleanup"].clone();
    assert_eq!(said["folderRemoved"], out.path().join("gone").exists());
    let free = |name: &str| -> i64 {
        let text = fs::read_to_string(out.path().join(name)).unwrap();
        text.split_whitespace().map(|number| number.parse::<i64>().unwrap()).product()
    };
    Measured { said, more: free("after") - free("before") }
}

/// A layer of these bytes whose zeros are holes in its file.
fn with_holes(layout: &Layout, bytes: &[u8]) -> Value {
    let layer = layout.add("application/vnd.oci.image.layer.v1.tar", bytes);
    let path = layout.blob(digest(&layer));
    fs::remove_file(&path).unwrap();
    let file = File::create_new(&path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for (at, block) in bytes.chunks(BLOCK).enumerate().filter(|(_, block)| block.iter().any(|byte| *byte != 0)) {
        file.write_all_at(block, (at * BLOCK) as u64).unwrap();
    }
    layer
}

/// The same file as this layer's, under its other digest.
fn linked(layout: &Layout, layer: &Value) -> Value {
    let path = layout.blob(digest(layer));
    let other = sha512(&fs::read(&path).unwrap());
    fs::create_dir_all(layout.path().join("blobs/sha512")).unwrap();
    fs::hard_link(path, layout.blob(&other)).unwrap();
    json!({"mediaType": layer["mediaType"], "digest": other, "size": layer["size"]})
}

/// Gives a file of the layout a name outside of it.
fn shared(layout: &Layout, layer: &Value) {
    let path = layout.blob(digest(layer));
    fs::hard_link(&path, layout.parent().join(path.file_name().unwrap())).unwrap();
}

/// A layout with an image `stays`, and `goes` that has these layers.
fn two_images(layout: &Layout, layers: &[Value]) {
    layout.list(&layout.image(layers), Some("goes"));
    layout.list(&layout.image(&[layout.layer(10)]), Some("stays"));
}

#[track_caller]
fn is_exact(layout: &Layout, choice: &str, disk: Disk, at_least: usize) {
    let Measured { said, more } = measure(layout, choice, disk);
    assert_eq!(said["bytesFreed"], more, "{disk:?}: {said}");
    assert!(more >= i64::try_from(at_least).unwrap(), "{disk:?}: {said}");
}

/// Bytes of which none is a hole, then a hole, then bytes again.
fn holey() -> Vec<u8> {
    let mut bytes = vec![0; 100 * BLOCK + 77];
    bytes[3 * BLOCK..5 * BLOCK].fill(1);
    bytes[100 * BLOCK..].fill(2);
    bytes
}

/// Every kind of file that a layout may have, on one disk.
fn every_kind(disk: Disk) {
    let plain = Layout::empty();
    two_images(&plain, &[plain.layer(200_000), plain.layer(1), plain.layer(BLOCK)]);
    // Three layers, a config and a manifest.
    is_exact(&plain, ":goes", disk, 200_000 + BLOCK);

    let sparse = Layout::empty();
    two_images(&sparse, &[with_holes(&sparse, &holey()), with_holes(&sparse, &vec![0; 50 * BLOCK])]);
    is_exact(&sparse, ":goes", disk, 3 * BLOCK);
    let freed = measure(&sparse, ":goes", disk).more;
    assert!(freed < 100_000, "{disk:?}: holes are no bytes, and {freed} came back");

    let links = Layout::empty();
    let layer = links.layer(100_000);
    two_images(&links, &[layer.clone(), linked(&links, &layer)]);
    is_exact(&links, ":goes", disk, 100_000);

    let outside = Layout::empty();
    let (layer, other) = (outside.layer(100_000), outside.layer(50_000));
    let again = linked(&outside, &layer);
    shared(&outside, &layer);
    two_images(&outside, &[layer, again, other]);
    is_exact(&outside, ":goes", disk, 50_000);
    let freed = measure(&outside, ":goes", disk).more;
    assert!(freed < 100_000, "{disk:?}: somebody else has that file, and {freed} came back");

    // One name of a file goes with its image, and another image has the other.
    let both = Layout::empty();
    let layer = both.layer(100_000);
    let again = linked(&both, &layer);
    both.list(&both.image(&[layer, both.layer(20_000)]), Some("goes"));
    both.list(&both.image(&[again]), Some("stays"));
    is_exact(&both, ":goes", disk, 20_000);
}

#[test]
fn in_memory() {
    if has_tool("unshare") {
        every_kind(Disk::Memory);
    }
}

#[test]
fn on_ext4() {
    if has_tool("unshare") && has_tool("mkfs.ext4") && has_root("a loop device") {
        every_kind(Disk::Ext4);
    }
}

#[test]
fn a_folder_counts_with_all_that_makes_it_a_layout() {
    let layout = Layout::of_layers(&[100_000, 1]);
    is_exact(&layout, "", Disk::Memory, 100_000);
}
