//! Compresses what has to be, before the image is known. What it becomes the record may know; else it goes to the registries
//! while that is found out.

use std::path::Path;
use std::sync::Arc;

use super::draft::{Draft, Layers, held, repacked};
use super::{RECORD, aside, within};
use crate::compress::Made;
use crate::error::Error;
use crate::event::{Event, Reporter};
use crate::image::{Content, Image, Raw};
use crate::known::{self, layers::Layers as Record};
use crate::oci::digest::Digest;
use crate::push::sessions::Sessions;
use crate::push::streams::{self, Recipe, Streamed, Supply};
use crate::push::{Destination, PushOptions};
use crate::repack::{RepackError, Repacked};

/// Layers up to this size, in bytes, are compressed in memory and sent as other blobs are: asked for before, in two requests.
const SMALL: u64 = 1024 * 1024;

/// All of these together, in bytes: memory stays flat.
const SMALL_TOTAL: u64 = 16 * 1024 * 1024;

/// An image on its way to be known.
#[derive(Debug)]
pub(super) struct Making {
    draft: Draft,
    recipe: Recipe,
    raws: Vec<Arc<Raw>>,
    layers: Layers,
}

impl Making {
    /// Takes in what can be known without sending anything: small layers, and what the record says. Blocks.
    pub(super) fn begin(draft: Draft, all: bool, recipe: Recipe, record: &Record) -> Result<Self, Error> {
        let raws = draft.raws(all)?;
        let (mut layers, mut total) = (Layers::new(), 0);
        let name = recipe.compression.recipe();
        for raw in &raws {
            let layer = if raw.content.is_some() && raw.size <= SMALL && total + raw.size <= SMALL_TOTAL {
                total += raw.size;
                // What is wrong with it is said where all such layers are made.
                streams::whole(raw, &recipe).ok().map(|(made, bytes)| held(&recipe.compression, &made, bytes))
            } else {
                let known = record.known(&raw.diff_id, &name);
                known.map(|(digest, size)| repacked(raw, &recipe.compression, digest, size))
            };
            layers.extend(layer.map(|layer| (raw.digest.clone(), layer)));
        }
        Ok(Self { draft, recipe, raws, layers })
    }

    /// The image, once all of its layers are known.
    pub(super) fn image(&self) -> Result<Option<Image>, Error> {
        if !self.unknown().is_empty() {
            // A manifest can be rewritten with some of its layers, and would be another one.
            return Ok(None);
        }
        self.draft.image(&self.layers).transpose().map_err(Error::from)
    }

    /// The digest that the image has in SOURCE, if it has one there.
    pub(super) fn before(&self) -> Option<&Digest> {
        self.draft.root()
    }

    /// How layers are made.
    pub(super) fn recipe(&self) -> Recipe {
        self.recipe.clone()
    }

    /// How many blobs there will be.
    pub(super) fn blobs(&self) -> usize {
        self.draft.blobs()
    }

    /// Forgets what the record said.
    pub(super) fn forget(&mut self) {
        self.layers.retain(|_, layer| !matches!(layer.content, Content::Made(_)));
        if let Supply::Export(exporter) = &mut self.recipe.supply {
            exporter.forget();
        }
    }

    /// Layers that nobody knows yet.
    fn unknown(&self) -> Vec<Arc<Raw>> {
        self.raws.iter().filter(|raw| !self.layers.contains_key(&raw.digest)).cloned().collect()
    }

    /// Makes what isn't known yet, and brings it to these destinations meanwhile.
    pub(super) async fn finish(
        &mut self,
        destinations: &[Destination],
        options: &PushOptions,
        sessions: &Sessions,
        reporter: &Arc<dyn Reporter>,
    ) -> Result<Streamed, Error> {
        let unknown = self.unknown();
        if let (Supply::Export(exporter), true) = (&self.recipe.supply, unknown.is_empty()) {
            // All layers are known from elsewhere, and only the config is lacking.
            exporter.listen().await.map_err(RepackError::Export)?;
            self.draft.hear(&exporter.heard())?;
            return Ok(Streamed::default());
        }
        let bytes = match &self.draft {
            Draft::Docker(docker) if docker.config.is_none() => docker.size,
            _ => unknown.iter().map(|raw| raw.size).sum(),
        };
        reporter.report(&Event::Compressing { layers: unknown.len(), bytes, destinations: destinations.len() });
        let streamed = streams::make(unknown, destinations, options, sessions, reporter).await;
        for raw in &self.raws {
            if let Some(made) = streamed.made.get(&raw.digest) {
                let layer = repacked(raw, &self.recipe.compression, made.digest.clone(), made.size);
                self.layers.insert(raw.digest.clone(), layer);
            }
        }
        if let (Supply::Export(exporter), true) = (&self.recipe.supply, self.unknown().is_empty()) {
            self.draft.hear(&exporter.heard())?;
        }
        Ok(streamed)
    }

    /// Notes for the next push what layers have become, and what an export told.
    pub(super) async fn learn(&self, cache: Option<&Path>, streamed: &Streamed) {
        let Some(folder) = cache.map(Path::to_owned) else { return };
        let recipe = self.recipe.compression.recipe();
        let layers = streamed.made.values().map(|made| {
            let Made { digest, size, diff_id, .. } = made.clone();
            known::layers::Layer { diff_id, recipe: recipe.clone(), digest, size }
        });
        // An engine may have them, too, and gives nothing in memory.
        let held = self.raws.iter().filter_map(|raw| {
            let Repacked { digest, size, content: Content::Held(_), .. } = self.layers.get(&raw.digest)?.clone() else {
                return None;
            };
            Some(known::layers::Layer { diff_id: raw.diff_id.clone(), recipe: recipe.clone(), digest, size })
        });
        let layers: Vec<_> = layers.chain(held).collect();
        let members = match &self.recipe.supply {
            Supply::Export(exporter) => exporter.heard().names.into_iter().collect(),
            Supply::AtHand => Vec::new(),
        };
        let config = self.draft.heard_config();
        let learning = aside(move || {
            known::layers::learn(&folder, &layers);
            if !members.is_empty() {
                known::members::learn(&folder, &members);
            }
            if let Some(config) = config {
                known::configs::learn(&folder, &config);
            }
        });
        within(RECORD, learning).await;
    }
}
