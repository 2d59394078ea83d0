//! Reads SOURCE, whatever it is, and keeps what its clean-up needs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::Options;
use super::draft::{Docker, DockerLayer, Draft};
use super::make::Making;
use crate::cleanup::layout::Removal;
use crate::cleanup::{self, Cleaned, CleanupError};
use crate::compress::Workers;
use crate::error::Error;
use crate::event::{Event, Reporter};
use crate::image::{Image, Raw, Role};
use crate::known::layers::Layers as Record;
use crate::oci::digest::Digest;
use crate::push::streams::{Exporter, Recipe, Supply};
use crate::source::engine::{Engine, EngineImage};
use crate::source::layout::{Chosen, Layout, LayoutError};
use crate::source::lock::{self, Lock};
use crate::source::{Place, Source};

/// How many times `--timeout` another process that uses SOURCE is waited for: it may be in the middle of a push.
const PATIENCE: u32 = 10;

/// Where an image came from, and how it is removed there.
pub(super) enum Origin {
    /// An OCI image layout folder.
    Folder {
        /// The layout.
        layout: Layout,
        /// Which of its images.
        chosen: Chosen,
        /// That image, as it is there.
        image: Image,
        /// Until it is pushed nobody takes it away.
        lock: Lock,
    },
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
    let path = match &source.place {
        Place::Path { path, .. } => path.clone(),
        Place::Engine { image } => {
            let (engine, image) = Engine::find(&options.engine, &options.access, image).await?;
            let exporter = Exporter::new(engine.clone(), &image.id, &image.diff_ids, HashMap::new());
            let draft = Draft::Docker(exported(&image));
            let making = begin(draft, options, recipe(Supply::Export(exporter))).await?;
            return Ok((Origin::Engine { engine, image }, making));
        }
        Place::StandardInput => {
            return Err(LayoutError::NotAFolder { path: format!("{:?}", source.place).into() }.into());
        }
    };
    let wait = patience(&path, options, reporter, cancel);
    let (source, read) = (source.clone(), options.clone());
    let reading = tokio::task::spawn_blocking(move || folder(&path, &source, &read, wait));
    let (origin, draft) = reading.await.map_err(Error::task)??;
    Ok((origin, begin(draft, options, recipe(Supply::AtHand)).await?))
}

/// Sees what is known of an image's layers.
async fn begin(draft: Draft, options: &Options, recipe: Recipe) -> Result<Making, Error> {
    let (cache, all) = (options.cache.clone(), options.recompress);
    let beginning = tokio::task::spawn_blocking(move || {
        let record = cache.as_deref().map(Record::read).unwrap_or_default();
        Making::begin(draft, all, recipe, &record)
    });
    beginning.await.map_err(Error::task)?
}

/// An engine's image, of which only an export can tell more.
fn exported(image: &EngineImage) -> Docker {
    let of = image.diff_ids.len();
    let layers = image.diff_ids.iter().enumerate().map(|(at, diff_id)| {
        let role = Role::Layer { number: at + 1, of };
        let raw = Raw { digest: diff_id.clone(), diff_id: diff_id.clone(), size: 0, role, content: None };
        DockerLayer::Raw(Arc::new(raw), None)
    });
    Docker {
        config: None,
        layers: layers.collect(),
        annotations: None,
        size: image.size,
        id: Digest::parse(&image.id).ok(),
    }
}

fn folder(
    path: &Path,
    source: &Source,
    options: &Options,
    wait: impl FnMut() -> bool,
) -> Result<(Origin, Draft), Error> {
    // From before the index is read: a clean-up must not take away what is being pushed.
    let lock = lock::shared(path, wait).map_err(|_| LayoutError::Locked { path: path.to_owned() })?;
    let layout = Layout::open(path, options.follow_symlinks)?;
    let chosen = layout.choose(&source.choice)?;
    let image = layout.read(&chosen, options.referrers)?;
    if options.cleanup && !options.referrers {
        let referrers = layout.referrers(&image);
        if !referrers.is_empty() {
            return Err(Error::LeavesOut { referrers });
        }
    }
    Ok((Origin::Folder { layout, chosen, image: image.clone(), lock }, Draft::Image(image)))
}

/// Whether to go on waiting for a layout that somebody else uses; says once that it is waited for.
fn patience(
    path: &Path,
    options: &Options,
    reporter: &Arc<dyn Reporter>,
    cancel: &CancellationToken,
) -> impl FnMut() -> bool + Send + 'static + use<> {
    let (path, reporter, cancel): (PathBuf, _, _) = (path.to_owned(), reporter.clone(), cancel.clone());
    let (bound, mut since) = (options.access.timeout.saturating_mul(PATIENCE), None);
    move || {
        let began = *since.get_or_insert_with(|| {
            let text = format!("waiting for another process that uses {}", path.display());
            reporter.report(&Event::Warning { text });
            Instant::now()
        });
        !cancel.is_cancelled() && began.elapsed() < bound
    }
}

impl Origin {
    /// Takes the image away.
    ///
    /// # Errors
    /// The outer one when nobody knows what became of it, the inner one when something is left.
    pub(super) async fn clean(
        self,
        options: &Options,
        reporter: &Arc<dyn Reporter>,
        cancel: &CancellationToken,
    ) -> Result<Result<Cleaned, CleanupError>, Error> {
        match self {
            Self::Folder { layout, chosen, image, lock } => {
                let removal = Removal::of(&image, &chosen);
                // Two who both share the folder would wait for each other for ever.
                drop(lock);
                let Some(folder) = layout.folder().cloned() else { return Ok(Ok(Cleaned::default())) };
                let wait = patience(folder.root(), options, reporter, cancel);
                let cleaning = tokio::task::spawn_blocking(move || cleanup::layout::clean(&folder, &removal, wait));
                cleaning.await.map_err(Error::task)
            }
            Self::Engine { .. } => Ok(Ok(Cleaned::default())),
        }
    }
}
