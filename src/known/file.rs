//! A file of a record: a line with the version, then a line for each thing known, the latest first.
//!
//! Bounded in lines, bytes and days. Written aside and renamed: whoever reads meanwhile finds the old file or the new one. What
//! makes no sense is not known, and nothing that goes wrong is anybody's concern but the developer's.

use std::collections::HashSet;
use std::fs::{self, DirBuilder};
use std::hash::Hash;
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::replace::{How, replace};

/// What nobody has seen for so many days is forgotten: repositories expire images, and asking for what is gone is a wasted
/// round trip.
pub(super) const MOST_DAYS: u64 = 45;

const DAY: Duration = Duration::from_hours(24);

/// The first line of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    version: u32,
}

/// A thing known, as a line.
pub(super) trait Line: Serialize + DeserializeOwned + PartialEq {
    /// The file's name in its folder.
    const FILE: &'static str;
    /// The version of the file's form. Another one is as good as no file.
    const VERSION: u32;
    /// The most lines that the file has, and the most bytes.
    const MOST_LINES: usize;
    /// The most bytes that it has.
    const MOST_BYTES: usize;
    /// What a file has one line of.
    type Key: Eq + Hash;

    /// What this is the line of.
    fn key(&self) -> Self::Key;
    /// The day on which it was last seen, since 1970.
    fn day(&self) -> u64;
}

/// The number of today.
pub(super) fn today() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / DAY.as_secs()
}

/// The lines of a file's text that make sense and are young enough.
pub(super) fn parse<L: Line>(text: &str, today: u64) -> impl Iterator<Item = L> {
    let mut lines = text.lines();
    let head = lines.next().and_then(|line| serde_json::from_str::<Head>(line).ok());
    let is_ours = head == Some(Head { version: L::VERSION });
    let parsed = lines.filter(move |_| is_ours).filter_map(|line| serde_json::from_str::<L>(line).ok());
    let is_fresh = move |line: &L| line.day().saturating_add(MOST_DAYS) >= today && line.day() <= today + 1;
    parsed.filter(is_fresh).take(L::MOST_LINES)
}

/// A file's text: within its bounds, the first lines first.
pub(super) fn text<L: Line>(lines: impl Iterator<Item = L>) -> String {
    let mut text = serde_json::to_string(&Head { version: L::VERSION }).unwrap_or_default() + "\n";
    for line in lines.take(L::MOST_LINES) {
        let line = serde_json::to_string(&line).unwrap_or_default();
        if text.len() + line.len() + 1 > L::MOST_BYTES {
            break;
        }
        text += &line;
        text.push('\n');
    }
    text
}

/// The text of the file in `folder`; nothing if it can't be read.
pub(super) fn read<L: Line>(folder: &Path) -> String {
    let path = folder.join(L::FILE);
    bounded(&path, L::MOST_BYTES).unwrap_or_else(|error| {
        tracing::debug!("{}: {error}", path.display());
        String::new()
    })
}

/// A file's text, if it is a regular file of a size that it may have: opening a FIFO would wait for its writer.
fn bounded(path: &Path, most: usize) -> io::Result<String> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > most as u64 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = String::new();
    fs::File::open(path)?.take(most as u64).read_to_string(&mut text)?;
    Ok(text)
}

/// Puts the file into `folder`, in the place of the one that is there.
pub(super) fn write<L: Line>(folder: &Path, text: &str) {
    if let Err(error) = put(folder, L::FILE, text) {
        tracing::debug!("{}: {error}", folder.join(L::FILE).display());
    }
}

/// Puts lines before those that the file in `folder` has, in the place of those of the same key. Of two who do so at once one
/// may lose what it learned, and will learn it again.
pub(super) fn learn<L: Line>(folder: &Path, lines: Vec<L>) {
    if let Some(text) = with(&read::<L>(folder), lines, today()) {
        write::<L>(folder, &text);
    }
}

