//! Runs other programs so that they end with this one, however it ends, and tells what they took.
//!
//! Between this process and each of them stands a small one of the same binary. It ends its group when its standard
//! input does. It is small because a process's peak of memory begins with that of whoever started it.

use std::error::Error;
use std::fs;
use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, kill_process_group};
use serde::{Deserialize, Serialize};
use wait4::Wait4 as _;

/// What a process took, with those that it waited for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// From its start to its end, in seconds.
    pub(crate) wall: f64,
    /// Seconds of CPU in the program.
    pub(crate) user: f64,
    /// Seconds of CPU in the kernel.
    pub(crate) system: f64,
    /// The most memory that it had, in bytes.
    pub(crate) peak: u64,
    /// Whether its exit status was 0.
    succeeded: bool,
}

/// What a keeper is told.
#[derive(clap::Args, Debug)]
pub(crate) struct KeepArgs {
    /// Where to write what the program took
    #[arg(long)]
    usage: Option<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<std::ffi::OsString>,
}

/// Keeps one program.
pub(crate) fn keep(args: &KeepArgs) -> bool {
    let kept = keep_one(args);
    kept.inspect_err(|error| eprintln!("{}: {error}", args.command[0].display())).is_ok()
}

fn keep_one(args: &KeepArgs) -> io::Result<()> {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        // This process is of the group, too.
        let _ = kill_process_group(getpid(), Signal::KILL);
    });
    let start = Instant::now();
    let mut child = Command::new(&args.command[0]).args(&args.command[1..]).stdin(Stdio::null()).spawn()?;
    let ended = child.wait4()?;
    let wall = start.elapsed().as_secs_f64();
    let usage = Usage {
        wall,
        user: ended.rusage.utime.as_secs_f64(),
        system: ended.rusage.stime.as_secs_f64(),
        peak: ended.rusage.maxrss,
        succeeded: ended.status.success(),
    };
    args.usage.as_ref().map_or(Ok(()), |path| fs::write(path, serde_json::to_vec(&usage)?))
}

/// A command that will be kept.
fn kept(program: &Command, usage: Option<&Path>) -> io::Result<Command> {
    let mut keeper = Command::new(std::env::current_exe()?);
    keeper.arg("bench-keep");
    if let Some(path) = usage {
        keeper.arg("--usage").arg(path);
    }
    keeper.arg("--").arg(program.get_program()).args(program.get_args());
    // Nothing of the user's gets in but the way to programs.
    keeper.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    keeper.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // Of its own, so that Ctrl-C reaches this process first.
    keeper.process_group(0).stdin(Stdio::piped());
    Ok(keeper)
}

/// Runs a program to its end, with no environment but `PATH` and what the command sets.
///
/// # Errors
/// It can't be run, or fails; then with the last of what it said.
pub(crate) fn measure(program: &Command, folder: &Path) -> Result<(Usage, String), Box<dyn Error>> {
    let path = folder.join("usage.json");
    let child = kept(program, Some(&path))?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Its standard input is open until it has ended.
    let (output, stdin) = output(child)?;
    drop(stdin);
    let said = String::from_utf8_lossy(&[output.stderr, output.stdout.clone()].concat()).trim().to_owned();
    let usage: Usage = serde_json::from_slice(&fs::read(&path).map_err(|_| said.clone())?)?;
    fs::remove_file(path)?;
    if usage.succeeded {
        Ok((usage, String::from_utf8_lossy(&output.stdout).trim().to_owned()))
    } else {
        let lines: Vec<_> = said.lines().collect();
        Err(lines[lines.len().saturating_sub(3)..].join("; ").into())
    }
}

fn output(mut child: Child) -> io::Result<(std::process::Output, Option<ChildStdin>)> {
    // `wait_with_output` would close it.
    let stdin = child.stdin.take();
    Ok((child.wait_with_output()?, stdin))
}

/// A server that ends with this.
#[derive(Debug)]
pub(crate) struct Server {
    keeper: Child,
}

impl Server {
    /// Starts it, its output into these files.
    pub(crate) fn start(program: &Command, stdout: &Path, stderr: &Path) -> io::Result<Self> {
        let mut keeper = kept(program, None)?;
        keeper.stdout(fs::File::create(stdout)?).stderr(fs::File::create(stderr)?);
        Ok(Self { keeper: keeper.spawn()? })
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.keeper.try_wait().is_ok_and(|ended| ended.is_none())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// What the one who clears up is told.
#[derive(clap::Args, Debug)]
pub(crate) struct ClearArgs {
    folders: Vec<PathBuf>,
}

/// How often, and how long between, a folder is tried to be removed: those who write there are ending.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// Waits for the end of standard input, then removes folders.
pub(crate) fn clear(args: &ClearArgs) -> bool {
    let _ = io::stdin().read_to_end(&mut Vec::new());
    let mut left: Vec<_> = args.folders.iter().collect();
    for _ in 0..TRIES {
        left.retain(|folder| fs::remove_dir_all(folder).is_err() && folder.exists());
        if left.is_empty() {
            return true;
        }
        thread::sleep(PAUSE);
    }
    for folder in left {
        eprintln!("{} could not be removed", folder.display());
    }
    false
}

/// Folders that are gone when this is, however it ends.
#[derive(Debug)]
pub(crate) struct Scratch {
    clearer: Child,
    /// For whatever is small.
    pub(crate) folder: PathBuf,
    /// For blobs: in memory where there is a place for such files, with room enough.
    pub(crate) blobs: PathBuf,
}

impl Scratch {
    /// Makes them, below `bench` and where memory is; so many bytes of blobs will be held at once.
    pub(crate) fn new(bench: &Path, blobs: u64) -> io::Result<Self> {
        let memory = Path::new("/dev/shm");
        let room =
            rustix::fs::statvfs(memory).is_ok_and(|there| there.f_bavail.saturating_mul(there.f_frsize) >= blobs);
        let new = |below: &Path| tempfile::Builder::new().prefix("ecr-push-bench-").tempdir_in(below);
        // Dropped if what follows fails.
        let folder = new(bench)?;
        // The path is short, which podman wants.
        let elsewhere = std::env::temp_dir();
        let blobs = new(if room { memory } else { &elsewhere }).or_else(|_| new(&elsewhere))?;
        let clearer = Command::new(std::env::current_exe()?)
            .arg("bench-clear")
            .args([folder.path(), blobs.path()])
            .process_group(0)
            .stdin(Stdio::piped())
            .spawn()?;
        Ok(Self { clearer, folder: folder.keep(), blobs: blobs.keep() })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.clearer.stdin.take());
        let _ = self.clearer.wait();
    }
}
