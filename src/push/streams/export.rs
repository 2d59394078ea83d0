//! Layers that pass by in an engine's export: each is made when it comes, or never.
//!
//! The export is a tar that nobody may go back in, and no part of it is kept but documents. Docker up to 24 doesn't say in a
//! layer's name which one it is; such a layer is sent before that is known, and its session is cancelled if nobody lacked it.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::stream::{self, FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};

use super::making::Making;
use super::{AT_ONCE, Created, Ended, Feed, MakeError, Pending, Place, Round, Streams, Wanted, Way};
use crate::cause::Cause;
use crate::compress::Made;
use crate::image::{Raw, Role};
use crate::known::members::Members;
use crate::oci::digest::{Algorithm, Digest};
use crate::source::engine::Engine;
use crate::source::listing::{self, DOCUMENT, KEPT, is_document, too_many};

/// How an engine exports one image.
#[derive(Debug, Clone)]
pub struct Exporter {
    engine: Engine,
    image: String,
    /// The layers that the image has.
    layers: Arc<HashSet<Digest>>,
    /// Which layer a member of an earlier export turned out to be.
    names: Arc<Members>,
    heard: Arc<Mutex<Heard>>,
    /// Whether every member's name tells what it is, and others are nobody's layer.
    named: bool,
}

/// What exports told beside layers.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Documents, by their names.
    pub documents: HashMap<String, Bytes>,
    /// Layers that were told only by their content, by their names.
    pub names: HashMap<String, Digest>,
}

impl Exporter {
    /// Exports the image of that ID, which has these layers; `names` is what earlier exports told.
    #[must_use]
    pub fn new(engine: Engine, image: &str, layers: &[Digest], names: Members) -> Self {
        Self {
            engine,
            image: image.to_owned(),
            layers: Arc::new(layers.iter().cloned().collect()),
            names: Arc::new(names),
            heard: Arc::default(),
            named: false,
        }
    }

    /// Exports of which it is known that they are layouts, with blobs under their digests.
    #[must_use]
    pub fn of_a_layout(self) -> Self {
        Self { named: true, ..self }
    }

    /// Listens to an export in which no layer is lacking, for its documents.
    ///
    /// # Errors
    /// When the engine gives none, or it breaks off.
    pub async fn listen(&self) -> Result<(), Cause> {
        let export = self.engine.export(&self.image).await.map_err(Cause::new)?;
        let (passing, mut members) = mpsc::channel(1);
        let exporter = self.clone();
        let thread = tokio::task::spawn_blocking(move || walk(export, &passing, &exporter));
        // Whoever gets no answer passes by.
        while members.recv().await.is_some() {}
        thread.await.map_err(Cause::new)?.map_err(Cause::new)
    }

    /// What was heard so far.
    #[must_use]
    pub fn heard(&self) -> Heard {
        self.lock().clone()
    }

    /// Forgets what earlier exports told.
    pub fn forget(&mut self) {
        self.names = Arc::default();
    }

    /// Which layer a member is, if it was one of this image's in an earlier export.
    fn recorded(&self, name: &str) -> Option<&Digest> {
        self.names.diff_id(name).filter(|digest| self.layers.contains(*digest))
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        lock(&self.heard)
    }

    /// Which layer a member is, if its name says so: Podman and Docker since 25 call it after its content.
    fn layer(&self, name: &str) -> Option<Digest> {
        if let Some(known) = self.lock().names.get(name).or_else(|| self.recorded(name)) {
            return Some(known.clone());
        }
        let file = name.rsplit('/').next().unwrap_or(name);
        let digest = Digest::parse(&format!("sha256:{}", file.strip_suffix(".tar").unwrap_or(file))).ok()?;
        self.layers.contains(&digest).then_some(digest)
    }
}

/// A layer that passes by.
struct Member {
    name: String,
    size: u64,
    give: oneshot::Sender<Making>,
    made: oneshot::Receiver<Result<Option<Made>, MakeError>>,
}

/// Sessions that were opened before a layer passes, by the layer's number.
type Held = HashMap<usize, Vec<Result<Place, Ended>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of one that passed.
enum Passed {
    /// Of the layer of this number.
    Known(usize, Round),
    /// It was none of those that are lacking, or nobody knows which one.
    Unknown(Vec<(usize, Ended)>),
}

