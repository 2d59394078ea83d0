//! What can be wrong with a tar.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A tar that isn't sound, or a member that isn't what it should be.
#[derive(Debug, Error)]
#[error("{} is not a sound archive: at byte {offset}", path.display())]
pub struct TarError {
    /// The file.
    pub path: PathBuf,
    /// Where in it: the beginning of a member's header.
    pub offset: u64,
    /// What.
    #[source]
    pub flaw: Flaw,
}

/// What is wrong with it.
#[derive(Debug, Error)]
pub enum Flaw {
    /// The file can't be read.
    #[error("it can't be read")]
    Unreadable(#[source] io::Error),
    /// The file became shorter while it was read.
    #[error("the file became shorter meanwhile")]
    Shrank,
    /// Empty blocks, or nothing.
    #[error("there is no member in it")]
    NoMember,
    /// The header's checksum is not that of its bytes: garbage, or a damaged file.
    #[error("there is no header of a member: its checksum is wrong")]
    Checksum,
    /// The file ends within a header.
    #[error("the file is cut off: {left} bytes are left, and a header has 512")]
    CutInHeader {
        /// Bytes that are there.
        left: u64,
    },
    /// The file ends within a member.
    #[error("the file is cut off, or a size lies: a member says that it has {size} bytes, and {left} are left")]
    CutInData {
        /// What the member says.
        size: u64,
        /// Bytes that are there.
        left: u64,
    },
    /// A size that is no number, below zero, or beyond 64 bits.
    #[error("a member's size is {0}")]
    Size(&'static str),
    /// An empty block with something behind it: for some tools the archive ends here, for others it doesn't.
    #[error("an empty block stands alone, with more behind it")]
    LoneEmptyBlock,
    /// A name that can't be that of a file in the archive.
    #[error("the name {name:?} is refused: {why}")]
    Name {
        /// Its beginning.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// Two members of one name.
    #[error("{name:?} comes a second time; the first is at byte {first}")]
    Twice {
        /// The name.
        name: String,
        /// Where the first is.
        first: u64,
    },
    /// A member in a folder that is a file or a link.
    #[error("{name:?} lies below {above:?}, which is no folder")]
    BelowAFile {
        /// The member.
        name: String,
        /// What it lies below.
        above: String,
    },
    /// More members, or longer names, than an image can have.
    #[error("it has more members than an image can have")]
    TooManyMembers,
    /// A sparse member: its bytes are not its content.
    #[error("a sparse member can't be read")]
    Sparse,
    /// A header of an unknown format, or an extension in one from before there were any.
    #[error("a member's header is of no known format")]
    Format,
    /// A type that has no place in an archive of an image.
    #[error("a member is of the type {0:?}, which is unknown")]
    Type(char),
    /// A link, a folder or a device with bytes behind it.
    #[error("{name:?} is no file, and has {size} bytes")]
    DataOfNoFile {
        /// The member.
        name: String,
        /// Bytes that it says to have.
        size: u64,
    },
    /// A long name or a PAX header that is larger than any should be.
    #[error("an extended header has {size} bytes")]
    ExtensionTooLarge {
        /// Its size in bytes.
        size: u64,
    },
    /// A PAX header that can't be read, or that two readers could read differently.
    #[error("an extended header {0}")]
    Extension(&'static str),
    /// Something is said of a member that doesn't come.
    #[error("an extended header stands at the end, and no member follows it")]
    NoMemberFollows,
    /// A link that leads out of the archive.
    #[error("{name:?} is a link that leads out of the archive, to {target:?}")]
    LinkOut {
        /// The link.
        name: String,
        /// Where it leads.
        target: String,
    },
    /// A link to what isn't in the archive.
    #[error("{name:?} is a link to {target:?}, which isn't in the archive")]
    LinkToNothing {
        /// The link.
        name: String,
        /// Where it leads.
        target: String,
    },
    /// Links in a circle, or too many of them.
    #[error("{name:?} is a link to a link, and so on without end")]
    LinksWithoutEnd {
        /// The link.
        name: String,
    },
    /// A folder or a device where a file was wanted.
    #[error("{name:?} is {kind} and not a file")]
    NotAFile {
        /// The member.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// A member that is read whole is too large for that.
    #[error("{name:?} has {size} bytes, and may have {most}")]
    TooLarge {
        /// The member.
        name: String,
        /// Its size in bytes.
        size: u64,
        /// What it may have.
        most: u64,
    },
}
