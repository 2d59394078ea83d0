//! Debian's strace on a process that runs: which system calls touch a folder, in which order, and one of them made to fail
//! or to be the process's last.
//!
//! strace is attached rather than made the parent, so that counting begins where a test wants it to. Of a call that is to
//! be hit the name and the paths are given: strace counts, thread by thread, those calls alone.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Stdio};

use tempfile::TempDir;

use super::servers::{Tool, left_out};

/// Where the kernel says who may trace whom, if it has that at all.
const SCOPE: &str = "/proc/sys/kernel/yama/ptrace_scope";

/// Whether a test is left out since there is no strace, or it may not be attached to processes of the same user.
pub(crate) fn no_strace() -> bool {
    let restricted = fs::read_to_string(SCOPE).is_ok_and(|scope| scope.trim() != "0");
    left_out(&[Tool::Strace]) || restricted && !super::has_root("strace -p")
}

/// A system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// Who called.
    pub(crate) thread: u32,
    pub(crate) name: String,
    /// As strace prints them, with the paths of descriptors.
    pub(crate) arguments: String,
    /// What came back; empty if nothing ever did.
    pub(crate) result: String,
    /// The paths at or below the folder that is watched, in the order of the arguments.
    pub(crate) paths: Vec<PathBuf>,
}

impl Call {
    /// Whether strace answered in the kernel's place.
    pub(crate) fn was_injected(&self) -> bool {
        self.result.ends_with("(INJECTED)")
    }

    /// Whether the call did what it was asked for.
    pub(crate) fn succeeded(&self) -> bool {
        !self.result.is_empty() && !self.result.starts_with(['-', '?'])
    }

    /// Whether it can change anything on disk.
    pub(crate) fn changes(&self) -> bool {
        match self.name.as_str() {
            "open" | "openat" => ["O_CREAT", "O_TRUNC"].iter().any(|flag| self.arguments.contains(flag)),
            "access" | "close" | "faccessat" | "faccessat2" | "fcntl" | "flock" | "fstat" | "getdents64" | "ioctl"
            | "lseek" | "lstat" | "mmap" | "newfstatat" | "pread64" | "read" | "readlink" | "readlinkat" | "stat"
            | "statfs" | "fstatfs" | "statx" => false,
            _ => true,
        }
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tampering {
    /// The process is killed before the kernel does what it was asked for.
    Kill,
    /// Nothing is done, and this error comes back, such as `EIO`.
    Fail(&'static str),
}

/// A call to be hit: the `nth` of a thread, from 1 on, with this name and one of these paths.
#[derive(Debug, Clone)]
pub(crate) struct Injection {
    pub(crate) name: String,
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) nth: usize,
    pub(crate) tampering: Tampering,
}

/// strace, attached to a process.
#[derive(Debug)]
pub(crate) struct Strace {
    child: Child,
    stderr: BufReader<ChildStderr>,
    trace: TempDir,
    watched: PathBuf,
}

impl Strace {
    /// Attaches to all threads of `process`, and comes back when none of them can call anything unseen. Calls that touch
    /// the folder `watched`, which has no symbolic link in its path, are recorded; with an injection only those that have
    /// one of its paths.
    #[track_caller]
    pub(crate) fn attach(process: u32, watched: &Path, injection: Option<&Injection>) -> Self {
        let trace = TempDir::with_prefix("ecr-push-strace-").expect("a folder for the trace");
        let mut command = Tool::Strace.command(trace.path());
        command.args(["-f", "-y", "-s", "0", "-p", &process.to_string(), "-o"]).arg(trace.path().join("trace"));
        if let Some(Injection { name, paths, nth, tampering }) = injection {
            for path in paths {
                command.arg("-P").arg(path);
            }
            let what = match tampering {
                Tampering::Kill => "signal=KILL".to_owned(),
                Tampering::Fail(error) => format!("error={error}"),
            };
            command.arg(format!("--trace={name}")).arg(format!("--inject={name}:{what}:when={nth}"));
        }
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("strace starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut said = String::new();
        while !said.contains(&format!("Process {process} attached")) {
            let length = stderr.read_line(&mut said).expect("strace says something");
            assert!(length > 0, "strace is not attached:\n{said}");
        }
        Self { child, stderr, trace, watched: watched.to_owned() }
    }

    /// Waits for the end of the process, and gives the calls in the order in which they began.
    #[track_caller]
    pub(crate) fn calls(mut self) -> Vec<Call> {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).expect("strace ends");
        // Its own status is the process's, or the signal that ended that.
        self.child.wait().expect("strace can be waited for");
        let trace = fs::read(self.trace.path().join("trace")).unwrap_or_else(|error| panic!("{error}:\n{said}"));
        parse(&String::from_utf8_lossy(&trace), &self.watched)
    }
}

/// The calls in what `strace -f -y` printed that touch a folder.
fn parse(trace: &str, watched: &Path) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    // Where a thread's call is that another thread's line interrupted.
    let mut unfinished: HashMap<u32, usize> = HashMap::new();
    for line in trace.lines() {
        let (thread, rest) = line.split_once(' ').expect("each line begins with a thread");
        let (thread, rest) = (thread.parse().expect("a number"), rest.trim_start());
        if let Some(rest) = rest.strip_prefix("<... ") {
            let Some(at) = unfinished.remove(&thread) else { continue };
            let rest = rest.split_once(" resumed>").map_or("", |(_, rest)| rest);
            let (arguments, result) = halves(rest);
            calls[at].arguments.push_str(arguments);
            result.clone_into(&mut calls[at].result);
            continue;
        }
        let Some((name, rest)) = rest.split_once('(') else { continue };
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        let (arguments, result) = if let Some(arguments) = rest.strip_suffix("<unfinished ...>") {
            unfinished.insert(thread, calls.len());
            (arguments.trim_end(), "")
        } else {
            halves(rest)
        };
        let (name, arguments, result) = (name.to_owned(), arguments.to_owned(), result.to_owned());
        calls.push(Call { thread, name, arguments, result, paths: Vec::new() });
    }
    for call in &mut calls {
        call.paths = paths(&call.arguments, watched);
    }
    calls.retain(|call| !call.paths.is_empty());
    calls
}

/// What stands before and behind `) = `.
fn halves(text: &str) -> (&str, &str) {
    let (arguments, result) = text.rsplit_once(" = ").unwrap_or((text, ""));
    let arguments = arguments.trim_end();
    // What a call that was the last never gave is written so.
    (arguments.strip_suffix(')').unwrap_or(arguments), if result == "?" { "" } else { result.trim_end() })
}

/// The paths in a call's arguments, and those of its descriptors, that lie in a folder or are it.
fn paths(arguments: &str, watched: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for part in arguments.split(['"', '<', '>']) {
        let path = Path::new(part);
        // A working folder that calls don't depend on stands there, too: it isn't below the watched one.
        if path.starts_with(watched) && !found.iter().any(|known| known == path) {
            found.push(path.to_owned());
        }
    }
    found
}