impl<'a> Streams<'a> {
    /// One round, with what an engine exports.
    pub(super) async fn export(&self, exporter: &Exporter, pending: &[Pending<'a>], created: &Created) -> Vec<Round> {
        let mut rounds: Vec<Option<Round>> = pending.iter().map(|_| None).collect();
        let left: HashMap<&Digest, usize> =
            pending.iter().enumerate().map(|(at, layer)| (&layer.wanted.raw.digest, at)).collect();
        let left = Mutex::new(left);
        let held = self.see_to(pending, &left, created, &mut rounds).await;
        if lock(&left).is_empty() {
            // An engine takes its time for an export, and nothing of it is lacking.
            return rounds.into_iter().flatten().collect();
        }
        let mut unknown: HashMap<usize, Ended> = HashMap::new();
        let failure = match exporter.engine.export(&exporter.image).await {
            Ok(export) => {
                let (passing, mut members) = mpsc::channel(1);
                let heard = exporter.clone();
                let thread = tokio::task::spawn_blocking(move || walk(export, &passing, &heard));
                let mut flying = FuturesUnordered::new();
                let mut over = false;
                loop {
                    let passed = tokio::select! {
                        member = members.recv(), if !over => {
                            match member {
                                Some(member) => flying.push(self.pass(exporter, pending, (&left, &held), created, member)),
                                None => over = true,
                            }
                            continue;
                        }
                        passed = flying.next(), if !flying.is_empty() => passed,
                        else => break,
                    };
                    match passed {
                        Some(Passed::Known(at, round)) => rounds[at] = Some(round),
                        Some(Passed::Unknown(ended)) => {
                            unknown.extend(ended.into_iter().filter(|(_, ended)| ended.is_failure()));
                        }
                        None => {}
                    }
                }
                match thread.await {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(Arc::new(Cause::new(error))),
                    Err(lost) => Some(Arc::new(Cause::new(lost))),
                }
            }
            Err(error) => Some(Arc::new(Cause::new(error))),
        };
        for place in held.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().flatten().flatten() {
            self.close(place, false).await;
        }
        let doubtful: HashSet<usize> = unknown.keys().copied().collect();
        let mut missed = |layer| self.missed(layer, failure.as_ref(), &doubtful, &mut unknown);
        rounds.into_iter().zip(pending).map(|(round, layer)| round.unwrap_or_else(|| missed(layer))).collect()
    }

    /// Opens sessions for layers of which it is known what they become, before the engine is asked for anything: they may all
    /// be there, or be mounted.
    async fn see_to(
        &self,
        pending: &[Pending<'a>],
        left: &Mutex<HashMap<&Digest, usize>>,
        created: &Created,
        rounds: &mut [Option<Round>],
    ) -> Mutex<Held> {
        let mut held = Held::new();
        if matches!(self.way, Way::Blind(_)) {
            return Mutex::new(held);
        }
        let opening = stream::iter(pending.iter().enumerate()).map(async |(at, layer)| {
            let Wanted { raw, blob, .. } = &layer.wanted;
            (at, self.open_all(&layer.targets(), raw, *blob, created).await)
        });
        let opened: Vec<_> = opening.buffer_unordered(AT_ONCE).collect().await;
        for (at, places) in opened {
            if places.iter().any(Result::is_ok) {
                held.insert(at, places);
                continue;
            }
            lock(left).remove(&pending[at].wanted.raw.digest);
            rounds[at] = Some(Round { made: Ok(None), ended: places.into_iter().filter_map(Result::err).collect() });
        }
        Mutex::new(held)
    }

    /// Sends what passes by where it is lacking.
    async fn pass(
        &self,
        exporter: &Exporter,
        pending: &[Pending<'a>],
        (left, held): (&Mutex<HashMap<&Digest, usize>>, &Mutex<Held>),
        created: &Created,
        member: Member,
    ) -> Passed {
        let Member { name, size, give, made } = member;
        let take = |digest: &Digest| lock(left).remove(digest);
        let feed = Feed::Passing(give, made);
        if let Some(digest) = exporter.layer(&name) {
            let Some(at) = take(&digest) else { return Passed::Unknown(Vec::new()) };
            let layer = &pending[at];
            let raw = Arc::new(Raw { size, ..(*layer.wanted.raw).clone() });
            let (blob, places) = (layer.wanted.blob, lock(held).remove(&at));
            let mut carried = self.carry(&raw, blob, Some(&raw.diff_id), &layer.targets(), places, created, feed).await;
            if exporter.recorded(&name).is_some()
                && let Err(error) = &carried.made
                && let MakeError::Content { layer, expected, found } = &**error
            {
                // It is the record that is wrong, and not the image.
                let (layer, expected, found) = (layer.clone(), expected.clone(), found.clone());
                carried.made = Err(Arc::new(MakeError::Record { layer, expected, found }));
            }
            return Passed::Known(at, self.settle(carried, &raw, |_| true).await);
        }
        if exporter.named {
            return Passed::Unknown(Vec::new());
        }
        let waiting: Vec<usize> = left.lock().unwrap_or_else(PoisonError::into_inner).values().copied().collect();
        let mut targets: Vec<usize> = waiting.iter().flat_map(|at| pending[*at].targets()).collect();
        targets.sort_unstable();
        targets.dedup();
        if waiting.is_empty() {
            return Passed::Unknown(Vec::new());
        }
        let folder = name.rsplit('/').nth(1).unwrap_or(&name);
        let digest = Digest::parse(&format!("sha256:{folder}"))
            .unwrap_or_else(|_| Digest::of(Algorithm::Sha256, name.as_bytes()));
        let role = Role::Layer { number: pending.len() - waiting.len() + 1, of: exporter.layers.len() };
        let raw = Arc::new(Raw { digest: digest.clone(), diff_id: digest, size, role, content: None, as_is: false });
        let carried = self.carry(&raw, None, None, &targets, None, created, feed).await;
        let found = match &carried.made {
            Ok(Some(made)) => {
                exporter.lock().names.insert(name, made.diff_id.clone());
                take(&made.diff_id)
            }
            _ => None,
        };
        if let Some(at) = found {
            let theirs = pending[at].targets();
            let Round { made, ended } = self.settle(carried, &raw, |target| theirs.contains(&target)).await;
            let ended = targets.iter().zip(ended).filter(|(target, _)| theirs.contains(target));
            return Passed::Known(at, Round { made, ended: ended.map(|(_, ended)| ended).collect() });
        }
        let ended = self.settle(carried, &raw, |_| false).await.ended;
        Passed::Unknown(targets.into_iter().zip(ended).collect())
    }

    /// A layer that didn't pass: because something that passed may have been it and failed, because the export broke off, or
    /// because it isn't there.
    fn missed(
        &self,
        layer: &Pending<'a>,
        failure: Option<&Arc<Cause>>,
        doubtful: &HashSet<usize>,
        unknown: &mut HashMap<usize, Ended>,
    ) -> Round {
        let targets = layer.targets();
        let stopped = !targets.is_empty() && targets.iter().all(|target| self.stops.is_stopped(*target));
        if stopped || failure.is_none() && targets.iter().any(|target| doubtful.contains(target)) {
            // What failed is told once, for one of the layers that it may have been.
            let ended = targets.iter().map(|target| match unknown.remove(target) {
                Some(ended) => ended,
                None if self.stops.is_stopped(*target) => Ended::Stopped,
                None => Ended::NotReached,
            });
            return Round { made: Ok(None), ended: ended.collect() };
        }
        let digest = layer.wanted.raw.digest.clone();
        let error = Arc::new(match failure {
            Some(source) => MakeError::Engine { layer: digest, source: source.clone() },
            None => MakeError::NotExported { layer: digest },
        });
        let ended = targets.iter().map(|target| {
            self.stops.stop(*target);
            Ended::Failed(super::UploadError::Make(error.clone()))
        });
        Round { ended: ended.collect(), made: Err(error.clone()) }
    }
}

/// Reads an export to its end: hands over every layer, and keeps documents. Blocks.
fn walk(export: impl Read, passing: &mpsc::Sender<Member>, exporter: &Exporter) -> io::Result<()> {
    let mut archive = tar::Archive::new(export);
    let mut kept = 0;
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            // Links lead to what passes under its own name.
            continue;
        }
        let name = listing::name(&entry.path_bytes());
        let size = entry.size();
        let mut first = Vec::new();
        if size <= DOCUMENT && is_document(&mut entry, &mut first)? {
            kept += first.len();
            if kept > KEPT {
                return Err(too_many());
            }
            exporter.lock().documents.insert(name, first.into());
            continue;
        }
        // Docker up to 24 writes a file with a version number beside each layer.
        if size < 512 {
            continue;
        }
        let ((give, given), (tell, made)) = (oneshot::channel(), oneshot::channel());
        if passing.blocking_send(Member { name, size, give, made }).is_err() {
            return Ok(());
        }
        if let Ok(making) = given.blocking_recv() {
            let _ = tell.send(Making::run(making, io::Cursor::new(first).chain(entry)));
        }
    }
    Ok(())
}
