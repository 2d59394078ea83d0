//! Requests in words.

use local_ecr::{Answer, Entry, Side};

use super::image::Image;
use super::screen::size;

/// What a request asked for and what it got, in two columns behind its number.
pub(crate) fn line(number: usize, entry: &Entry, image: &Image) -> String {
    let (asked, got) = words(entry, image);
    format!("{number:>3}  {:<4}  {asked:<34}  {got}", entry.method)
}

fn words(entry: &Entry, image: &Image) -> (String, String) {
    if entry.side == Side::Api {
        let action = entry.actions.first().map_or("?", |action| action.trim_start_matches("ecr:"));
        let got = if entry.answer == Answer::Status(200) {
            "a password for the registry".to_owned()
        } else {
            entry.answer.to_string()
        };
        return (format!("ECR's API: {action}"), got);
    }
    let thing = match (&entry.tag, &entry.digest) {
        (Some(tag), _) => format!("tag {tag}"),
        (None, Some(digest)) => image.part(digest).map_or_else(|| digest.clone(), |part| part.what.clone()),
        (None, None) => "an upload".to_owned(),
    };
    let got = match (entry.method.as_str(), entry.answer) {
        ("HEAD", Answer::Status(404)) => "not there".to_owned(),
        ("HEAD", Answer::Status(200)) => "there".to_owned(),
        ("POST", Answer::Status(202)) => "session opened".to_owned(),
        ("PUT", Answer::Status(201)) => format!("written, {}", size(entry.bytes)),
        (_, answer) => answer.to_string(),
    };
    (thing, got)
}
