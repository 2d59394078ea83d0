//! Archives that no honest tool writes: each is refused with its place in the file, and nothing is sent.

mod docker;
mod foreign;
mod input;

use std::fs;
use std::path::PathBuf;

use local_ecr::LocalEcr;
use tempfile::TempDir;

use crate::support::layout::sha256;
use crate::support::tar::{BLOCK, Header};
use crate::support::{Layout, Push, Ran, Tar, assert_arrived, ecr, reference};

/// An archive in a folder of its own.
struct Archive {
    folder: TempDir,
    bytes: Vec<u8>,
}

impl Archive {
    fn new(bytes: Vec<u8>) -> Self {
        let folder = TempDir::with_prefix("ecr-push-archive-").unwrap();
        fs::write(folder.path().join("image.tar"), &bytes).unwrap();
        Self { folder, bytes }
    }

    fn push(&self, ecr: &LocalEcr) -> Push {
        Push::of(self.path()).at(ecr).to("app:v1").env("TMPDIR", self.folder.path())
    }

    /// Asserts that it is refused with these words, that nobody was sent anything, and that it is as it was.
    #[track_caller]
    fn is_refused(&self, words: &[&str]) -> Ran {
        let ecr = ecr();
        let ran = self.push(&ecr).run().exits(3).prints(&[]).says_one_error().says(words.iter().copied());
        assert_eq!(ecr.registry_requests(), []);
        self.is_unchanged();
        ran
    }

