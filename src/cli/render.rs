//! Words for people: sizes, blobs, errors, and what a run amounted to.

use ecr_push::cause::chain;
use ecr_push::error::Error;
use ecr_push::image::Role;
use ecr_push::report::{Cleanup, Report};
use indicatif::DecimalBytes;

/// A text without control characters but for the ends of lines: names and answers come from others.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
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
        Cleanup::NotAsked | Cleanup::Failed(_) => {}
        Cleanup::NotDone => {
            lines.push("clean-up: SOURCE is kept".to_owned());
        }
        Cleanup::Done(cleaned) => {
            if let Some(deleted) = cleaned.image {
                let names = cleaned.names.join(" ");
                lines.push(match (cleaned.names.is_empty(), deleted) {
                    (true, _) => "clean-up: the engine had nothing left to remove".to_owned(),
                    (false, true) => format!("clean-up: {names} gone from the engine, and the image with it"),
                    (false, false) => {
                        format!("clean-up: {names} gone from the engine; the image stays, for it has more names")
                    }
                });
                return lines;
            }
            if let Some(removed) = cleaned.file {
                let freed = size(cleaned.freed);
                lines.push(if removed {
                    format!("clean-up: the archive is removed; {freed} freed")
                } else {
                    "clean-up: standard input leaves nothing to remove".to_owned()
                });
                return lines;
            }
            let names = match cleaned.names.as_slice() {
                [] => String::new(),
                names => {
                    format!("{} gone, ", names.iter().map(|name| format!(":{name}")).collect::<Vec<_>>().join(" "))
                }
            };
            let folder = if cleaned.folder { " and the folder" } else { "" };
            let (blobs, freed) = (number(cleaned.blobs, "blob"), size(cleaned.freed));
            lines.push(format!("clean-up: {names}{blobs}{folder} removed; {freed} freed"));
        }
    }
    lines
}
