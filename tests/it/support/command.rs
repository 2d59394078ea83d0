//! Runs the real binary with nothing in its environment but what a test gives, and asserts on what came of it.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use std::{fs, thread};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use local_ecr::LocalEcr;
use serde_json::json;
use tempfile::TempDir;

/// No run takes longer, unless it hangs.
const LONGEST: Duration = Duration::from_mins(2);

/// Whoever has no rights but everybody's.
const NOBODY: u32 = 65534;

/// A run of `ecr-push` that is being put together.
#[derive(Debug, Clone)]
#[must_use = "nothing runs before run"]
pub(crate) struct Push {
    home: Arc<TempDir>,
    program: PathBuf,
    /// A program that runs ours, with its arguments.
    under: Vec<OsString>,
    source: OsString,
    host: String,
    destinations: Vec<String>,
    args: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    unprivileged: bool,
}

impl Push {
    /// A push of this SOURCE. It has a HOME of its own, and so a record of where blobs are that no other push reads.
    pub(crate) fn of(source: impl AsRef<OsStr>) -> Self {
        let home = TempDir::with_prefix("ecr-push-home-").expect("a folder for HOME");
        Self {
            home: Arc::new(home),
            program: env!("CARGO_BIN_EXE_ecr-push").into(),
            under: Vec::new(),
            source: source.as_ref().to_owned(),
            host: String::new(),
            destinations: Vec::new(),
            args: Vec::new(),
            environment: vec![("AWS_EC2_METADATA_DISABLED".to_owned(), "true".into())],
            unprivileged: false,
        }
    }

    /// The destinations that follow are in this registry. The first one's API is named in the environment, that of others
    /// on the command line.
    pub(crate) fn at(mut self, ecr: &LocalEcr) -> Self {
        let first = self.host.is_empty();
        self.host = ecr.host();
        self.args.push(format!("--registry-endpoint={}={}", self.host, ecr.registry_url()).into());
        if first {
            ecr.environment().into_iter().fold(self, |push, (name, value)| push.env(name, value))
        } else {
            self.args.push(format!("--endpoint-url={}={}", self.host, ecr.api_url()).into());
            self
        }
    }

    /// Adds a destination, `REPOSITORY[:TAG]` in the registry that was named last.
    pub(crate) fn to(mut self, destination: &str) -> Self {
        self.destinations.push(format!("{}/{destination}", self.host));
        self
    }

    /// Adds a destination in full.
    #[expect(clippy::wrong_self_convention, reason = "a builder: push to this reference")]
    pub(crate) fn to_reference(mut self, destination: impl Into<String>) -> Self {
        self.destinations.push(destination.into());
        self
    }

    /// Adds arguments.
    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self = self.without(name);
        self.environment.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Takes an environment variable away.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self
    }

    /// Puts a password for a registry into docker's config file.
    pub(crate) fn logged_in(self, host: &str, user: &str, password: &str) -> Self {
        let token = STANDARD.encode(format!("{user}:{password}"));
        let config = json!({"auths": {host: {"auth": token}}});
        let folder = self.home().join(".docker");
        fs::create_dir(&folder).expect("HOME is empty");
        fs::write(folder.join("config.json"), config.to_string()).expect("a new file");
        self
    }

    /// Runs as a user to whom a file without rights is really closed: root may read everything.
    pub(crate) fn unprivileged(mut self) -> Self {
        fs::set_permissions(self.home.path(), PermissionsExt::from_mode(0o777)).expect("HOME is ours");
        self.unprivileged = is_root();
        self
    }

    /// Another binary than the one that was built for the tests.
    pub(crate) fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    /// Of another SOURCE, and all else as before.
    pub(crate) fn of_source(self, source: impl AsRef<OsStr>) -> Self {
        Self { source: source.as_ref().to_owned(), ..self }
    }

    /// Runs below another program, such as `strace`, with these arguments of its own.
    pub(crate) fn under(mut self, program: &[&str]) -> Self {
        self.under = program.iter().map(Into::into).collect();
        self
    }

    /// The `HOME` that the run gets.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// The whole command.
    pub(crate) fn command(&self) -> Command {
        let words: Vec<&OsStr> = self.under.iter().map(OsString::as_os_str).chain([self.program.as_os_str()]).collect();
        let mut command = self.command_of(words[0]);
        command.args(&words[1..]).arg(&self.source).args(&self.destinations).args(&self.args);
        command
    }

    /// Another program, in the same environment and as the same user.
    pub(crate) fn command_of(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.home.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if self.unprivileged {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Starts it; the test goes on beside it.
    pub(crate) fn start(&self) -> Running {
        let child = self.command().spawn().expect("the binary starts");
        Running { child, _home: Arc::clone(&self.home) }
    }

    /// The same, with something else as its standard input, output or error.
    pub(crate) fn start_with(&self, streams: impl FnOnce(&mut Command)) -> Running {
        let mut command = self.command();
        streams(&mut command);
        let child = command.spawn().expect("the binary starts");
        Running { child, _home: Arc::clone(&self.home) }
    }

    /// Runs it to its end.
    pub(crate) fn run(&self) -> Ran {
        self.start().wait()
    }

    /// Runs it to its end, with this as its standard input.
    pub(crate) fn run_with(&self, input: impl Into<Stdio>) -> Ran {
        let child = self.command().stdin(input).spawn().expect("the binary starts");
        Running { child, _home: Arc::clone(&self.home) }.wait()
    }
}

/// Whether the tests run as root.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// A run that goes on.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// Stays there for as long as the process does.
    _home: Arc<TempDir>,
}

