//! The images that are pushed: made once, kept in `target/bench/layouts`, always the same.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::args::{Shape, name};
use super::layer;
use crate::fixtures::json::{AMD64, ARM64, Index, Platform};
use crate::fixtures::layout::{Layer, Layout, blob_path};
use crate::fixtures::tree;

/// Part of the path, to be raised when other bytes are made: what lies there is never looked into again.
const VERSION: &str = "v1";

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const MB: u64 = 1_000_000;

/// An image as two layouts.
#[derive(Debug, Clone)]
pub(crate) struct Layouts {
    pub(crate) image: PathBuf,
    /// With another last layer (of the first platform).
    pub(crate) changed: PathBuf,
}

/// How large the layers of an image are, in bytes.
fn sizes(shape: Shape) -> Vec<u64> {
    match shape {
        Shape::Small => vec![MIB; 5],
        Shape::Typical => [30, 150, 5, 90, 60, 1, 40, 24].map(|size| size * MB).to_vec(),
        Shape::Many => vec![200 * KIB; 100],
        Shape::Multi => vec![20 * MIB; 5],
        Shape::Late => [vec![25 * MB; 16], vec![150 * MB]].concat(),
        Shape::Large => vec![2048 * MIB; 2],
    }
}

/// How large an image is: its layers, each once, and little else.
pub(crate) fn bytes(shape: Shape) -> u64 {
    let sizes = sizes(shape);
    let second = shared(shape).map_or(0, |shared| sizes[shared..].iter().sum());
    sizes.iter().sum::<u64>() + second
}

/// How many layers the second platform shares with the first, if there is a second.
fn shared(shape: Shape) -> Option<usize> {
    (shape == Shape::Multi).then_some(2)
}

/// The layouts of that image below `target/bench`, made if they aren't there.
pub(crate) fn provide(bench: &Path, shape: Shape) -> io::Result<Layouts> {
    let folder = bench.join("layouts").join(VERSION);
    let done = folder.join(name(&shape));
    let layouts = Layouts { image: done.join("image"), changed: done.join("changed") };
    if done.exists() {
        return Ok(layouts);
    }
    eprintln!("   making {}, once", done.display());
    fs::create_dir_all(&folder)?;
    // It gets its name when it is complete.
    let staging = tempfile::Builder::new().prefix(".making-").tempdir_in(&folder)?;
    make(shape, staging.path())?;
    fs::rename(staging.path(), &done)?;
    Ok(layouts)
}

fn make(shape: Shape, folder: &Path) -> io::Result<()> {
    let layers = folder.join("layers");
    fs::create_dir_all(&layers)?;
    let sizes = sizes(shape);
    let new = |seed: u64, size: u64| -> io::Result<Layer> {
        let path = layers.join(seed.to_string());
        let layer = layer::write(&path, seed, size)?;
        fs::rename(path, layers.join(file_name(&layer)))?;
        Ok(layer)
    };
    let number = |seed: u64| move |(at, size): (u64, &u64)| (seed + at, *size);
    let first: Vec<_> =
        (0..).zip(&sizes).map(number(1)).map(|(seed, size)| new(seed, size)).collect::<Result<_, _>>()?;
    let mut platforms = vec![(AMD64, first)];
    if let Some(shared) = shared(shape) {
        let mut second = platforms[0].1[..shared].to_vec();
        for (seed, size) in (0..).zip(&sizes[shared..]).map(number(1001)) {
            second.push(new(seed, size)?);
        }
        platforms.push((ARM64, second));
    }
    lay(&platforms, &layers, &folder.join("image"))?;
    if let (Some(last), Some(size)) = (platforms[0].1.last_mut(), sizes.last()) {
        // Nobody changes 2 GiB.
        *last = new(2001, if shape == Shape::Large { 64 * MIB } else { *size })?;
    }
    lay(&platforms, &layers, &folder.join("changed"))?;
    fs::remove_dir_all(layers)
}

/// Writes the layout of an image whose layers lie in a folder already.
fn lay(platforms: &[(Platform, Vec<Layer>)], layers: &Path, folder: &Path) -> io::Result<()> {
    let mut layout = Layout::new();
    let mut images: Vec<_> = platforms.iter().map(|(platform, layers)| layout.image(platform, layers)).collect();
    let root = if let [image] = &images[..] {
        image.clone()
    } else {
        for (image, (platform, _)) in images.iter_mut().zip(platforms) {
            image.platform = Some(platform.clone());
        }
        layout.index(&Index::new(images))
    };
    layout.name(&root, "latest");
    tree::write(folder, &layout.tree())?;
    for layer in platforms.iter().flat_map(|(_, layers)| layers) {
        let path = folder.join(blob_path(&layer.descriptor.digest));
        if !path.exists() {
            // The two layouts share what they have in common.
            fs::hard_link(layers.join(file_name(layer)), path)?;
        }
    }
    Ok(())
}

fn file_name(layer: &Layer) -> String {
    layer.descriptor.digest.replace(':', "-")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::bench::image::Image;

    #[test]
    fn images_are_as_large_as_they_are_said_to_be() {
        let check = |shape: Shape, layers: usize, megabytes: u64| {
            let sizes = sizes(shape);
            assert_eq!((sizes.len(), bytes(shape) / MB), (layers, megabytes), "{shape:?}");
        };
        check(Shape::Small, 5, 5);
        check(Shape::Typical, 8, 400);
        check(Shape::Many, 100, 20);
        check(Shape::Multi, 5, 167);
        check(Shape::Late, 17, 550);
        check(Shape::Large, 2, 4294);
    }

    #[test]
    fn one_layer_changes() {
        let folder = tempfile::tempdir().unwrap();
        let Layouts { image, changed } = provide(folder.path(), Shape::Small).unwrap();
        let blobs = |layout: &Path| -> BTreeSet<_> { Image::read(layout).unwrap().blobs.into_iter().collect() };
        let (before, after) = (blobs(&image), blobs(&changed));
        assert_eq!((before.len(), after.len()), (6, 6));
        // The layer and the config that names it.
        assert_eq!(after.difference(&before).count(), 2);
    }
}
