//! Removes an image's names from an engine, as `docker rmi` would: without force, and the image with its last name.
//!
//! Takes only names that the run named: SOURCE's, and those of destinations that the engine has for the same image. Other
//! names stay, and with them the image.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Cleaned, CleanupError};
use crate::source::engine::{Engine, EngineError, EngineImage, spelled};

/// How long an engine gets to answer a removal that is under way when the run is stopped. It does it all the same.
const LAST: Duration = Duration::from_secs(1);

/// Removes `source_name`, and those of `destinations` (`HOST/REPOSITORY:TAG`) that the engine has for `image`.
///
/// `source_name` is none for a SOURCE that was given by ID or digest. Of every name it is looked again right before it goes
/// whether it still is this image's. SOURCE's own goes last: while a container keeps the image it keeps that name.
///
/// # Errors
/// When a name can't be removed, or is another image's by now; those before it are gone then. When the image has no name that
/// the run named. When `cancel` was cancelled before the last name was gone.
pub async fn clean(
    engine: &Engine,
    image: &EngineImage,
    source_name: Option<&str>,
    destinations: &[String],
    cancel: &CancellationToken,
) -> Result<Cleaned, CleanupError> {
    let mut cleaned = Cleaned { image: Some(false), ..Cleaned::default() };
    let stopped = |cleaned, doubtful, left: &[&str]| {
        let left = left.iter().map(|name| (*name).to_owned()).collect();
        CleanupError::EngineInterrupted { cleaned, doubtful, left }
    };
    let names = match cancel.run_until_cancelled(engine.image(&image.id)).await {
        Some(Ok(now)) => now.names,
        // Somebody else was faster.
        Some(Err(EngineError::Gone { .. })) => return Ok(Cleaned { image: Some(true), ..cleaned }),
        Some(Err(error)) => return Err(kept(&image.id, cleaned, error)),
        None => return Err(stopped(cleaned, None, &[source_name.unwrap_or(&image.id)])),
    };
    let going = going(&names, source_name, destinations);
    if going.is_empty() && source_name.is_none() {
        return Err(CleanupError::Unnamed { id: image.id.clone(), names });
    }
    // A name of SOURCE's that isn't this image's any more is another's, or nobody's.
    let moved = source_name.filter(|name| spelled(name, &names).is_none());
    let going: Vec<&str> = going.into_iter().chain(moved).collect();
    for (at, name) in going.iter().copied().enumerate() {
        match cancel.run_until_cancelled(engine.image(name)).await {
            Some(Ok(now)) if now.id == image.id => {}
            Some(Ok(now)) => return Err(CleanupError::NameGiven { name: name.to_owned(), now: now.id, cleaned }),
            Some(Err(EngineError::Gone { .. })) => continue,
            Some(Err(error)) => return Err(kept(name, cleaned, error)),
            None => return Err(stopped(cleaned, None, &going[at..])),
        }
        let removal = tokio::select! {
            removal = engine.remove(name) => Some(removal),
            () = after(cancel) => None,
        };
        let Some(removal) = removal else {
            return Err(stopped(cleaned, Some(name.to_owned()), &going[at + 1..]));
        };
        match removal {
            Ok(removed) => {
                cleaned.image = Some(removed.deleted);
                cleaned.names.push(name.to_owned());
            }
            Err(EngineError::Gone { .. }) => {}
            Err(error) => return Err(kept(name, cleaned, error)),
        }
    }
    Ok(cleaned)
}

/// Removes an image that has no name, by its ID.
///
/// # Errors
/// When the engine keeps it.
pub async fn unnamed(engine: &Engine, image: &EngineImage) -> Result<Cleaned, CleanupError> {
    let cleaned = Cleaned { image: Some(false), ..Cleaned::default() };
    match engine.remove(&image.id).await {
        Ok(removed) => Ok(Cleaned { image: Some(removed.deleted), ..cleaned }),
        Err(EngineError::Gone { .. }) => Ok(Cleaned { image: Some(true), ..cleaned }),
        Err(error) => Err(kept(&image.id, cleaned, error)),
    }
}

/// What a removal of these names, or of an image without any, would do.
///
/// # Errors
/// When the image has names, and none of them is given; when a container uses it, and would keep it.
pub async fn plan(
    engine: &Engine,
    image: &EngineImage,
    source_name: Option<&str>,
    destinations: &[String],
) -> Result<Cleaned, CleanupError> {
    let going = going(&image.names, source_name, destinations);
    if going.is_empty() && !image.names.is_empty() {
        return Err(CleanupError::Unnamed { id: image.id.clone(), names: image.names.clone() });
    }
    let is_last = going.len() == image.names.len();
    if is_last {
        let name = going.last().copied().unwrap_or(&image.id);
        engine.is_unused(name).await.map_err(|error| kept(name, Cleaned::default(), error))?;
    }
    let names = going.into_iter().map(str::to_owned).collect();
    Ok(Cleaned { names, image: Some(is_last), ..Cleaned::default() })
}

/// Comes [`LAST`] after the run was stopped.
async fn after(cancel: &CancellationToken) {
    cancel.cancelled().await;
    tokio::time::sleep(LAST).await;
}

/// Those of an image's `names` that go: the destinations' and then SOURCE's, each once.
fn going<'a>(names: &'a [String], source_name: Option<&str>, destinations: &[String]) -> Vec<&'a str> {
    let source = source_name.and_then(|name| spelled(name, names));
    let mut going: Vec<&str> = Vec::new();
    for name in destinations.iter().filter_map(|name| spelled(name, names)) {
        if Some(name) != source && !going.contains(&name) {
            going.push(name);
        }
    }
    going.extend(source);
    going
}

fn kept(image: &str, cleaned: Cleaned, error: EngineError) -> CleanupError {
    CleanupError::Engine { image: image.to_owned(), cleaned, source: Box::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_named_goes() {
        let check = |names: &[&str], source: Option<&str>, destinations: &[&str], expected: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            let names = owned(names);
            assert_eq!(
                going(&names, source, &owned(destinations)),
                expected,
                "{source:?} {destinations:?} of {names:?}"
            );
        };
        let ecr = "1.dkr.ecr.example/app:v1";
        check(&["app:v1"], Some("app:v1"), &[ecr], &["app:v1"]);
        check(&["app:v1", ecr, "app:v2"], Some("app:v1"), &[ecr], &[ecr, "app:v1"]);
        check(&["app:latest", ecr], Some("app"), &[ecr, ecr], &[ecr, "app:latest"]);
        check(&["localhost/app:v1", ecr], Some("app:v1"), &[ecr], &[ecr, "localhost/app:v1"]);
        check(&[ecr], Some(ecr), &[ecr], &[ecr]);
        check(&["app:v1", ecr], None, &[ecr], &[ecr]);
        check(&["app:v1"], None, &[ecr], &[]);
        check(&["app:v2"], Some("app:v1"), &[ecr], &[]);
    }
}
