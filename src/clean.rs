//! `ecr-push clean`: removes from SOURCE what it is asked to, without a push.
//!
//! What `cleanup` promises holds here, too, but for one thing: nobody asks whether an image is anywhere else.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cleanup::journal::Journal;
use crate::cleanup::layout::Task;
use crate::cleanup::oldest::{self, Age, Limits};
use crate::cleanup::removal::{Names, Removal};
use crate::cleanup::{self, Cleaned, CleanupError, archive, blobs, skeleton};
use crate::clock;
use crate::error::Error;
use crate::event::{Event, Reporter};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::Digest;
use crate::patience::patience;
use crate::reach::Access;
use crate::source::archive::Archive;
use crate::source::docker::DockerArchive;
use crate::source::engine::{Engine, EngineSettings};
use crate::source::folder::Folder;
use crate::source::layout::{Layout, LayoutError};
use crate::source::{Choice, Form, Place, Source};

/// How long a removal that may have begun is waited for when the run is stopped.
const LAST: Duration = Duration::from_millis(500);

/// What is to be removed, and how.
#[derive(Debug, Clone)]
pub struct Cleaning {
    /// SOURCE.
    pub source: Source,
    /// Of a layout's names keep the newest so many; SOURCE then chooses none.
    pub keep: Option<usize>,
    /// Of a layout's names remove those that haven't changed for so long; SOURCE then chooses none.
    pub older_than: Option<Duration>,
    /// Remove blobs of a layout that nothing names, too, if they haven't changed for so long. Alone, where SOURCE chooses no
    /// image.
    pub prune_orphans: Option<Duration>,
    /// Say what would go, and change nothing.
    pub dry_run: bool,
    /// Files of a layout may be symbolic links that lead out of it.
    pub follow_symlinks: bool,
    /// The folder for what has to be unpacked.
    pub temporary: PathBuf,
    /// Where engines are.
    pub engine: EngineSettings,
    /// How an engine behind a port is reached, and how long anything is waited for.
    pub access: Access,
}

impl Cleaning {
    /// Whether it goes through all images of a layout, and not for one.
    fn is_housekeeping(&self) -> bool {
        self.source.choice == Choice::Only
            && (self.keep.is_some() || self.older_than.is_some() || self.prune_orphans.is_some())
    }

    /// The first option that only a layout's folder can have.
    fn of_layouts(&self) -> Option<&'static str> {
        let options = [
            ("--keep", self.keep.is_some()),
            ("--older-than", self.older_than.is_some()),
            ("--prune-orphans", self.prune_orphans.is_some()),
        ];
        options.into_iter().find(|(_, is_given)| *is_given).map(|(option, _)| option)
    }
}

/// Removes an image from SOURCE, or what of a layout is old; or tells what that would remove.
///
/// # Errors
/// When SOURCE can't be read, when something is left, and when `cancel` is cancelled.
pub async fn clean(
    cleaning: Cleaning,
    reporter: &Arc<dyn Reporter>,
    cancel: &CancellationToken,
) -> Result<Cleaned, Error> {
    let path = match &cleaning.source.place {
        Place::Path { path, said } if *said == Some(Form::Layout) || said.is_none() && path.is_dir() => {
            let (path, reporter, stop) = (path.clone(), reporter.clone(), cancel.clone());
            let cleaning = tokio::task::spawn_blocking(move || in_layout(&path, &cleaning, &reporter, &stop));
            return unless_late(cleaning, cancel).await;
        }
        _ if let Some(option) = cleaning.of_layouts() => return Err(Error::OnlyLayouts { option }),
        Place::StandardInput => return Err(Error::NothingToClean),
        Place::Engine { image } => {
            return in_engine(image, &cleaning, cancel).await;
        }
        Place::Path { path, .. } => path.clone(),
    };
    let stop = cancel.clone();
    let cleaning = tokio::task::spawn_blocking(move || in_archive(&path, &cleaning, || stop.is_cancelled()));
    unless_late(cleaning, cancel).await
}

