//! `cargo xtask docs`: man pages, from the definition of the command line that the program itself is compiled with.

use std::fs;
use std::path::Path;

#[path = "../../src/cli/args/mod.rs"]
#[allow(rustdoc::broken_intra_doc_links, reason = "its comments are help texts, where [:TAG] is no link")]
#[allow(dead_code, unused_imports, reason = "only the definition is of interest here")]
mod args;

/// Writes the man pages and says whether that worked.
pub(crate) fn run(target: &Path) -> bool {
    let folder = target.join("man");
    // The version alone: a man page is no matter of commit and target.
    let command = args::command().version(env!("CARGO_PKG_VERSION"));
    match fs::create_dir_all(&folder).and_then(|()| clap_mangen::generate_to(command, &folder)) {
        Ok(()) => {
            println!("{}", folder.display());
            true
        }
        Err(error) => {
            eprintln!("{}: {error}", folder.display());
            false
        }
    }
}