impl Running {
    /// The process's number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, `INT` or `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Sends a signal, and waits until everything knows of it: the thread that told them sleeps then.
    pub(crate) fn signal_and_wait(&self, name: &str) {
        self.signal(name);
        let process = Path::new("/proc").join(self.id().to_string());
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        let told = || {
            let tasks = fs::read_dir(process.join("task")).into_iter().flatten().flatten();
            tasks.map(|task| task.path()).any(|task| {
                read(task.join("comm")).trim() == "signals" && read(task.join("wchan")).contains("nanosleep")
            })
        };
        while !told() {
            assert!(!read(process.join("status")).contains("\nState:\tZ"), "it has ended");
            thread::yield_now();
        }
    }

    /// Waits for the end; a run that hangs is killed, and the test fails.
    pub(crate) fn wait(self) -> Ran {
        match self.wait_for_any_end() {
            (End::Status(status), stdout, stderr) => Ran { status, stdout, stderr },
            (End::Signal(signal), stdout, stderr) => panic!("ended by signal {signal}:\n{stdout}{stderr}"),
        }
    }

    /// The same for a run that a signal may end; gives what it has printed, too.
    pub(crate) fn wait_for_any_end(self) -> (End, String, String) {
        let id = self.id();
        let (ended, watched) = mpsc::channel::<()>();
        let watchdog = thread::spawn(move || {
            if watched.recv_timeout(LONGEST) == Err(RecvTimeoutError::Timeout) {
                signal(id, "KILL");
            }
        });
        let output = self.child.wait_with_output().expect("the process can be waited for");
        drop(ended);
        watchdog.join().expect("the watchdog ends");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the output is UTF-8");
        let end = output.status.code().map(End::Status).or_else(|| output.status.signal().map(End::Signal));
        (end.expect("either is known"), text(output.stdout), text(output.stderr))
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, with this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

/// Sends a signal to a process that runs.
pub(crate) fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status();
    assert!(sent.expect("kill is there").success(), "the process is gone already");
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Asserts on the exit status.
    #[track_caller]
    pub(crate) fn exits(self, status: i32) -> Self {
        assert_eq!(self.status, status, "exit status; stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that standard error has each of these.
    #[track_caller]
    pub(crate) fn says<'a>(self, words: impl IntoIterator<Item = &'a str>) -> Self {
        for words in words {
            assert!(self.stderr.contains(words), "no {words:?} in stderr:\n{}", self.stderr);
        }
        self
    }

    /// Asserts that standard error has none of these.
    #[track_caller]
    pub(crate) fn says_nothing_of<'a>(self, words: impl IntoIterator<Item = &'a str>) -> Self {
        for words in words {
            assert!(!self.stderr.contains(words), "{words:?} in stderr:\n{}", self.stderr);
        }
        self
    }

    /// Asserts that standard output is exactly these lines.
    #[track_caller]
    pub(crate) fn prints(self, lines: &[&str]) -> Self {
        let found: Vec<_> = self.stdout.lines().collect();
        assert_eq!(found, lines, "stdout; stderr:\n{}", self.stderr);
        assert!(self.stdout.is_empty() || self.stdout.ends_with('\n'), "stdout ends within a line");
        self
    }

    /// Asserts that standard error has exactly one line that begins with `error:`.
    #[track_caller]
    pub(crate) fn says_one_error(self) -> Self {
        let errors = self.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "lines with an error in stderr:\n{}", self.stderr);
        self
    }
}
