//! `--digest-file`: the lines of standard output in a file, wholly or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use ecr_push::replace::{How, replace};
use ecr_push::report::Report;

/// Pushed, and the scan found something.
const FOUND: u8 = 9;

/// Writes the lines of a push after which every destination has the image, whatever a scan found in it.
///
/// # Errors
/// When the file can't be written.
pub(super) fn write(path: Option<&Path>, report: &Report) -> io::Result<()> {
    let Some(path) = path.filter(|_| matches!(report.status(), 0 | FOUND)) else { return Ok(()) };
    let lines: String = report.lines().map(|text| text + "\n").collect();
    write_whole(path, &lines)
}

/// Writes a file that is either there wholly or not at all; what is no regular file, a device or a pipe, is written to.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(there) if !there.is_file() => {
            return fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes());
        }
        _ => {}
    }
    // A symbolic link stays one.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    replace(&path, text.as_bytes(), How::Kept)
}
