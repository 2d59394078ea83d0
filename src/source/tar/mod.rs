//! An index of an uncompressed tar: which member lies where. Read once, header by header; no member is ever unpacked.
//!
//! What two readers of a tar could understand differently is refused, with the place in the file: an image that was looked
//! at with one tool must be the image that is pushed. The headers' fields are the `tar` crate's; the way from one to the next
//! is walked here, since that crate reads an extension of any size into memory and cuts a number's upper bytes off.

mod extension;
mod flaw;
mod header;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::extension::Extensions;
pub use self::flaw::{Flaw, TarError};
use self::header::{BLOCK, Header, What, sums_up};
use crate::image::Part;

/// Members that an archive may have: images have some hundred at most, and memory stays bounded.
pub const MAX_MEMBERS: usize = 250_000;

/// All their names and links together, in bytes.
pub const MAX_NAMES: usize = 32 * 1024 * 1024;

/// The longest name, in bytes: what a path may have on Linux.
pub const MAX_NAME: usize = 4096;

/// Links from one to the next: `docker save` writes one, hard links to it make two.
const MAX_LINKS: usize = 8;

/// A member of a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    /// Where its header begins.
    offset: u64,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Bytes, and where they begin.
    File {
        offset: u64,
        length: u64,
    },
    /// The name of another member; `None` leads out of the archive.
    Link {
        typed: String,
        target: Option<String>,
    },
    Folder,
    /// A device or a FIFO.
    Special(&'static str),
}

/// The members of a tar, by name: without `./` in front.
#[derive(Debug, Clone)]
pub struct TarIndex {
    file: Arc<File>,
    path: PathBuf,
    members: BTreeMap<String, Member>,
}

impl TarIndex {
    /// Reads the index of a tar; `path` is what it is called, for people.
    ///
    /// # Errors
    /// When it isn't a sound tar, with the place in the file.
    pub fn read(file: Arc<File>, path: &Path) -> Result<Self, TarError> {
        let mut index = Self { file, path: path.to_owned(), members: BTreeMap::new() };
        let mut reading = Reading { names: 0, offset: 0, end: 0 };
        reading.end = index.file.metadata().map_err(|source| index.error(0, Flaw::Unreadable(source)))?.len();
        while index.member(&mut reading)? {}
        if index.members.is_empty() {
            return Err(index.error(0, Flaw::NoMember));
        }
        index.refuse_what_lies_below_a_file()?;
        Ok(index)
    }

    /// What the file is called.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// The names of all members, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Whether there is a member of that name, whatever it is.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// Where the header of a member begins in the file.
    #[must_use]
    pub fn offset(&self, name: &str) -> Option<u64> {
        self.members.get(name).map(|member| member.offset)
    }

    /// Whether there is a folder of that name.
    #[must_use]
    pub fn is_folder(&self, name: &str) -> bool {
        matches!(self.members.get(name), Some(Member { kind: Kind::Folder, .. }))
    }

    /// The bytes of a member, be it a link to another; none if there is no such member.
    ///
    /// # Errors
    /// When it is a folder or a device, or a link that leads out, nowhere, or round and round.
    pub fn part(&self, name: &str) -> Result<Option<Part>, TarError> {
        let Some(first) = self.members.get(name) else { return Ok(None) };
        let at_first = |flaw| Err(self.error(first.offset, flaw));
        let mut member = first;
        for _ in 0..=MAX_LINKS {
            match &member.kind {
                Kind::File { offset, length } => {
                    let (file, path) = (self.file.clone(), self.path.clone());
                    return Ok(Some(Part { file, path, offset: *offset, length: *length }));
                }
                Kind::Folder => return at_first(Flaw::NotAFile { name: name.to_owned(), kind: "a folder" }),
                Kind::Special(kind) => return at_first(Flaw::NotAFile { name: name.to_owned(), kind }),
                Kind::Link { typed, target } => {
                    let lost = |flaw: fn(String, String) -> Flaw| at_first(flaw(name.to_owned(), typed.clone()));
                    let Some(target) = target else {
                        return lost(|name, target| Flaw::LinkOut { name, target });
                    };
                    let Some(next) = self.members.get(target) else {
                        return lost(|name, target| Flaw::LinkToNothing { name, target });
                    };
                    member = next;
                }
            }
        }
        at_first(Flaw::LinksWithoutEnd { name: name.to_owned() })
    }

