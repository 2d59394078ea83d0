//! Words for people: sizes, blobs, errors, and what a run amounted to.

use ecr_push::cause::chain;
use ecr_push::cleanup::{Cleaned, Kept};
use ecr_push::error::Error;
use ecr_push::image::Role;
use ecr_push::report::{Cleanup, Report};
use indicatif::DecimalBytes;

/// A text without control characters but for the ends of lines: names and answers come from others.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c != '\n' && is_control(c) { '\u{fffd}' } else { c }).collect()
}

/// The same in one line.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if is_control(c) { '\u{fffd}' } else { c }).collect()
}

/// Whether a character moves others: what controls a terminal, and what turns the direction of text (Unicode, UAX #9).
fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A number of bytes.
pub(super) fn size(bytes: u64) -> String {
    DecimalBytes(bytes).to_string()
}

/// `1 blob`, `2 blobs`.
pub(super) fn number(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What a blob is in its image.
pub(super) fn role(role: Role) -> String {
    match role {
        Role::Config => "config".to_owned(),
        Role::Layer { number, of } => format!("layer {number}/{of}"),
    }
}

/// The lines for an error: what failed, and what to do next.
pub(super) fn error(subject: Option<&str>, error: &Error) -> Vec<String> {
    let text = chain(error);
    // Many errors name their destination themselves.
    let subject = subject.filter(|subject| !text.contains(subject)).map(|subject| format!("{subject}: "));
    let mut lines = vec![format!("error: {}{text}", subject.unwrap_or_default())];
    lines.extend(error.hint().map(|hint| format!("  next: {hint}")));
    lines
}

/// The lines for an error after something succeeded, which the next step begins with.
pub(super) fn error_after(done: &str, subject: &str, error: &Error) -> Vec<String> {
    let mut lines = self::error(Some(subject), error);
    if let (Some(last), Some(hint)) = (lines.last_mut(), error.hint()) {
        *last = format!("  next: {done}; {hint}");
    }
    lines
}

/// The lines for a clean-up that a signal interrupted.
pub(super) fn interruption(error: &Error) -> Vec<String> {
    match error {
        Error::Interrupted { .. } => vec!["interrupted: the image was pushed, and SOURCE is untouched".to_owned()],
        error => {
            let hint = error.hint().map(|hint| format!("  next: {hint}"));
            [format!("interrupted: {}", chain(error))].into_iter().chain(hint).collect()
        }
    }
}

/// The lines that say what a push amounted to, on standard error.
pub(super) fn summary(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for destination in report.destinations.iter().filter(|destination| destination.error.is_none()) {
        let (uploaded, present) = (destination.uploaded, destination.present);
        let mounted = match destination.mounted.number {
            0 => String::new(),
            mounted => format!("{mounted} mounted ({}), ", size(destination.mounted.bytes)),
        };
        let tags: String = destination.tags.iter().map(|(tag, _)| format!(" :{tag}")).collect();
        lines.push(format!(
            "pushed {}{tags}: {} uploaded ({}), {mounted}{} there already",
            destination.repository,
            number(uploaded.number, "blob"),
            size(uploaded.bytes),
            number(present.number, "blob"),
        ));
    }
    match &report.cleanup {
        Cleanup::NotAsked | Cleanup::Failed(_) | Cleanup::Interrupted { .. } => {}
        Cleanup::NotDone => {
            lines.push("clean-up: SOURCE is kept".to_owned());
        }
        Cleanup::Done(done) => lines.push(cleaned(done, false)),
    }
    lines
}

/// The line that says what a clean-up removed; or, in a dry run, would remove.
pub(super) fn cleaned(cleaned: &Cleaned, dry_run: bool) -> String {
    let (head, gone, is_gone, removed, freed) = if dry_run {
        ("dry run", "would be gone", "would be gone", "would be removed", "would be freed")
    } else {
        ("clean-up", "gone", "is gone", "removed", "freed")
    };
    if let Some(deleted) = cleaned.image {
        let names = cleaned.names.join(" ");
        return match (cleaned.names.is_empty(), deleted) {
            (true, true) => format!("{head}: the image {is_gone} from the engine"),
            (true, false) => format!("{head}: the engine had nothing left to remove"),
            (false, true) => format!("{head}: {names} {gone} from the engine, and the image with it"),
            (false, false) => format!("{head}: {names} {gone} from the engine; the image stays, for it has more names"),
        };
    }
    let bytes = size(cleaned.freed);
    match cleaned.file {
        Some(true) => {
            return format!("{head}: the archive {}{removed}; {bytes} {freed}", if dry_run { "" } else { "is " });
        }
        Some(false) => return format!("{head}: standard input leaves nothing to remove"),
        None => {}
    }
    if cleaned.names.is_empty() && cleaned.images.is_empty() && cleaned.blobs == 0 && !cleaned.folder {
        return format!("{head}: nothing to remove");
    }
    let unnamed = cleaned.images.iter().filter(|image| image.names.is_empty());
    let unnamed = unnamed.map(|image| format!("@{}", image.digest.short()));
    let names: Vec<String> = cleaned.names.iter().map(|name| format!(":{}", one_line(name))).chain(unnamed).collect();
    let names = if names.is_empty() { String::new() } else { format!("{} {gone}, ", names.join(" ")) };
    let stays = match &cleaned.kept {
        None => String::new(),
        Some(Kept::MountPoint) => "; the folder stays: it is a mount point, or has one".to_owned(),
        Some(Kept::Holds(path)) => format!("; the folder stays: {} is in it", one_line(&path.display().to_string())),
    };
    if cleaned.blobs == 0 && !cleaned.folder {
        return format!("{head}: {names}and no blob {removed}{stays}");
    }
    let orphans = match cleaned.orphans {
        0 => String::new(),
        orphans => format!(" ({orphans} that nothing named)"),
    };
    let folder = if cleaned.folder { " and the folder" } else { "" };
    format!("{head}: {names}{}{orphans}{folder} {removed}; {bytes} {freed}{stays}", number(cleaned.blobs, "blob"))
}