/// A file's text with `lines` before the others; nothing if all of them are there already.
fn with<L: Line>(text_before: &str, lines: Vec<L>, today: u64) -> Option<String> {
    let before: Vec<L> = parse(text_before, today).collect();
    if lines.iter().all(|line| before.contains(line)) {
        return None;
    }
    let mut seen = HashSet::new();
    Some(text(lines.into_iter().chain(before).filter(|line| seen.insert(line.key()))))
}

fn put(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    replace(&folder.join(name), text.as_bytes(), How::Private)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: u64 = 20_000;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Thing {
        key: u32,
        value: String,
        day: u64,
    }

    impl Line for Thing {
        const FILE: &'static str = "things.jsonl";
        const VERSION: u32 = 3;
        const MOST_LINES: usize = 10;
        const MOST_BYTES: usize = 400;
        type Key = u32;

        fn key(&self) -> u32 {
            self.key
        }

        fn day(&self) -> u64 {
            self.day
        }
    }

    fn thing(key: u32, value: &str) -> Thing {
        Thing { key, value: value.to_owned(), day: TODAY }
    }

    fn shown(text: &str, today: u64) -> String {
        parse::<Thing>(text, today).map(|thing| format!("{}{} ", thing.key, thing.value)).collect()
    }

    #[test]
    fn the_latest_are_first_and_once_each() {
        let text = with("", vec![thing(1, "a"), thing(2, "b")], TODAY).unwrap();
        assert_eq!(shown(&text, TODAY), "1a 2b ");
        assert_eq!(with(&text, vec![thing(2, "b")], TODAY), None);
        assert_eq!(with(&text, Vec::<Thing>::new(), TODAY), None);
        let text = with(&text, vec![thing(2, "c"), thing(3, "d")], TODAY).unwrap();
        assert_eq!(shown(&text, TODAY), "2c 3d 1a ");
    }

    #[test]
    fn it_stays_small() {
        let text = with("", (0..20).map(|key| thing(key, "")).collect(), TODAY).unwrap();
        assert_eq!(shown(&text, TODAY), "0 1 2 3 4 5 6 7 8 9 ");
        let text = with("", (0..20).map(|key| thing(key, "0123456789012345678901234567890123456789")).collect(), TODAY);
        let text = text.unwrap();
        assert!(text.len() <= Thing::MOST_BYTES && text.len() > 300, "{}", text.len());
    }

    #[test]
    fn what_is_old_or_makes_no_sense_is_not_known() {
        let text = with("", vec![thing(1, "a")], TODAY).unwrap();
        for (on, expected) in
            [(TODAY + MOST_DAYS, "1a "), (TODAY + MOST_DAYS + 1, ""), (TODAY - 1, "1a "), (TODAY - 2, "")]
        {
            assert_eq!(shown(&text, on), expected, "{on}");
        }
        assert_eq!(shown(&text.replace("\"version\":3", "\"version\":4"), TODAY), "");
        assert_eq!(shown(&text.replace('\n', "\n[]\n\0\n"), TODAY), "1a ");
        assert_eq!(shown(&text[..text.len() - 5], TODAY), "");
        assert_eq!(shown("\0", TODAY), "");
    }

    #[test]
    fn files_are_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("made/when/needed");
        let today_is = |key| Thing { day: today(), ..thing(key, "a") };
        learn(&cache, vec![today_is(1)]);
        learn(&cache, vec![today_is(2)]);
        assert_eq!(shown(&read::<Thing>(&cache), today()), "2a 1a ");
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
        // Somebody else's matter in its place: not read, not waited for, and nobody hears of it.
        fs::remove_file(cache.join(Thing::FILE)).unwrap();
        fs::create_dir(cache.join(Thing::FILE)).unwrap();
        learn(&cache, vec![today_is(3)]);
        assert_eq!(read::<Thing>(&cache), "");
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
        fs::remove_dir(cache.join(Thing::FILE)).unwrap();
        fs::write(cache.join(Thing::FILE), "x".repeat(Thing::MOST_BYTES + 1)).unwrap();
        assert_eq!(read::<Thing>(&cache), "");
    }
}