/// What a removal comes to. Where the run is stopped, and reading takes longer than that, nothing goes any more.
async fn unless_late(
    mut cleaning: JoinHandle<Result<Cleaned, Error>>,
    cancel: &CancellationToken,
) -> Result<Cleaned, Error> {
    let late = async {
        cancel.cancelled().await;
        tokio::time::sleep(LAST).await;
    };
    tokio::select! {
        cleaned = &mut cleaning => cleaned.map_err(Error::task)?,
        () = late => Err(Error::Interrupted { open: 0 }),
    }
}

/// Removes what a crash left of a layout's folder that isn't at `path` any more; gives the bytes that came back on disk, or `None` if
/// there was no such thing.
#[must_use]
pub fn remains(path: &Path) -> Option<u64> {
    let path = std::path::absolute(path).ok()?;
    if fs::symlink_metadata(&path).is_ok() { None } else { skeleton::sweep(&path) }
}

fn in_layout(
    path: &Path,
    cleaning: &Cleaning,
    reporter: &Arc<dyn Reporter>,
    cancel: &CancellationToken,
) -> Result<Cleaned, Error> {
    let wait = patience(path, cleaning.access.timeout, reporter, cancel);
    let unreadable = |source| LayoutError::Unreadable { path: path.to_owned(), source };
    let folder = Folder::new(path, cleaning.follow_symlinks).map_err(unreadable)?;
    if cleaning.dry_run {
        let layout = Layout::open(path, cleaning.follow_symlinks)?;
        return Ok(cleanup::layout::plan(&folder, &task(&layout, cleaning, reporter)?)?);
    }
    // What is no layout isn't locked; but half of one may be what a crash left.
    match Layout::open(path, cleaning.follow_symlinks) {
        Err(error @ LayoutError::NoLayout { .. }) if cleaning.source.choice == Choice::Only => {
            let half = skeleton::remove_half(&folder)
                .map_err(|left| CleanupError::Left { cleaned: Cleaned::default(), left: vec![left] })?;
            let freed = half.ok_or(error)?;
            return Ok(Cleaned { folder: true, freed, ..Cleaned::default() });
        }
        opened => drop(opened?),
    }
    // Before anything is decided: a name may be given anew while somebody else is waited for.
    let Some(alone) = cleanup::layout::alone(&folder, wait, || cancel.is_cancelled())? else {
        return Ok(Cleaned::default());
    };
    let layout = Layout::open(path, cleaning.follow_symlinks)?;
    let task = task(&layout, cleaning, reporter)?;
    Ok(cleanup::layout::clean(&folder, &task, &alone, || !cancel.is_cancelled())?)
}

/// What is to go from a layout.
fn task(layout: &Layout, cleaning: &Cleaning, reporter: &Arc<dyn Reporter>) -> Result<Task, LayoutError> {
    let orphans = cleaning.prune_orphans.map(clock::ago);
    let choice = &cleaning.source.choice;
    let warn = |text| reporter.report(&Event::Warning { text });
    // What an earlier run was removing, and was kept from. Where that can't be read the clean-up says so.
    let earlier = layout.folder().and_then(|folder| Journal::read(folder.root()).ok()).unwrap_or_default();
    let removals = if cleaning.is_housekeeping() {
        let before = cleaning.older_than.map(clock::ago);
        old(layout, Limits { keep: cleaning.keep, before })
    } else if *choice == Choice::Only && (layout.entries().is_empty() || !earlier.is_empty()) {
        if !layout.entries().is_empty() {
            warn("an earlier clean-up is ended, and no image is removed: choose one, or clean again".to_owned());
        }
        Vec::new()
    } else {
        match layout.choose(choice) {
            Err(LayoutError::NoSuchImage { .. }) if earlier.is_about(choice) => Vec::new(),
            chosen => {
                let chosen = chosen?;
                let names = chosen.name.clone().map_or(Names::All, Names::One);
                vec![Removal::outright(layout, &chosen.descriptor, names)]
            }
        }
    };
    for digest in removals.iter().flat_map(Removal::unreadable) {
        let text = format!("{digest} can't be read, and what it alone names stays (--prune-orphans AGE removes that)");
        warn(text);
    }
    let keeps_folder = cleaning.is_housekeeping() && removals.is_empty();
    Ok(Task { removals, orphans, keeps_folder })
}

