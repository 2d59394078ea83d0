//! The fuzz targets' bodies on stable: over seeds, and over random mutations of them.

#[path = "../fuzz/bodies.rs"]
mod bodies;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::tar::{BLOCK, Header};
use crate::support::{Layout, Tar};

/// Mutations of a seed that are tried for each target.
const CASES: u32 = 4000;

/// Bytes that mean something in a header.
const TELLING: &[u8] = b"\0\x80\xff 01257LKxgS./";

/// A change to the bytes: what, where, and with what.
type Change = (u8, u32, u32);

fn changed(seed: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for (what, at, value) in changes {
        let (at, value) = (*at as usize % (bytes.len() + 1), *value as usize);
        let block = at / BLOCK * BLOCK;
        let end = (block + BLOCK).min(bytes.len());
        match what % 8 {
            0 if at < bytes.len() => bytes[at] ^= 1 << (value % 8),
            1 if at < bytes.len() => bytes[at] = value.to_le_bytes()[0],
            2 => bytes.truncate(at),
            3 => drop(bytes.splice(at..at, value.to_le_bytes())),
            4 => drop(bytes.drain(block..end)),
            5 => {
                let copy = bytes[block..end].to_vec();
                let to = value % (bytes.len() + 1) / BLOCK * BLOCK;
                drop(bytes.splice(to..to, copy));
            }
            6 => bytes[block..end].fill(0),
            // The fields that matter most: type, size, and the beginning of the name.
            _ => {
                let field = [0, 124, 125, 135, 156, 157, 257, 345][value % 8];
                if let Some(byte) = bytes.get_mut(block + field) {
                    *byte = TELLING[value / 8 % TELLING.len()];
                }
            }
        }
        // Without this nearly every change would be one of the checksum's.
        sum_up(&mut bytes);
    }
    bytes
}

/// Makes the checksum of everything right that has one.
fn sum_up(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(BLOCK).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

#[track_caller]
fn run(seeds: &[Vec<u8>], body: fn(&[u8])) {
    for seed in seeds {
        body(seed);
    }
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let changes = prop::collection::vec(any::<Change>(), 1..6);
    let outcome = runner.run(&(0..seeds.len(), changes), |(seed, changes)| {
        body(&changed(&seeds[seed], &changes));
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn tar_index() {
    let long = "folder/".repeat(20) + "name";
    let strange = Tar::new()
        .member(&Header::new("./", b'5'), b"")
        .member(&Header::new("a/", b'5'), b"")
        .file("a/b", b"content")
        .symlink("a/c", "b")
        .member(&Header::new("d", b'1').link("a/b"), b"")
        .file(&long, b"long")
        .pax(&[("path", b"pax/name"), ("size", b"5")])
        .member(&Header::new("e", b'0').size(b"00000000000\0"), b"12345")
        .member(&Header::new("g", b'g'), b"13 comment=a\n")
        .member(&Header::new("f", b'0').size(b"\x80\0\0\0\0\0\0\0\0\0\x02\0"), &[7; 512])
        .member(&Header::new("h", b'3'), b"");
    let layout = Tar::of(&Layout::fixture("good/index"));
    run(&[strange.clone().end(), strange.cut(), layout.end(), Tar::new().end(), vec![]], bodies::tar_index);
}

#[test]
fn docker_manifest() {
    let seeds: [&[u8]; 4] = [
        br#"[{"Config":"aa.json","RepoTags":["app:v1","app:v2"],"Layers":["1/layer.tar","2/layer.tar"]}]"#,
        br#"[{"Config":"c","RepoTags":null,"Layers":null,"LayerSources":{"sha256:aa":{"size":3}}},{"Config":"d"}]"#,
        b"[]",
        b"null",
    ];
    run(&seeds.map(<[u8]>::to_vec), bodies::docker_manifest);
}

#[test]
fn docker_config() {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let config = serde_json::json!({
        "architecture": "arm64", "os": "linux", "variant": "v8", "created": "2026-01-01T00:00:00Z",
        "config": {"Env": ["A=b"], "Cmd": null}, "history": [{"empty_layer": true}],
        "rootfs": {"type": "layers", "diff_ids": [digest, digest]},
    });
    let bare = br#"{"rootfs":{"diff_ids":null}}"#.to_vec();
    run(&[config.to_string().into_bytes(), bare, b"{}".to_vec()], bodies::docker_config);
}
