//! What goes in comes out again, the same whatever the number of threads.

use std::io::Read as _;

use proptest::prelude::*;

use super::*;

fn with(algorithm: Algorithm, level: Option<i32>) -> Compression {
    Compression { algorithm, level }
}

fn made(input: &[u8], compression: Compression, workers: &Workers) -> (Made, Vec<u8>) {
    let mut output = Vec::new();
    let mut to = |piece: Bytes| {
        assert!(!piece.is_empty() && piece.len() <= BLOCK + 4096, "{}", piece.len());
        output.extend_from_slice(&piece);
        true
    };
    let made = compress(&mut &*input, &compression, workers, &mut to).unwrap().unwrap();
    (made, output)
}

fn inside(output: &[u8]) -> Vec<u8> {
    let mut inside = Vec::new();
    unpacked(packing(output), io::Cursor::new(output.to_vec())).unwrap().read_to_end(&mut inside).unwrap();
    inside
}

/// Text and noise by turns, as in a layer.
fn mixed(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = Vec::with_capacity(length + 16 * 1024);
    while bytes.len() < length {
        let run = random.usize(1..16 * 1024);
        match random.u8(..4) {
            0 => bytes.extend((0..run).map(|_| random.u8(..))),
            1 => bytes.extend(std::iter::repeat_n(random.u8(..), run)),
            2 if !bytes.is_empty() => {
                let from = random.usize(..bytes.len());
                let again = bytes[from..].iter().copied().take(run).collect::<Vec<_>>();
                bytes.extend(again);
            }
            _ => bytes.extend((0..run).map(|_| b"etaoin shrdlu\n"[random.usize(..14)])),
        }
    }
    bytes.truncate(length);
    bytes
}

fn check(input: &[u8], compression: Compression) {
    let [one, two, eight] = [1, 2, 8].map(|threads| made(input, compression, &Workers::new(threads)));
    assert!(one == two && one == eight, "{compression:?} of {} bytes", input.len());
    let (made, output) = one;
    assert!(inside(&output) == input, "{compression:?} of {} bytes", input.len());
    let sha256 = |bytes: &[u8]| Digest::of(digest::Algorithm::Sha256, bytes);
    let expected = Made {
        digest: sha256(&output),
        size: output.len() as u64,
        diff_id: sha256(input),
        uncompressed: input.len() as u64,
    };
    assert_eq!(made, expected);
}

