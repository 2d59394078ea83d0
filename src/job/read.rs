//! Reads SOURCE, whatever it is, and keeps what its clean-up needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_util::sync::CancellationToken;

use super::draft::{Docker, DockerLayer, Draft};
use super::make::Making;
use super::{Options, RECORD, aside, within};
use crate::cleanup::archive;
use crate::cleanup::layout::Task;
use crate::cleanup::removal::Removal;
use crate::cleanup::{self, Cleaned, CleanupError};
use crate::clock;
use crate::compress::{Algorithm, Compression, Packing, Workers};
use crate::error::Error;
use crate::event::{Event, Reporter};
use crate::image::{Content, Image, Part, Raw, Role};
use crate::known::{self, layers::Layers as Record};
use crate::oci::descriptor::Platform;
use crate::oci::digest::{self, Digest, Hasher};
use crate::oci::manifest::{Body, Manifest};
use crate::patience::patience;
use crate::platform::Wanted;
use crate::push::streams::{Exporter, Recipe, Supply};
use crate::repack::assemble::Layer;
use crate::source::archive::{Archive, ArchiveError};
use crate::source::docker::{self as saved, DockerArchive, DockerImage};
use crate::source::engine::{Engine, EngineImage};
use crate::source::folder::Folder;
use crate::source::layout::{Chosen, Layout, LayoutError};
use crate::source::listing::Listing;
use crate::source::lock::{self, Lock};
use crate::source::platforms::{Offered, PlatformError};
use crate::source::{Choice, Form, Place, Source};

/// Bytes that are read at once to reckon a digest.
const PIECE: usize = 256 * 1024;

/// Where an image came from, and how it is removed there.
pub(super) enum Origin {
    /// An OCI image layout folder.
    Folder {
        /// The folder.
        folder: Folder,
        /// Its image, as it was when it was read.
        removal: Removal,
        /// Until it is pushed nobody takes it away.
        lock: Lock,
    },
    /// An archive.
    Archive(archive::Removal),
    /// An engine.
    Engine {
        /// The engine.
        engine: Engine,
        /// Its image.
        image: EngineImage,
    },
}

/// Reads SOURCE.
pub(super) async fn read(
    source: &Source,
    options: &Options,
    reporter: &Arc<dyn Reporter>,
    cancel: &CancellationToken,
) -> Result<(Origin, Making), Error> {
    let recipe = |supply| Recipe { compression: options.compression, workers: Workers::new(options.threads), supply };
    if let Place::Engine { image } = &source.place {
        let (engine, image) = Engine::find(&options.engine, &options.access, image).await?;
        let (draft, layers) = if let Some(manifest) = &image.manifest {
            let (image, notice) = stored(&engine, &image, manifest, options).await?;
            notify(notice, reporter);
            let passing = image.blobs().filter(|blob| matches!(blob.content, Content::Made(_)));
            let layers = passing.map(|blob| blob.digest.clone()).collect();
            (Draft::Image(image), layers)
        } else {
            if let Ok(id) = Digest::parse(&image.id) {
                runs_on(&options.platforms, &image.platform, &id)?;
            }
            (Draft::Docker(exported(&image, options).await), image.diff_ids.clone())
        };
        let members = recorded(options, known::members::Members::read).await.unwrap_or_default();
        let exporter = Exporter::new(engine.clone(), &image.id, &layers, members);
        let exporter = if image.manifest.is_some() { exporter.of_a_layout() } else { exporter };
        let making = begin(draft, options, recipe(Supply::Export(Box::new(exporter)))).await?;
        return Ok((Origin::Engine { engine, image }, making));
    }
    let path = match &source.place {
        Place::Path { path, .. } => path.clone(),
        Place::StandardInput | Place::Engine { .. } => PathBuf::new(),
    };
    let wait = patience(&path, options.access.timeout, reporter, cancel);
    let (source, read) = (source.clone(), options.clone());
    let reading = tokio::task::spawn_blocking(move || match &source.place {
        // What was said to be a folder and isn't one is said to be none.
        Place::Path { path, said } if *said == Some(Form::Layout) || said.is_none() && path.is_dir() => {
            folder(path, &source, &read, wait)
        }
        Place::Path { path, said } => in_archive(Archive::open(path, *said, &read.temporary)?, &source, &read),
        Place::StandardInput | Place::Engine { .. } => {
            in_archive(Archive::standard_input(&read.temporary)?, &source, &read)
        }
    });
    let (origin, draft, notice) = reading.await.map_err(Error::task)??;
    notify(notice, reporter);
    Ok((origin, begin(draft, options, recipe(Supply::AtHand)).await?))
}

