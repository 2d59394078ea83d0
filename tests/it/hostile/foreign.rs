//! Files that are no archive of an image, and say what they are.

use std::io::Write;

use super::{Archive, good, layout};
use crate::support::layout::noise;
use crate::support::tar::Header;
use crate::support::{Push, Tar, assert_arrived, ecr};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn what_was_packed_is_unpacked_on_the_way() {
    let layout = layout();
    let tar = Tar::of(&layout).end();
    let (first, second) = tar.split_at(tar.len() / 2);
    let members = [gzip(first), gzip(second)].concat();
    let frames = [zstd::encode_all(first, 1).unwrap(), zstd::encode_all(second, 1).unwrap()].concat();
    for packed in [members, frames] {
        let ecr = ecr();
        let archive = Archive::new(packed);
        archive.push(&ecr).run().exits(0);
        assert_arrived(&ecr, "app", &layout, &layout.root());
        archive.is_unchanged();
    }
}

#[test]
fn what_was_packed_and_is_damaged_is_refused() {
    let tar = good().end();
    for packed in [gzip(&tar), zstd::encode_all(&*tar, 1).unwrap()] {
        let half = packed[..packed.len() / 2].to_vec();
        Archive::new(half).is_refused(&["damaged or cut off", "after byte ", "write it again"]);
        Archive::new([&packed, &noise(1, 100)[..]].concat()).is_refused(&["damaged or cut off", "after byte "]);
    }
    let hostile = good().file("../x", b"");
    Archive::new(gzip(&hostile.end())).is_refused(&["at byte ", "leads out with `..`"]);
}

#[test]
fn a_bomb_is_refused() {
    let zeroes = zstd::encode_all(std::io::Read::take(std::io::repeat(0), 300 << 20), 1).unwrap();
    Archive::new(zeroes).is_refused(&["unpacks to more than", "no image does"]);
}

#[test]
fn what_is_no_tar_says_what_it_is() {
    let check = |bytes: &[u8], words: &[&str]| {
        Archive::new(bytes.to_vec()).is_refused(words);
    };
    check(b"", &["image.tar is empty", "pipefail"]);
    check(b"\xfd7zXZ\0\0\x04", &["packed with xz", "xz -dc", "| ecr-push -"]);
    check(b"BZh91AY&SY", &["packed with bzip2", "bzip2 -dc"]);
    check(b"\x04\x22\x4d\x18d@", &["packed with lz4", "lz4 -dc"]);
    check(b"PK\x03\x04\x14\0\0\0", &["a zip file"]);
    check(b"<!DOCTYPE html>\n<html>", &["a page of HTML"]);
    check(b"FROM debian:13\nRUN true\n", &["a Dockerfile", "docker buildx build"]);
    check(b"[{\"Id\": \"sha256:aa\"}]\n", &["JSON"]);
    check(b"Error: no such image\n", &["text", "look into it"]);
    check(&noise(7, 5000), &["something else"]);
}

#[test]
fn a_tar_of_something_else_says_what_it_is() {
    let tar = |names: &[&str]| names.iter().fold(Tar::new(), |tar, name| tar.file(name, b"x"));
    let check = |tar: Tar, words: &[&str]| {
        Archive::new(tar.end()).is_refused(words);
    };
    let container =
        tar(&[".dockerenv", "etc/hostname"]).symlink("bin", "/usr/bin").member(&Header::new("dev/tty", b'3'), b"");
    check(container, &["the files of a container", "`docker export`", "docker save"]);
    check(tar(&["etc/passwd", "usr/bin/sh", "var/x", "dev/x"]), &["holds no image", "index.json"]);
    let folders =
        ["etc/", "usr/", "var/"].iter().fold(Tar::new(), |tar, name| tar.member(&Header::new(name, b'5'), b""));
    check(folders, &["the files of a container"]);
    check(tar(&["repositories", "aa/layer.tar"]), &["before Docker 1.10", "docker load"]);
    check(tar(&["out/oci-layout", "out/index.json"]), &["in its folder \"out\"", "tar -C out"]);
    check(tar(&["README"]), &["holds no image", "docker save"]);
}

#[test]
fn what_it_was_said_to_be_counts() {
    let layout = layout();
    let archive = Archive::new(Tar::of(&layout).end());
    let path = archive.path().to_string_lossy().into_owned();
    let push = |prefix: &str, ecr| Push::of(format!("{prefix}:{path}")).at(ecr).to("app:v1").run();
    let there = ecr();
    push("oci-archive", &there).exits(0);
    assert_arrived(&there, "app", &layout, &layout.root());
    let nothing = ecr();
    push("docker-archive", &nothing).exits(3).says(["no docker archive", "`manifest.json`", "leave the prefix out"]);
    push("oci", &nothing).exits(3).says(["not a folder"]);
    assert_eq!(nothing.registry_requests(), []);
}