#[test]
fn what_goes_in_comes_out() {
    for length in [0, 1, 512, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 5 * BLOCK + 77] {
        let input = mixed(length, 1);
        for level in [None, Some(-5), Some(6), Some(99)] {
            for algorithm in [Algorithm::Gzip, Algorithm::Zstd, Algorithm::None] {
                check(&input, with(algorithm, level.filter(|l| *l < 99 || length <= BLOCK)));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn threads_change_nothing(length in 0..4 * BLOCK, seed: u64, zstd: bool, level in 1..=9) {
        check(&mixed(length, seed), with(if zstd { Algorithm::Zstd } else { Algorithm::Gzip }, Some(level)));
    }
}

/// What is at the edges of deflate's form: matches as long and as far as can be, and nothing but literals.
#[test]
fn edges() {
    let noise = |length: usize, seed: u64| {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..length).map(|_| random.u8(..)).collect::<Vec<_>>()
    };
    let text = |length: usize| {
        let mut random = fastrand::Rng::with_seed(9);
        (0..length).map(|_| b'a' + random.u8(..16)).collect::<Vec<_>>()
    };
    // Again after so many bytes, which may lie in the block before.
    let again = |distance: usize, length: usize| [&noise(distance, 2)[..], &noise(distance, 2)[..length]].concat();
    let inputs = [
        vec![0; 3 * BLOCK + 1],
        (0..=255).collect(),
        text(2 * BLOCK),
        [noise(8192, 1), text(8192), noise(3000, 4), vec![b'x'; 259], noise(100, 5)].concat(),
        again(deflate::WINDOW - 1, 1000),
        again(deflate::WINDOW, 1000),
        again(deflate::WINDOW + 1, 1000),
        [vec![b'-'; BLOCK - 20_000], again(deflate::WINDOW, 20_000)].concat(),
        (250..530).flat_map(|length| [vec![b'a'; length], noise(9, length as u64)].concat()).collect(),
        b"abc".repeat(50_000),
    ];
    for input in inputs {
        check(&input, with(Algorithm::Gzip, None));
        check(&input, with(Algorithm::Gzip, Some(6)));
    }
}

/// Text and noise by turns: each in its own way, neither spoiling the other.
#[test]
fn noise_between_text_is_stored() {
    let mut random = fastrand::Rng::with_seed(6);
    let mut input = Vec::new();
    for line in 0..BLOCK / 8192 {
        input.extend((0..8192).map(|_| random.u8(..)));
        input.extend(format!("line {line} of a file like many others in an image\n").repeat(200).bytes().take(8192));
    }
    let (made, _) = made(&input, with(Algorithm::Gzip, None), &Workers::new(2));
    assert!(made.size < made.uncompressed * 53 / 100, "{} of {}", made.size, made.uncompressed);
}

/// Whoever makes other bytes of the same input must change the recipe, or a record of layers would be wrong.
#[test]
fn a_recipe_is_one_for_all_time() {
    let digest = |algorithm, level| {
        let compression = with(algorithm, level);
        let (made, _) = made(&mixed(3 * BLOCK + 1000, 11), compression, &Workers::new(2));
        format!("{} {}", compression.recipe(), made.digest.short())
    };
    assert_eq!(digest(Algorithm::Gzip, None), "gzip-1-256k-v1 bff2bfc9893b");
    assert_eq!(digest(Algorithm::Gzip, Some(6)), "gzip-6-256k-v1-flate2-1.1.11-zlib-rs-0.6.8 ad162fda3c40");
    assert_eq!(digest(Algorithm::Zstd, None), "zstd-3-256k-v1-zstd-0.13.5-zstd-sys-2.1.3+zstd.1.5.7 a77447f0beca");
}

#[test]
fn noise_hardly_grows() {
    let mut random = fastrand::Rng::with_seed(7);
    let noise: Vec<u8> = (0..3 * BLOCK + 5).map(|_| random.u8(..)).collect();
    for algorithm in [Algorithm::Gzip, Algorithm::Zstd] {
        let (made, _) = made(&noise, with(algorithm, None), &Workers::new(2));
        assert!(made.size < made.uncompressed + 200, "{algorithm:?}: {}", made.size);
    }
}

#[test]
fn gzip_is_one_member_that_names_nobody() {
    let input = mixed(3 * BLOCK, 3);
    let (_, output) = made(&input, with(Algorithm::Gzip, None), &Workers::new(2));
    assert_eq!(output[..10], block::GZIP_HEADER);
    let mut inside = Vec::new();
    let mut first = flate2::bufread::GzDecoder::new(&*output);
    first.read_to_end(&mut inside).unwrap();
    assert!(inside == input);
    assert!(first.into_inner().is_empty());
}

#[test]
fn streams_share_workers() {
    let workers = Workers::new(2);
    let alone = made(&mixed(4 * BLOCK, 4), with(Algorithm::Gzip, None), &workers);
    std::thread::scope(|scope| {
        let streams: Vec<_> =
            (0..8).map(|_| scope.spawn(|| made(&mixed(4 * BLOCK, 4), with(Algorithm::Gzip, None), &workers))).collect();
        for stream in streams {
            assert!(stream.join().unwrap() == alone);
        }
    });
}

#[test]
fn nobody_wants_more() {
    let workers = Workers::new(2);
    let input = mixed(8 * BLOCK, 5);
    for wanted in 0..4 {
        let mut given = 0;
        let mut to = |_: Bytes| {
            given += 1;
            given <= wanted
        };
        let made = compress(&mut &*input, &with(Algorithm::Gzip, None), &workers, &mut to).unwrap();
        assert_eq!((made, given), (None, wanted + 1));
    }
}

#[test]
fn what_cannot_be_read_is_an_error() {
    struct Broken(usize);
    impl io::Read for Broken {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            let read = into.len().min(self.0);
            self.0 -= read;
            into[..read].fill(b'x');
            Ok(read)
        }
    }
    for before in [0, 10, 3 * BLOCK] {
        let error = compress(&mut Broken(before), &with(Algorithm::Gzip, None), &Workers::new(2), &mut |_| true);
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn recipes_differ_where_bytes_may() {
    let recipe = |algorithm, level| with(algorithm, level).recipe();
    assert_eq!(recipe(Algorithm::Gzip, None), recipe(Algorithm::Gzip, Some(1)));
    assert_eq!(recipe(Algorithm::Gzip, Some(9)), recipe(Algorithm::Gzip, Some(10)));
    assert_ne!(recipe(Algorithm::Gzip, Some(1)), recipe(Algorithm::Gzip, Some(2)));
    assert_ne!(recipe(Algorithm::Gzip, Some(3)), recipe(Algorithm::Zstd, Some(3)));
    assert_eq!(recipe(Algorithm::None, None), recipe(Algorithm::None, Some(3)));
}

/// An upgrade of what makes the bytes changes the recipe.
#[test]
fn recipes_name_the_crates_that_are_linked() {
    let lock: toml::Table = toml::from_str(include_str!("../../Cargo.lock")).unwrap();
    let packages = lock["package"].as_array().unwrap();
    for (name, version) in GZIP_CRATES.into_iter().chain(ZSTD_CRATES) {
        let locked: Vec<_> = packages.iter().filter(|package| package["name"].as_str() == Some(name)).collect();
        assert_eq!(locked.len(), 1, "{name}");
        assert_eq!(locked[0]["version"].as_str(), Some(version), "{name}: its bytes may have changed");
    }
}