fn notify(notice: Notice, reporter: &Arc<dyn Reporter>) {
    if let Some(text) = notice {
        reporter.report(&Event::Warning { text });
    }
}

/// Sees what is known of an image's layers.
async fn begin(draft: Draft, options: &Options, recipe: Recipe) -> Result<Making, Error> {
    let all = options.recompress;
    let record = recorded(options, Record::read).await.unwrap_or_default();
    let beginning = tokio::task::spawn_blocking(move || Making::begin(draft, all, recipe, &record));
    beginning.await.map_err(Error::task)?
}

/// An engine's image that is kept as it came: all but its large blobs.
async fn stored(
    engine: &Engine,
    image: &EngineImage,
    manifest: &Digest,
    options: &Options,
) -> Result<(Image, Notice), Error> {
    let export = engine.export(&image.id).await?;
    let path = PathBuf::from(format!("docker-daemon:{}", image.named.as_ref().unwrap_or(&image.id)));
    let (chosen, options) = (Choice::Digest(manifest.clone()), options.clone());
    let reading = tokio::task::spawn_blocking(move || {
        let unreadable = |source| LayoutError::Unreadable { path: path.clone(), source };
        let layout = Layout::in_export(Arc::new(Listing::read(export, &path).map_err(unreadable)?))?;
        self::image(&layout, &layout.choose(&chosen)?, &options)
    });
    reading.await.map_err(Error::task)?
}

/// An engine's image, of which only an export can tell more; unless its config is known from an earlier one.
async fn exported(image: &EngineImage, options: &Options) -> Docker {
    let of = image.diff_ids.len();
    let layers = image.diff_ids.iter().enumerate().map(|(at, diff_id)| {
        let role = Role::Layer { number: at + 1, of };
        let (digest, diff_id) = (diff_id.clone(), diff_id.clone());
        let raw = Raw { digest, diff_id, size: 0, role, content: None, as_is: false };
        DockerLayer::Raw(Arc::new(raw), BTreeMap::new())
    });
    let id = Digest::parse(&image.id).ok();
    let config = match id.clone() {
        Some(id) => recorded(options, move |folder| known::configs::get(folder, &id)).await.flatten(),
        None => None,
    };
    Docker { config, layers: layers.collect(), annotations: BTreeMap::new(), size: image.size, id, exported: true }
}

/// What a record says, if there is one and it says so soon.
async fn recorded<T: Send + 'static>(options: &Options, read: impl FnOnce(&Path) -> T + Send + 'static) -> Option<T> {
    let folder = options.cache.clone()?;
    within(RECORD, aside(move || read(&folder))).await
}

fn folder(
    path: &Path,
    source: &Source,
    options: &Options,
    wait: impl FnMut() -> bool,
) -> Result<(Origin, Draft, Notice), Error> {
    // From before the index is read: a clean-up must not take away what is being pushed.
    let lock = lock::shared(path, wait).map_err(|_| LayoutError::Locked { path: path.to_owned() })?;
    let layout = Layout::open(path, options.follow_symlinks)?;
    let chosen = layout.choose(&source.choice)?;
    let (image, notice) = image(&layout, &chosen, options)?;
    let removal = Removal::of(&layout, &image, &chosen);
    let folder = Folder::new(path, options.follow_symlinks);
    let folder = folder.map_err(|source| LayoutError::Unreadable { path: path.to_owned(), source })?;
    Ok((Origin::Folder { folder, removal, lock }, Draft::Image(image), notice))
}

