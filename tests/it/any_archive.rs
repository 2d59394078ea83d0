//! An archive reads as the folder that it was made of, whatever the order of its members.

use std::fs;
use std::path::Path;

use ecr_push::image::{Content, Image};
use ecr_push::source::Choice;
use ecr_push::source::archive::Archive;
use ecr_push::source::layout::Layout as Read;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use crate::support::tar::Header;
use crate::support::{Layout, Tar};

/// An image: the sizes of its layers, whether another image of the same layers lies beside it in an index, and how many
/// refer to it.
type Made = (Vec<usize>, bool, usize);

/// A layout of these images.
fn layout(images: &[Made]) -> Layout {
    let layout = Layout::empty();
    for (at, (sizes, index, referrers)) in images.iter().enumerate() {
        let layers: Vec<Value> = sizes.iter().map(|size| layout.layer(*size)).collect();
        let mut image = layout.image(&layers);
        for number in 0..*referrers {
            let referrer = layout.referrer(&image, &format!("{at} {number}"));
            layout.list(&referrer, None);
        }
        if *index {
            let other = layout.based_on(&image, &format!("base of {at}"));
            image = layout.index_of(&[image, other]);
        }
        layout.list(&image, Some(&format!("v{at}")));
    }
    layout
}

/// Everything of an image but where its bytes are: those themselves.
fn content(image: &Image) -> Vec<(String, Vec<u8>)> {
    let manifests = image.nodes().iter().map(|node| (node.manifest.digest.to_string(), node.manifest.bytes.to_vec()));
    let blobs = image.blobs().map(|blob| {
        assert!(!matches!(blob.content, Content::Made(_)));
        (format!("{} {} {:?}", blob.digest, blob.media_type, blob.role), blob.content.read().unwrap().to_vec())
    });
    let referrers = image.referrers().iter().map(|digest| (format!("referrer {digest}"), Vec::new()));
    manifests.chain(blobs).chain(referrers).collect()
}

#[test]
fn any_layout_reads_the_same_from_an_archive() {
    let image = (prop::collection::vec(0..150_000_usize, 0..4), any::<bool>(), 0..3_usize);
    let order = prop::collection::vec(any::<u64>(), 40);
    let strategy = (prop::collection::vec(image, 1..4), order, any::<[bool; 3]>());
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&strategy, |(images, order, [folders, dots, packed])| {
        let layout = layout(&images);
        let mut files = crate::support::tar::files(layout.path(), if dots { "./" } else { "" });
        files.sort_by_key(|(name, bytes)| order[(name.len() * 31 + bytes.len()) % order.len()]);
        let mut tar = Tar::new();
        if folders {
            let names = ["./", "blobs/", "blobs/sha256/"];
            tar = names.iter().fold(tar, |tar, name| tar.member(&Header::new(name, b'5'), b""));
        }
        let tar = files.iter().fold(tar, |tar, (name, bytes)| tar.file(name, bytes)).end();
        let path = layout.parent().join("image.tar");
        fs::write(&path, if packed { zstd::encode_all(&*tar, 1).unwrap() } else { tar }).unwrap();
        let folder = Read::open(layout.path(), false).unwrap();
        let archive = Archive::open(&path, None, Path::new("/tmp")).unwrap();
        prop_assert_eq!(archive.is_spooled(), packed);
        let archive = Read::in_archive(&archive).unwrap();
        prop_assert_eq!(archive.images(), folder.images());
        for at in 0..images.len() {
            let choice = Choice::Name(format!("v{at}"));
            let read = |layout: &Read| content(&layout.read(&layout.choose(&choice).unwrap(), &[], true).unwrap());
            prop_assert!(read(&archive) == read(&folder), "{choice:?} differs");
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
