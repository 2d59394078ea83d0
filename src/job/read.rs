//! Reads SOURCE, whatever it is, and keeps what its clean-up needs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::Options;
use super::draft::Draft;
use super::make::Making;
use crate::cleanup::layout::Removal;
use crate::cleanup::{self, Cleaned, CleanupError};
use crate::compress::Workers;
use crate::error::Error;
use crate::event::{Event, Reporter};
use crate::image::Image;
use crate::known::layers::Layers as Record;
use crate::push::streams::{Recipe, Supply};
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
}

/// Reads SOURCE.
pub(super) async fn read(
    source: &Source,
    options: &Options,
    reporter: &Arc<dyn Reporter>,
    cancel: &CancellationToken,
) -> Result<(Origin, Making), Error> {
    let path = match &source.place {
        Place::Path { path, .. } => path.clone(),
        Place::StandardInput | Place::Engine { .. } => {
            return Err(LayoutError::NotAFolder { path: format!("{:?}", source.place).into() }.into());
        }
    };
    let wait = patience(&path, options, reporter, cancel);
    let (source, options) = (source.clone(), options.clone());
    let reading = tokio::task::spawn_blocking(move || {
        let (origin, draft) = folder(&path, &source, &options, wait)?;
        let record = options.cache.as_deref().map(Record::read).unwrap_or_default();
        let recipe =
            Recipe { compression: options.compression, workers: Workers::new(options.threads), supply: Supply::AtHand };
        Ok((origin, Making::begin(draft, options.recompress, recipe, &record)?))
    });
    reading.await.map_err(Error::task)?
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
                let wait = patience(layout.folder().root(), options, reporter, cancel);
                let cleaning =
                    tokio::task::spawn_blocking(move || cleanup::layout::clean(layout.folder(), &removal, wait));
                cleaning.await.map_err(Error::task)
            }
        }
    }
}