fn in_archive(archive: Archive, source: &Source, options: &Options) -> Result<(Origin, Draft, Notice), Error> {
    if archive.form() == Form::DockerArchive {
        let docker = DockerArchive::open(Arc::new(archive))?;
        let image = docker.choose(&source.choice)?;
        runs_on(&options.platforms, &image.platform, &image.config_digest)?;
        let removal = archive::Removal::of_docker(&docker, image);
        return Ok((Origin::Archive(removal), Draft::Docker(saved(image, options)?), None));
    }
    let layout = Layout::in_archive(&archive)?;
    let chosen = layout.choose(&source.choice)?;
    let (image, notice) = image(&layout, &chosen, options)?;
    Ok((Origin::Archive(archive::Removal::of_layout(&archive, &layout, &image)), Draft::Image(image), notice))
}

fn image(layout: &Layout, chosen: &Chosen, options: &Options) -> Result<(Image, Notice), Error> {
    let image = layout.read(chosen, &options.platforms, options.referrers)?;
    let (asked, found) = (&chosen.descriptor.digest, &image.root().manifest.digest);
    if options.cleanup && asked != found {
        return Err(Error::LeavesOutPlatforms { image: asked.clone() });
    }
    if options.cleanup && !options.referrers {
        let referrers = layout.referrers(&image);
        if !referrers.is_empty() {
            return Err(Error::LeavesOut { referrers });
        }
    }
    let notice = narrowed(&options.platforms, asked, &image.root().manifest);
    Ok((image, notice))
}

/// What the user should know of what was read.
type Notice = Option<String>;

/// What `--platform` made of the image, if it isn't the same any more.
fn narrowed(platforms: &[Wanted], asked: &Digest, root: &Manifest) -> Notice {
    if root.digest == *asked {
        return None;
    }
    let platforms = platforms.iter().map(Wanted::to_string).collect::<Vec<_>>().join(", ");
    Some(match root.body {
        Body::Image { .. } => {
            format!("{platforms} alone is pushed: {}, without its index {asked} and attestations", root.digest)
        }
        Body::Index { .. } => {
            format!("{platforms} alone are pushed: a new index {} in the place of {asked}", root.digest)
        }
    })
}

/// Sees that an image without an index runs on every platform that was asked for.
fn runs_on(platforms: &[Wanted], platform: &Platform, image: &Digest) -> Result<(), Error> {
    let there = [Some(platform.clone())];
    let Some(wanted) = platforms.iter().find(|wanted| wanted.among(&there).is_empty()) else { return Ok(()) };
    let there = vec![Offered { platform: Some(platform.clone()), digest: image.clone() }];
    let error = PlatformError::Missing { image: image.clone(), wanted: wanted.to_string(), there };
    Err(LayoutError::from(error).into())
}

/// An image of a docker archive: what is compressed there is sent as it is.
fn saved(image: &DockerImage, options: &Options) -> Result<Docker, Error> {
    let of = image.layers.len();
    let as_it_is = |layer: &saved::DockerLayer| match layer.packing {
        Packing::Gzip | Packing::Zstd => !options.recompress,
        Packing::Nothing => options.compression.algorithm == Algorithm::None,
        // Whoever makes it says what is wrong with it.
        Packing::Bzip2 | Packing::Xz => false,
    };
    let packed = image.layers.iter().filter(|layer| as_it_is(layer) && layer.packing != Packing::Nothing);
    let digests = digests(&packed.map(|layer| &layer.part).collect::<Vec<_>>(), options.threads)?;
    let mut digests = digests.into_iter();
    let layers = image.layers.iter().enumerate().map(|(at, layer)| {
        let saved::DockerLayer { diff_id, part, packing, annotations } = layer;
        let content = Content::Part(part.clone());
        if !as_it_is(layer) {
            let role = Role::Layer { number: at + 1, of };
            let (digest, diff_id, size) = (diff_id.clone(), diff_id.clone(), part.length);
            let raw = Raw { digest, diff_id, size, role, content: Some(content), as_is: false };
            return DockerLayer::Raw(Arc::new(raw), annotations.clone());
        }
        let algorithm = match packing {
            Packing::Gzip => Algorithm::Gzip,
            Packing::Zstd => Algorithm::Zstd,
            Packing::Nothing | Packing::Bzip2 | Packing::Xz => Algorithm::None,
        };
        let digest = if *packing == Packing::Nothing { None } else { digests.next() };
        DockerLayer::Ready(Layer {
            digest: digest.unwrap_or_else(|| diff_id.clone()),
            size: part.length,
            media_type: Compression { algorithm, level: None }.layer_media_type().into(),
            annotations: annotations.clone(),
            content,
        })
    });
    Ok(Docker {
        config: Some(image.config.clone()),
        layers: layers.collect(),
        annotations: image.annotations.clone(),
        size: image.layers.iter().map(|layer| layer.part.length).sum(),
        id: Some(image.config_digest.clone()),
        exported: false,
    })
}