/// The removal of each name of a layout that is old. What refers to an image goes with the last name of that.
fn old(layout: &Layout, limits: Limits) -> Vec<Removal> {
    if limits == Limits::default() {
        return Vec::new();
    }
    let images: HashSet<Digest> = layout.images().into_iter().map(|image| image.digest).collect();
    // A name that stands there twice is one name.
    let mut seen = HashSet::new();
    let is_name = |entry: &&Descriptor| {
        images.contains(&entry.digest)
            && !entry.ref_name().is_some_and(is_attachment)
            && seen.insert((entry.digest.clone(), entry.ref_name().map(str::to_owned)))
    };
    let entries: Vec<&Descriptor> = layout.entries().iter().filter(is_name).collect();
    let ages: Vec<Age> = entries.iter().map(|entry| age(layout, entry)).collect();
    let going = entries.into_iter().zip(oldest::going(&ages, limits)).filter(|(_, going)| *going);
    let removal = |(entry, _): (&Descriptor, bool)| {
        Removal::outright(layout, entry, Names::Entry(entry.ref_name().map(str::to_owned)))
    };
    going.map(removal).collect()
}

/// Whether a name is what cosign gives to signatures and the like of an image: `sha256-HEX.sig`.
fn is_attachment(name: &str) -> bool {
    let hex = |name: &str| name.strip_prefix("sha256-").map(str::to_owned);
    let stem = name.split_once('.').and_then(|(stem, _)| hex(stem));
    stem.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// How old a name is; nothing is older than one whose manifest isn't there.
fn age(layout: &Layout, entry: &Descriptor) -> Age {
    let metadata = layout.folder().and_then(|folder| fs::metadata(folder.path(&entry.digest)).ok());
    let written = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
    Age {
        written: written.unwrap_or(SystemTime::UNIX_EPOCH),
        changed: metadata.as_ref().map_or(SystemTime::UNIX_EPOCH, blobs::changed),
    }
}

fn in_archive(path: &Path, cleaning: &Cleaning, is_stopped: impl FnOnce() -> bool) -> Result<Cleaned, Error> {
    let said = match &cleaning.source.place {
        Place::Path { said, .. } => *said,
        Place::StandardInput | Place::Engine { .. } => None,
    };
    let (archive, choice) = (Archive::open(path, said, &cleaning.temporary)?, &cleaning.source.choice);
    let removal = if archive.form() == Form::DockerArchive {
        let docker = DockerArchive::open(Arc::new(archive))?;
        archive::Removal::of_docker(&docker, docker.choose(choice)?)
    } else {
        let layout = Layout::in_archive(&archive)?;
        archive::Removal::outright(&archive, &layout, &layout.choose(choice)?.descriptor)
    };
    Ok(if cleaning.dry_run { archive::plan(&removal) } else { archive::clean(&removal, is_stopped) }?)
}

async fn in_engine(image: &str, cleaning: &Cleaning, cancel: &CancellationToken) -> Result<Cleaned, Error> {
    let finding = Engine::find(&cleaning.engine, &cleaning.access, image);
    let found = cancel.run_until_cancelled(finding).await;
    let (engine, image) = found.ok_or(Error::Interrupted { open: 0 })??;
    let name = image.named.as_deref();
    if cleaning.dry_run {
        return Ok(cleanup::engine::plan(&engine, &image, name, &[]).await?);
    }
    if name.is_none() && image.names.is_empty() {
        return Ok(cleanup::engine::unnamed(&engine, &image).await?);
    }
    Ok(cleanup::engine::clean(&engine, &image, name, &[], cancel).await?)
}