    #[track_caller]
    fn is_unchanged(&self) {
        let names: Vec<_> = fs::read_dir(self.folder.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(names, ["image.tar"], "a file was left behind");
        assert!(fs::read(self.path()).unwrap() == self.bytes, "the archive was changed");
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("image.tar")
    }
}

/// A layout with one image, whose layer is too large to be held in memory.
fn layout() -> Layout {
    Layout::of_layers(&[100_000])
}

/// The members of a good archive; what follows them is what is wrong.
fn good() -> Tar {
    Tar::of(&layout())
}

/// Asserts on what is refused for what follows a good archive's members.
#[track_caller]
fn hostile(add: impl FnOnce(Tar) -> Tar, words: &[&str]) {
    let begin = good();
    let at = format!("at byte {}: ", begin.position());
    let bytes = add(begin).end();
    Archive::new(bytes).is_refused(&[words, &[at.as_str(), "image.tar"]].concat());
}

#[test]
fn an_honest_archive_is_pushed() {
    let (layout, ecr) = (layout(), ecr());
    let with_folders = Tar::new()
        .member(&Header::new("./", b'5'), b"")
        .member(&Header::new("blobs/", b'5'), b"")
        .raw(&Tar::of(&layout).cut())
        .member(&Header::new("blobs/", b'5'), b"")
        .symlink("latest", "index.json")
        .member(&Header::new("from-before", b'\0').magic([0; 8]), b"POSIX")
        .member(&Header::new("from-gnu", b'0').magic(*b"ustar  \0"), b"tar")
        .pax(&[("path", b"a name/of any kind"), ("SCHILY.xattr.user.note", b"of\nany kind")])
        .file("x", b"y");
    let archive = Archive::new(with_folders.end());
    archive.push(&ecr).run().exits(0).prints(&[&reference(&ecr, "app", &layout.root())]);
    assert_arrived(&ecr, "app", &layout, &layout.root());
    archive.is_unchanged();
}

/// Makes a test of each line: what is added to a good archive, and the words of the message.
macro_rules! hostile {
    ($($test:ident($add:expr, $words:expr);)*) => { $(#[test] fn $test() { hostile($add, &$words); })* };
}

hostile! {
    a_name_that_leads_out_is_refused(|tar| tar.file("../etc/passwd", b"x"), ["../etc/passwd", "leads out with `..`"]);
    a_name_that_leads_out_later_is_refused(|tar| tar.file("a/../../b", b"x"), ["a/../../b", "leads out"]);
    an_absolute_name_is_refused(|tar| tar.file("/etc/passwd", b"x"), ["/etc/passwd", "absolute"]);
    a_name_of_no_text_is_refused(|tar| tar.member(&Header::new(b"a\xff", b'0'), b""), ["not UTF-8"]);
    a_file_without_a_name_is_refused(|tar| tar.file("", b"x"), ["empty"]);
    a_link_that_leads_out_is_refused(|tar| tar.symlink("a/b", "../../etc/shadow"), ["leads out", "../../etc/shadow"]);
    a_link_to_an_absolute_path_is_refused(|tar| tar.symlink("a", "/etc/shadow"), ["leads out", "/etc/shadow"]);
    a_hard_link_that_leads_out_is_refused(
        |tar| tar.member(&Header::new("a/b", b'1').link("../x"), b""), ["leads out", "../x"]);
    links_in_a_circle_are_refused(|tar| tar.symlink("a", "b").symlink("b", "a"), ["\"a\"", "without end"]);
    too_many_links_are_refused(
        |tar| (0..20).fold(tar, |tar, n| tar.symlink(&format!("l{n:02}"), &format!("l{:02}", n + 1))).file("l20", b""),
        ["\"l00\"", "without end"]);
    a_size_beyond_the_end_is_refused(
        |tar| tar.member(&Header::new("a", b'0').size(b"77777777777\0"), b"x"), ["8589934591 bytes", "left"]);
    a_size_beyond_all_memory_is_refused(
        |tar| tar.member(&Header::new("a", b'0').size(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"), b"x"),
        ["9223372036854775807 bytes"]);
    a_size_that_overflows_is_refused(
        |tar| tar.member(&Header::new("a", b'0').size(b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"), b"x"),
        ["18446744073709551615 bytes"]);
    a_size_of_more_than_64_bits_is_refused(
        |tar| tar.member(&Header::new("a", b'0').size(b"\x80\0\0\x01\0\0\0\0\0\0\0\x01"), b"x"), ["beyond 64 bits"]);
    a_negative_size_is_refused(|tar| tar.member(&Header::new("a", b'0').size(&[0xff; 12]), b"x"), ["negative"]);
    a_size_that_is_no_number_is_refused(
        |tar| tar.member(&Header::new("a", b'0').size(b"0x000000001\0"), b"x"), ["not a number"]);
    two_members_of_one_name_are_refused(|tar| tar.file("./oci-layout", b"{}"), ["\"oci-layout\"", "a second time"]);
    a_folder_of_the_name_of_a_file_is_refused(
        |tar| tar.member(&Header::new("index.json/", b'5'), b""), ["\"index.json\"", "a second time"]);
    a_member_below_a_file_is_refused(|tar| tar.file("index.json/x", b""), ["\"index.json/x\"", "no folder"]);
    a_gnu_sparse_member_is_refused(|tar| tar.member(&Header::new("a", b'S'), b"x"), ["sparse"]);
    a_pax_sparse_member_is_refused(
        |tar| tar.pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0")]).file("a", b""), ["sparse"]);
    a_member_of_an_unknown_type_is_refused(|tar| tar.member(&Header::new("a", b'M'), b""), ["type 'M'"]);
    a_header_of_an_unknown_version_is_refused(
        |tar| tar.member(&Header::new("a", b'0').magic(*b"ustar\x0099"), b""), ["no known format"]);
    a_long_name_from_before_there_were_any_is_refused(
        |tar| tar.member(&Header::new("x", b'L').magic([0; 8]), b"b\0").file("a", b""), ["no known format"]);
    a_folder_with_bytes_is_refused(|tar| tar.member(&Header::new("a/", b'5'), b"x"), ["no file", "1 bytes"]);
    a_link_with_bytes_is_refused(
        |tar| tar.member(&Header::new("a", b'2').link("index.json"), b"x"), ["no file", "1 bytes"]);
    a_pax_size_that_overflows_is_refused(|tar| tar.pax(&[("size", b"18446744073709551616")]).file("a", b""), ["64 bits"]);
    two_sizes_in_a_pax_header_are_refused(
        |tar| tar.pax(&[("size", b"1"), ("size", b"2")]).file("a", b"xy"), ["a second time"]);
    a_malformed_pax_record_is_refused(
        |tar| tar.member(&Header::new("x", b'x'), b"999 path=a\n").file("a", b""), ["malformed"]);
    a_name_for_all_members_is_refused(
        |tar| tar.member(&Header::new("g", b'g'), b"9 path=a\n").file("b", b""), ["one name or size"]);
    a_pax_header_of_absurd_size_is_refused(
        |tar| tar.member(&Header::new("x", b'x'), &vec![b'x'; 2 << 20]).file("a", b""), ["2097152 bytes"]);
    a_long_name_of_absurd_size_is_refused(
        |tar| tar.member(&Header::new("x", b'L'), &vec![b'a'; 5000]).file("a", b""), ["5000 bytes"]);
    a_long_name_that_lies_of_its_size_is_refused(
        |tar| tar.member(&Header::new("x", b'L').size(b"77777777777\0"), b"a").file("a", b""), ["8589934591 bytes"]);
    an_empty_block_alone_is_refused(|tar| tar.raw(&[0; BLOCK]).file("a", b""), ["empty block"]);
    a_wrong_checksum_is_refused(|tar| tar.raw(&[b'x'; BLOCK]), ["checksum"]);
}

/// Asserts on what is refused at the member after a first one that belongs to it.
#[track_caller]
fn hostile_behind(first: impl FnOnce(Tar) -> Tar, second: impl FnOnce(Tar) -> Tar, words: &[&str]) {
    let begin = first(good());
    let at = format!("at byte {}: ", begin.position());
    Archive::new(second(begin).end()).is_refused(&[words, &[at.as_str()]].concat());
}

#[test]
fn two_extensions_that_say_the_same_are_refused() {
    let long = |tar: Tar| tar.member(&Header::new("x", b'L'), b"one\0");
    hostile_behind(long, |tar| long(tar).file("a", b""), &["a second time"]);
    hostile_behind(long, |tar| tar.pax(&[("path", b"two")]).file("a", b""), &["a second time"]);
    let global = Header::new("g", b'g');
    let between = |tar: Tar| tar.member(&global, b"13 comment=a\n").file("a", b"");
    hostile_behind(|tar| tar.pax(&[("path", b"b")]), between, &["between another and its member"]);
    hostile_behind(|tar| tar.pax(&[]), |tar| tar.pax(&[("path", b"two")]).file("a", b""), &["a second time"]);
}

#[test]
fn an_extension_without_a_member_is_refused() {
    hostile_behind(|tar| tar.pax(&[("path", b"a")]), |tar| tar, &["no member follows"]);
}

#[test]
fn a_name_in_an_extension_is_looked_at_like_any_other() {
    // The place is that of the extension's beginning where it says what is wrong, else that of the member.
    let check = |path: &[u8], words: &str| {
        hostile_behind(|tar| tar.pax(&[("path", path)]), |tar| tar.file("a", b""), &[words]);
    };
    check(b"../x", "leads out");
    check(b"/x", "absolute");
    check(b"x\0y", "zero byte");
    check(&vec![b'x'; 5000], "longer than 4096 bytes");
    let out = |tar: Tar| tar.pax(&[("linkpath", b"../../x")]);
    hostile_behind(out, |tar| tar.symlink("a/b", "c"), &["leads out", "../../x"]);
}

#[test]
fn an_archive_that_is_cut_off_is_refused() {
    let (whole, layout) = (good(), layout());
    let layer = whole.clone().cut();
    let check = |length: u64, at: u64, words: &str| {
        let bytes = layer[..usize::try_from(length).unwrap()].to_vec();
        Archive::new(bytes).is_refused(&[&format!("at byte {at}: "), words, "write it again"]);
    };
    let last =
        whole.position() - (fs::metadata(layout.path().join("oci-layout")).unwrap().len().div_ceil(512) + 1) * 512;
    check(last + 1, last, "1 bytes are left");
    check(last + 511, last, "511 bytes are left");
    check(last + 512, last, "0 are left");
    check(last + 513, last, "1 are left");
}

#[test]
fn an_archive_without_members_is_refused() {
    Archive::new(Tar::new().end()).is_refused(&["at byte 0: ", "no member"]);
}

#[test]
fn more_members_than_an_image_has_are_refused() {
    // 32 MiB of names, in fewer bytes than as many members would have.
    let long = "x/".repeat(2040);
    let tar = (0..8300).fold(good(), |tar, number| tar.file(&format!("{long}{number}"), b""));
    Archive::new(tar.end()).is_refused(&["at byte ", "more members than an image can have"]);
}

/// Asserts on what is said of a layer's member that is something else in an archive.
#[track_caller]
fn bad_layer(replace: impl FnOnce(Tar, &str, &[u8]) -> Tar, words: &[&str]) {
    let layout = layout();
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(layout.blob(&layout.root())).unwrap()).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let bytes = fs::read(layout.blob(layer)).unwrap();
    fs::remove_file(layout.blob(layer)).unwrap();
    let name = format!("blobs/{}", layer.replace(':', "/"));
    let tar = replace(Tar::of(&layout), &name, &bytes);
    Archive::new(tar.end()).is_refused(&[words, &[layer]].concat());
}

#[test]
fn a_layer_that_is_no_file_is_refused() {
    bad_layer(|tar, _, _| tar, &["is missing"]);
    bad_layer(|tar, name, bytes| tar.file(name, &bytes[1..]), &["99999 bytes where its descriptor says 100000"]);
    bad_layer(|tar, name, _| tar.member(&Header::new(name, b'3'), b""), &["is a character device"]);
    bad_layer(|tar, name, _| tar.member(&Header::new(name, b'4'), b""), &["is a block device"]);
    bad_layer(|tar, name, _| tar.member(&Header::new(name, b'6'), b""), &["is a FIFO"]);
    bad_layer(|tar, name, _| tar.member(&Header::new(name, b'5'), b""), &["is a folder"]);
    bad_layer(|tar, name, _| tar.symlink(name, "nowhere"), &["at byte ", "isn't in the archive"]);
}

#[test]
fn a_layer_may_be_a_link_in_the_archive() {
    let (layout, ecr) = (layout(), ecr());
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(layout.blob(&layout.root())).unwrap()).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let bytes = fs::read(layout.blob(layer)).unwrap();
    let hidden = layout.path().join("hidden");
    fs::rename(layout.blob(layer), &hidden).unwrap();
    let name = format!("blobs/{}", layer.replace(':', "/"));
    let tar = Tar::of(&layout).symlink(&name, "../../other").member(&Header::new("other", b'1').link("hidden"), b"");
    Archive::new(tar.end()).push(&ecr).run().exits(0);
    fs::rename(hidden, layout.blob(layer)).unwrap();
    assert_eq!(sha256(&bytes), layer);
    assert_arrived(&ecr, "app", &layout, &layout.root());
}

#[test]
fn a_layer_with_other_bytes_is_never_committed() {
    let (layout, ecr) = (layout(), ecr());
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(layout.blob(&layout.root())).unwrap()).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let mut bytes = fs::read(layout.blob(layer)).unwrap();
    bytes[99_999] ^= 1;
    fs::write(layout.blob(layer), bytes).unwrap();
    let archive = Archive::new(Tar::of(&layout).end());
    archive.push(&ecr).run().exits(3).prints(&[]).says([layer, "corrupt"]);
    assert!(!ecr.has_blob("app", layer) && ecr.tags("app").is_empty());
}