/// The digests of these parts, reckoned side by side.
fn digests(parts: &[&Part], threads: usize) -> Result<Vec<Digest>, Error> {
    let next = AtomicUsize::new(0);
    let reckon = || {
        let mut found = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = parts.get(at) else { return found };
            found.push((at, digest_of(part)));
        }
    };
    let mut found = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads.min(parts.len())).map(|_| scope.spawn(reckon)).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect::<Vec<_>>()
    });
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, digest)| digest).collect()
}

fn digest_of(part: &Part) -> Result<Digest, Error> {
    let unreadable = |source| ArchiveError::Unreadable { path: part.path.clone(), source };
    let mut hasher = Hasher::new(digest::Algorithm::Sha256);
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while at < part.length {
        let length = part.fill(&mut buffer, at).map_err(unreadable)?;
        if length == 0 {
            return Err(unreadable(std::io::ErrorKind::UnexpectedEof.into()).into());
        }
        hasher.update(&buffer[..length]);
        at += length as u64;
    }
    Ok(hasher.finish())
}

impl Origin {
    /// What `clean` would take away after a push to these names.
    ///
    /// # Errors
    /// The outer one when that can't be found out, the inner one when something would be left.
    pub(super) async fn plan(
        self,
        pushed: &[String],
        options: &Options,
    ) -> Result<Result<Cleaned, CleanupError>, Error> {
        let orphans = options.prune_orphans.map(clock::ago);
        let planning = match self {
            Self::Folder { folder, removal, lock } => tokio::task::spawn_blocking(move || {
                let task = Task { removals: vec![removal], orphans, keeps_folder: false };
                let planned = cleanup::layout::plan(&folder, &task);
                drop(lock);
                planned
            }),
            Self::Archive(removal) => tokio::task::spawn_blocking(move || archive::plan(&removal)),
            Self::Engine { engine, image } => {
                return Ok(cleanup::engine::plan(&engine, &image, image.named.as_deref(), pushed).await);
            }
        };
        planning.await.map_err(Error::task)
    }

    /// Takes the image away. `pushed` are the names that it has in the registries by now.
    ///
    /// # Errors
    /// The outer one when nobody knows what became of it, the inner one when something is left.
    pub(super) async fn clean(
        self,
        pushed: &[String],
        options: &Options,
        reporter: &Arc<dyn Reporter>,
        cancel: &CancellationToken,
    ) -> Result<Result<Cleaned, CleanupError>, Error> {
        match self {
            Self::Folder { folder, removal, lock } => {
                // Two who both share the folder would wait for each other for ever.
                drop(lock);
                let wait = patience(folder.root(), options.access.timeout, reporter, cancel);
                let orphans = options.prune_orphans.map(clock::ago);
                let task = Task { removals: vec![removal], orphans, keeps_folder: false };
                let stop = cancel.clone();
                let go_on = move || !stop.is_cancelled();
                let cleaning =
                    tokio::task::spawn_blocking(move || match cleanup::layout::alone(&folder, wait, || !go_on())? {
                        Some(alone) => cleanup::layout::clean(&folder, &task, &alone, go_on),
                        None => Ok(Cleaned::default()),
                    });
                cleaning.await.map_err(Error::task)
            }
            Self::Archive(removal) => {
                let cancel = cancel.clone();
                let cleaning = tokio::task::spawn_blocking(move || archive::clean(&removal, || cancel.is_cancelled()));
                cleaning.await.map_err(Error::task)
            }
            Self::Engine { engine, image } => {
                Ok(cleanup::engine::clean(&engine, &image, image.named.as_deref(), pushed, cancel).await)
            }
        }
    }
}
