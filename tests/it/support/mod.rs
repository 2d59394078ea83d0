//! What the tests share: running the binary, layouts, and looking at what is left.

pub(crate) mod archive;
pub(crate) mod command;
pub(crate) mod debian;
pub(crate) mod engine;
pub(crate) mod layout;
pub(crate) mod servers;
pub(crate) mod strace;
pub(crate) mod tar;
pub(crate) mod tree;

use std::fs;
use std::path::Path;

use local_ecr::{Builder, Entry, LocalEcr};

pub(crate) use self::command::{Push, Ran};
pub(crate) use self::layout::Layout;
pub(crate) use self::tar::Tar;
pub(crate) use self::tree::Tree;

/// Set where tests may be left out whose tools are missing.
const LEFT_OUT: &str = "ECR_PUSH_TEST_LEFT_OUT";

/// Whether a program is there. Without it a test fails, unless the environment allows it to be left out.
#[expect(clippy::print_stdout, reason = "what is left out is said where tests speak")]
pub(crate) fn has_tool(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let there = Path::new(program).is_file() || std::env::split_paths(&folders).any(|f| f.join(program).is_file());
    if there {
        return true;
    }
    assert!(
        std::env::var_os(LEFT_OUT).is_some(),
        "{program} is not installed: `cargo xtask test` installs it, and {LEFT_OUT}=1 leaves this test out"
    );
    println!("left out: {program} is not installed");
    false
}

/// Whether the tests run as root, which `what` needs. Without it a test fails, unless the environment allows it to be left
/// out.
#[expect(clippy::print_stdout, reason = "what is left out is said where tests speak")]
pub(crate) fn has_root(what: &str) -> bool {
    if command::is_root() {
        return true;
    }
    assert!(std::env::var_os(LEFT_OUT).is_some(), "{what} needs root, and {LEFT_OUT}=1 leaves this test out");
    println!("left out: {what} needs root");
    false
}

/// A local-ecr with an empty repository `app`.
pub(crate) fn ecr() -> LocalEcr {
    start(builder())
}

/// What [`ecr`] is made of, for more to be set.
pub(crate) fn builder() -> Builder {
    LocalEcr::builder().repository("app")
}

/// Starts it.
pub(crate) fn start(builder: Builder) -> LocalEcr {
    builder.start().expect("local-ecr starts")
}

/// The line that standard output has for a repository.
pub(crate) fn reference(ecr: &LocalEcr, repository: &str, digest: &str) -> String {
    format!("{}/{repository}@{digest}", ecr.host())
}

/// Asserts that a repository has everything below `root`: manifests byte for byte as in the layout, and every blob.
#[track_caller]
pub(crate) fn assert_arrived(ecr: &LocalEcr, repository: &str, layout: &Layout, root: &str) {
    let reach = layout.reach(root);
    for digest in &reach.manifests {
        let there = ecr.manifest(repository, digest).unwrap_or_else(|| panic!("{repository} has no manifest {digest}"));
        assert_eq!(there, fs::read(layout.blob(digest)).expect("the layout has it"), "the bytes of {digest}");
    }
    for digest in &reach.blobs {
        let path = ecr.blob_path(repository, digest).unwrap_or_else(|| panic!("{repository} has no blob {digest}"));
        let bytes = fs::read(path).expect("local-ecr keeps it");
        let found = if digest.starts_with("sha512") { layout::sha512(&bytes) } else { layout::sha256(&bytes) };
        assert_eq!(&found, digest, "what {repository} has as {digest}");
    }
    for digest in &reach.withheld {
        assert!(!ecr.has_blob(repository, digest), "{repository} has {digest}, which must not be distributed");
    }
}

/// How often the API was asked for this, such as `ecr:GetAuthorizationToken`.
pub(crate) fn asked(ecr: &LocalEcr, action: &str) -> usize {
    ecr.api_requests().iter().filter(|entry| entry.actions.contains(&action)).count()
}

/// The registry requests with this method whose path has this text, in the order of arrival.
pub(crate) fn requests(ecr: &LocalEcr, method: &str, path: &str) -> Vec<Entry> {
    let wanted = |entry: &Entry| entry.method == method && entry.path.contains(path);
    ecr.registry_requests().into_iter().filter(wanted).collect()
}
