//! A Debian root filesystem, made once and kept below `target`, and what there is to know of the files of one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

use super::has_root;
use super::servers::{Tool, left_out};

/// What there is to know of a file, but for its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As `ls` writes it.
    kind: char,
    mode: u32,
    owner: (u64, u64),
    size: u64,
    /// The content's hash, or where a link leads, or which device it is.
    what: String,
}

/// Files by their paths; the root itself, of which builders think differently, isn't among them.
pub(crate) type Files = BTreeMap<Vec<u8>, Entry>;

/// A root filesystem in two forms.
pub(crate) struct Debian {
    /// The folder.
    pub(crate) root: PathBuf,
    /// The tar of all that is in it.
    pub(crate) tar: PathBuf,
}

impl Debian {
    /// Makes it, if it isn't there yet; `None` where it can't be made and the environment says that this is known.
    pub(crate) fn get() -> Option<Self> {
        if left_out(&[Tool::Debootstrap]) || !has_root("debootstrap") {
            return None;
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian");
        fs::create_dir_all(&folder).expect("target is ours");
        let debian = Self { root: folder.join("root"), tar: folder.join("root.tar") };
        // Tests are processes of their own, and one of them makes it.
        let lock = File::create(folder.join("lock")).expect("target is ours");
        lock.lock().expect("it can be locked");
        if !debian.tar.is_file() {
            debian.make(&folder);
        }
        Some(debian)
    }

    fn make(&self, folder: &Path) {
        let _ = fs::remove_dir_all(&self.root);
        let (suite, mirror) = mirror();
        let mut bootstrap = Command::new(Tool::Debootstrap.program());
        run(bootstrap.args(["--variant=minbase", &suite]).arg(&self.root).arg(mirror));
        // Half of it is what it was unpacked from.
        for waste in ["var/cache/apt/archives", "var/lib/apt/lists"] {
            let entries = fs::read_dir(self.root.join(waste)).into_iter().flatten().flatten();
            entries.filter(|entry| entry.path().is_file()).for_each(|entry| drop(fs::remove_file(entry.path())));
        }
        let aside = folder.join("aside.tar");
        let mut tar = Command::new("tar");
        run(tar.args(["--numeric-owner", "--sort=name", "-C"]).arg(&self.root).arg("-cf").arg(&aside).arg("."));
        fs::rename(aside, &self.tar).expect("target is ours");
    }
}

/// The suite and the mirror that apt is configured with on this machine.
fn mirror() -> (String, String) {
    let mut apt = Command::new("apt-get");
    let listed =
        run(apt.args(["indextargets", "--format", "$(ORIGIN) $(RELEASE) $(REPO_URI)", "Created-By: Packages"]));
    let words = listed.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    // What is not a whole distribution has a dash in its name: updates, security, backports.
    let mut whole = words.filter(|words| words.len() == 3 && words[0] == "Debian" && !words[1].contains('-'));
    let found = whole.next().unwrap_or_else(|| panic!("apt knows no Debian:\n{listed}"));
    (found[1].to_owned(), found[2].to_owned())
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// The files below a folder.
pub(crate) fn of_folder(root: &Path) -> Files {
    let mut files = Files::new();
    walk(root, root, &mut files);
    files
}

fn walk(root: &Path, folder: &Path, files: &mut Files) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("it can be read").path();
        let metadata = fs::symlink_metadata(&path).expect("it can be looked at");
        let file_type = metadata.file_type();
        let device = || format!("{}:{}", rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
        let (kind, what) = if file_type.is_dir() {
            walk(root, &path, files);
            ('d', String::new())
        } else if file_type.is_symlink() {
            ('l', fs::read_link(&path).expect("a link").to_string_lossy().into_owned())
        } else if file_type.is_char_device() {
            ('c', device())
        } else if file_type.is_block_device() {
            ('b', device())
        } else if file_type.is_fifo() {
            ('p', String::new())
        } else {
            ('-', hash(&mut File::open(&path).expect("a file")).1)
        };
        let size = if kind == '-' { metadata.size() } else { 0 };
        let (mode, owner) = (mode(kind, metadata.mode()), (metadata.uid().into(), metadata.gid().into()));
        let path = path.strip_prefix(root).expect("below the root").as_os_str().as_bytes().to_owned();
        files.insert(path, Entry { kind, mode, owner, size, what });
    }
}

/// The files in a layer's tar, added to those of the layers below.
pub(crate) fn add_tar(tar: impl Read, files: &mut Files) {
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("a tar");
        let path = normal(&entry.path_bytes());
        if path.is_empty() {
            continue;
        }
        let header = entry.header().clone();
        let link = entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
        let number = |field: io::Result<Option<u32>>| field.ok().flatten().unwrap_or_default();
        let device = || format!("{}:{}", number(header.device_major()), number(header.device_minor()));
        let (kind, what) = match header.entry_type() {
            tar::EntryType::Directory => ('d', String::new()),
            tar::EntryType::Symlink => ('l', String::from_utf8_lossy(&link).into_owned()),
            tar::EntryType::Char => ('c', device()),
            tar::EntryType::Block => ('b', device()),
            tar::EntryType::Fifo => ('p', String::new()),
            tar::EntryType::Link => {
                let same = files.get(&normal(&link)).expect("a hard link leads back").clone();
                files.insert(path, same);
                continue;
            }
            _ => ('-', String::new()),
        };
        let (size, what) = if kind == '-' { hash(&mut entry) } else { (0, what) };
        let owner = (header.uid().expect("a number"), header.gid().expect("a number"));
        files.insert(path, Entry { kind, mode: mode(kind, header.mode().expect("a number")), owner, size, what });
    }
}

/// The mode; a symbolic link has none.
fn mode(kind: char, mode: u32) -> u32 {
    if kind == 'l' { 0 } else { mode & 0o7777 }
}

fn normal(path: &[u8]) -> Vec<u8> {
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let path = path.strip_suffix(b"/").unwrap_or(path);
    if path == b"." { Vec::new() } else { path.to_owned() }
}

/// Length and hash of what is read.
fn hash(from: &mut impl Read) -> (u64, String) {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut size = 0;
    loop {
        let length = from.read(&mut buffer).expect("it can be read");
        if length == 0 {
            let hex = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            return (size, hex);
        }
        hasher.update(&buffer[..length]);
        size += length as u64;
    }
}

/// Asserts that both are the same, and says what isn't.
#[track_caller]
pub(crate) fn assert_same(found: &Files, expected: &Files, what: &str) {
    let paths: std::collections::BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let differing = paths.into_iter().filter(|path| found.get(*path) != expected.get(*path));
    let lines: Vec<String> = differing
        .map(|path| format!("{}: {:?} instead of {:?}", path.escape_ascii(), found.get(path), expected.get(path)))
        .collect();
    assert!(lines.is_empty(), "{what}: {} files differ:\n{}", lines.len(), lines[..lines.len().min(20)].join("\n"));
    assert!(expected.len() > 1000, "a Debian has more files than {}", expected.len());
}