    /// The content of a small member; none if there is no such member.
    ///
    /// # Errors
    /// As [`TarIndex::part`], and when it has more than `most` bytes or can't be read.
    pub fn content(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, TarError> {
        let Some(part) = self.part(name)? else { return Ok(None) };
        let at = self.offset(name).unwrap_or(part.offset);
        let length = part.length;
        let Some(length) = usize::try_from(length).ok().filter(|_| length <= most) else {
            return Err(self.error(at, Flaw::TooLarge { name: name.to_owned(), size: length, most }));
        };
        let mut bytes = vec![0; length];
        let read = part.fill(&mut bytes, 0).map_err(|source| self.error(at, Flaw::Unreadable(source)))?;
        if read < length { Err(self.error(at, Flaw::Shrank)) } else { Ok(Some(bytes)) }
    }

    /// Sees that every link leads to a file in the archive, or at least to nothing outside of it.
    ///
    /// # Errors
    /// When one leads out, or round and round.
    pub fn check_links(&self) -> Result<(), TarError> {
        let links = self.members.iter().filter(|(_, member)| matches!(member.kind, Kind::Link { .. }));
        for (name, _) in links {
            match self.part(name) {
                Err(TarError { flaw: Flaw::NotAFile { .. } | Flaw::LinkToNothing { .. }, .. }) | Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Something that is wrong at a place in the file.
    #[must_use]
    pub fn error(&self, offset: u64, flaw: Flaw) -> TarError {
        TarError { path: self.path.clone(), offset, flaw }
    }

    /// Reads the next member and says whether there was one.
    fn member(&mut self, reading: &mut Reading) -> Result<bool, TarError> {
        let mut extensions = Extensions::default();
        loop {
            let at = reading.offset;
            let error = |flaw| TarError { path: self.path.clone(), offset: at, flaw };
            let Some(block) = reading.block(&self.file).map_err(error)? else {
                return if extensions.is_empty() { Ok(false) } else { Err(error(Flaw::NoMemberFollows)) };
            };
            let header = Header::read(&block).map_err(error)?;
            if header.what.is_extension() {
                let bytes = reading.extension(&self.file, header.size).map_err(error)?;
                extensions.add(header.what, &bytes).map_err(error)?;
                continue;
            }
            let name = normal(extensions.name.as_deref().unwrap_or(&header.name)).map_err(error)?;
            let size = extensions.size.unwrap_or(header.size);
            let link = extensions.link.take().unwrap_or(header.link);
            let data = reading.data(size).map_err(error)?;
            if size > 0 && header.what != What::File {
                return Err(error(Flaw::DataOfNoFile { name, size }));
            }
            let kind = match header.what {
                What::Folder => Kind::Folder,
                What::Special(kind) => Kind::Special(kind),
                What::File => Kind::File { offset: data, length: size },
                What::HardLink => Kind::Link { target: link_target("", &link), typed: text(&link) },
                What::SymbolicLink => Kind::Link { target: link_target(&name, &link), typed: text(&link) },
                What::LongName | What::LongLink | What::Pax | What::PaxGlobal => continue,
            };
            reading.names += name.len() + if let Kind::Link { typed, .. } = &kind { 2 * typed.len() } else { 0 };
            self.insert(at, name, kind, reading.names)?;
            return Ok(true);
        }
    }

    fn insert(&mut self, offset: u64, name: String, kind: Kind, names: usize) -> Result<(), TarError> {
        if name.is_empty() {
            // `./`, the folder that everything is in.
            let is_root = kind == Kind::Folder;
            return if is_root { Ok(()) } else { Err(self.error(offset, Flaw::Name { name, why: "it is empty" })) };
        }
        if self.members.len() >= MAX_MEMBERS || names > MAX_NAMES {
            return Err(self.error(offset, Flaw::TooManyMembers));
        }
        if let Some(first) = self.members.get(&name) {
            // Folders come again where tars were joined; they have nothing in them that could differ.
            let both_folders = kind == Kind::Folder && first.kind == Kind::Folder;
            let first = first.offset;
            return if both_folders { Ok(()) } else { Err(self.error(offset, Flaw::Twice { name, first })) };
        }
        self.members.insert(name, Member { offset, kind });
        Ok(())
    }

    /// Whoever unpacks would follow the link, or fail at the file: they would see another image.
    fn refuse_what_lies_below_a_file(&self) -> Result<(), TarError> {
        for (name, _) in self.members.iter().filter(|(_, member)| member.kind != Kind::Folder) {
            let folder = format!("{name}/");
            if let Some((below, member)) = self.members.range(folder.clone()..).next()
                && below.starts_with(&folder)
            {
                let (name, above) = (below.clone(), name.clone());
                return Err(self.error(member.offset, Flaw::BelowAFile { name, above }));
            }
        }
        Ok(())
    }
}

/// Whether a block is the header of a member.
pub(super) fn begins_a_member(block: &[u8; BLOCK]) -> bool {
    sums_up(block)
}

/// How far the file has been read.
struct Reading {
    /// Bytes of all names so far.
    names: usize,
    /// The next header.
    offset: u64,
    /// The length of the file.
    end: u64,
}

impl Reading {
    /// The next header; none at the end of the archive.
    fn block(&mut self, file: &File) -> Result<Option<[u8; BLOCK]>, Flaw> {
        let Some(block) = self.next_block(file)? else { return Ok(None) };
        if block != [0; BLOCK] {
            return Ok(Some(block));
        }
        // Two empty blocks are the end, whatever follows them; some tools write only one as the last.
        match self.next_block(file)? {
            Some(second) if second != [0; BLOCK] => Err(Flaw::LoneEmptyBlock),
            _ => Ok(None),
        }
    }

    fn next_block(&mut self, file: &File) -> Result<Option<[u8; BLOCK]>, Flaw> {
        let left = self.end - self.offset;
        if left == 0 {
            return Ok(None);
        }
        if left < BLOCK as u64 {
            return Err(Flaw::CutInHeader { left });
        }
        let mut block = [0; BLOCK];
        read_exactly(file, &mut block, self.offset)?;
        self.offset += BLOCK as u64;
        Ok(Some(block))
    }

    /// Steps over a member's bytes and says where they begin.
    fn data(&mut self, size: u64) -> Result<u64, Flaw> {
        let begin = self.offset;
        let padded = size.checked_next_multiple_of(BLOCK as u64);
        let next = padded.and_then(|padded| begin.checked_add(padded));
        let left = self.end - begin;
        self.offset = next.filter(|next| *next <= self.end).ok_or(Flaw::CutInData { size, left })?;
        Ok(begin)
    }

    /// The bytes of an extension.
    fn extension(&mut self, file: &File, size: u64) -> Result<Vec<u8>, Flaw> {
        let length = usize::try_from(size).ok().filter(|length| *length <= extension::MAX_SIZE);
        let length = length.ok_or(Flaw::ExtensionTooLarge { size })?;
        let begin = self.data(size)?;
        let mut bytes = vec![0; length];
        read_exactly(file, &mut bytes, begin)?;
        Ok(bytes)
    }
}

fn read_exactly(file: &File, buffer: &mut [u8], at: u64) -> Result<(), Flaw> {
    use std::os::unix::fs::FileExt;
    file.read_exact_at(buffer, at).map_err(|source| match source.kind() {
        io::ErrorKind::UnexpectedEof => Flaw::Shrank,
        _ => Flaw::Unreadable(source),
    })
}

/// A member's name without `.` and doubled slashes.
pub(super) fn normal(name: &[u8]) -> Result<String, Flaw> {
    let refuse = |why| Flaw::Name { name: shown(name), why };
    if name.len() > MAX_NAME {
        return Err(refuse("it is longer than 4096 bytes"));
    }
    let text = std::str::from_utf8(name).map_err(|_| refuse("it is not UTF-8"))?;
    if text.contains('\0') {
        return Err(refuse("it has a zero byte in it"));
    }
    if text.starts_with('/') {
        return Err(refuse("it is absolute"));
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return Err(refuse("it leads out with `..`"));
    }
    Ok(parts.join("/"))
}

/// The member that a link at `from` means; none if that isn't in the archive.
fn link_target(from: &str, link: &[u8]) -> Option<String> {
    let link = std::str::from_utf8(link).ok().filter(|link| link.len() <= MAX_NAME && !link.starts_with('/'))?;
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(link.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_NAME)]).into_owned()
}

/// The beginning of a name, for people.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(100)]).into_owned()
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
