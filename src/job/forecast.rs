//! What a push would do from end to end, for `--dry-run`: SOURCE is read and compressed, registries are asked, and nothing is
//! written but the record of what layers become.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::make::Making;
use super::{Failure, Job, RECORD, Run, aside, both, root, within};
use crate::cleanup::Cleaned;
use crate::error::Error;
use crate::event::Reporter;
use crate::image::Image;
use crate::known::Known;
use crate::plan::{Target, targets};
use crate::push::forecast::{Forecast, forecast as of};
use crate::push::sessions::Sessions;
use crate::reach::{Registries, Tokens};
use crate::report::Root;

/// What a push would do.
#[derive(Debug)]
pub struct Foreseen {
    /// The image.
    pub root: Root,
    /// Each destination, in the order of the command line.
    pub destinations: Vec<DestinationForecast>,
    /// What the clean-up would remove, or why it would keep something; `None` where there would be none.
    pub cleanup: Option<Result<Cleaned, Error>>,
}

/// What would become of a destination, or why it can't be asked.
pub type DestinationForecast = Result<Forecast, (Target, Error)>;

impl Foreseen {
    /// The exit status: that of the first destination that would fail, else that of the clean-up.
    #[must_use]
    pub fn status(&self) -> u8 {
        let failed = self.destinations.iter().find_map(|destination| match destination {
            Ok(_) => None,
            Err((_, error)) => Some(error.status()),
        });
        let kept = self.cleanup.as_ref().and_then(|cleanup| cleanup.as_ref().err()).map(Error::status);
        failed.or(kept).unwrap_or(0)
    }
}

/// Says what a push would do.
///
/// # Errors
/// When nothing would be written anywhere; what would fail for single destinations is in what is foreseen.
pub async fn forecast(job: &Job, reporter: &Arc<dyn Reporter>, cancel: &CancellationToken) -> Result<Foreseen, Error> {
    let sessions = Sessions::default();
    let targets = targets(&job.destinations, &job.tags);
    let looking = async {
        let record = job.options.cache.clone().map(|folder| aside(move || Known::read(&folder)));
        let ((origin, making), (registries, tokens)) = both(job, &targets, reporter, cancel).await?;
        let known = match record {
            Some(record) => within(RECORD, record).await.unwrap_or_default(),
            None => Known::default(),
        };
        let run = Run { job, targets: &targets, known, sessions: &sessions, reporter };
        let (image, destinations) = run.forecast(making, registries, tokens).await?;
        let fails = destinations.iter().any(Result::is_err);
        let names = targets.iter().flat_map(|target| {
            target.tags.iter().map(|tag| format!("{}:{tag}", target.repository)).collect::<Vec<_>>()
        });
        let cleanup = if job.options.cleanup && !fails {
            Some(origin.plan(&names.collect::<Vec<_>>(), &job.options).await?.map_err(Error::Cleanup))
        } else {
            None
        };
        Ok(Foreseen { root: root(&image), destinations, cleanup })
    };
    tokio::select! {
        foreseen = Box::pin(looking) => foreseen,
        () = cancel.cancelled() => Err(Error::Interrupted { open: 0 }),
    }
}

impl Run<'_> {
    /// What would become of every target.
    async fn forecast(
        &self,
        mut making: Making,
        mut registries: Registries,
        tokens: Tokens,
    ) -> Result<(Image, Vec<DestinationForecast>), Error> {
        tokens.arrive(&mut registries).await?;
        let mut options = self.options(making.recipe());
        let image = if let Some(image) = making.image()? {
            image
        } else {
            let streamed = making.finish(&[], &options, self.sessions, self.reporter).await?;
            making.learn(self.job.options.cache.as_deref(), &streamed).await;
            if let Some(error) = streamed.refusal() {
                return Err(Error::Push(error));
            }
            making.image()?.ok_or(Error::Unmade)?
        };
        self.is_known(making.before(), &image)?;
        options.known = self.known.clone();
        let (destinations, mut failed) = self.destinations(&registries);
        let mut forecasts = of(&image, &destinations, &options, self.reporter).await.into_iter();
        let foreseen = self.targets.iter().filter_map(|target| {
            if let Some(failure) = failed.remove(&target.repository) {
                let error = match failure {
                    Failure::Unreached(error) => Error::Auth(error),
                    Failure::Push { error, .. } => Error::Push(error),
                };
                return Some(Err((target.clone(), error)));
            }
            let mut forecast = forecasts.next()?;
            Some(match forecast.error.take() {
                Some(error) => Err((target.clone(), Error::Push(error))),
                None => Ok(forecast),
            })
        });
        let foreseen = foreseen.collect();
        Ok((image, foreseen))
    }
}
