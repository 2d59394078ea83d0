//! A clean-up under strace, from its first system call on.
//!
//! The push before it is short, since the registry has everything. The answer to its first question, for the image's tag, is
//! held back until strace is attached; the layout has been read by then.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use local_ecr::LocalEcr;

use crate::support::strace::{Call, Injection, Strace, Tampering};
use crate::support::{Layout, Push, Ran, ecr};

/// Nothing that is waited for takes longer, unless it never comes.
const LONGEST: Duration = Duration::from_mins(2);

/// What is to be cleaned: of a layout that is never touched itself, what is chosen.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) layout: Layout,
    pub(super) choice: String,
}

/// A registry that has all of a scene, and holds its answers back.
#[derive(Debug)]
pub(super) struct Warm {
    ecr: LocalEcr,
    asked: Receiver<()>,
    go_on: Sender<()>,
}

/// What a run under strace came to.
#[derive(Debug)]
pub(super) struct Traced {
    pub(super) layout: Layout,
    pub(super) process: u32,
    pub(super) calls: Vec<Call>,
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// A call of a recorded clean-up, as it can be found in another run. Paths are relative to the folder above the layout,
/// and `PID` stands for the process's number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) call: Call,
    pub(super) paths: Vec<String>,
    nth: usize,
}

impl Scene {
    pub(super) fn of(layout: Layout, choice: impl Into<String>) -> Self {
        Self { layout, choice: choice.into() }
    }

    /// A push of a copy of the layout, as to a registry that isn't ECR: without AWS it takes a third of the time.
    fn push(&self, layout: &Layout, ecr: &LocalEcr) -> Push {
        let host = ecr.registry_url().replace("http://", "");
        let push = Push::of(layout.choosing(&self.choice)).to_reference(format!("{host}/app:v1"));
        // What is written to the cache folder is another test's affair, and would come in between.
        push.logged_in(&host, "AWS", &ecr.issue_password()).args(["--plain-http", "--no-cache", "--output", "json"])
    }

    /// Cleans a layout that isn't the scene's own to its end.
    #[track_caller]
    pub(super) fn clean(&self, layout: &Layout, ecr: &LocalEcr) -> Ran {
        self.push(layout, ecr).args(["--cleanup"]).run().exits(0)
    }

    /// A registry that has all that the clean-up pushes.
    pub(super) fn warm(&self) -> Warm {
        let ecr = ecr();
        self.push(&self.layout, &ecr).run().exits(0);
        let ((asking, asked), (go_on, going_on)) = (channel(), channel());
        ecr.on_answer(move |entry| {
            if entry.method == "HEAD" && entry.tag.as_deref() == Some("v1") {
                // Whoever doesn't wait any more has failed already.
                let _ = asking.send(());
                let _ = going_on.recv_timeout(LONGEST);
            }
        });
        Warm { ecr, asked, go_on }
    }

    /// Cleans a copy of the layout to the end, or to what the point leads to.
    #[track_caller]
    pub(super) fn run(&self, warm: &Warm, tampering: Option<(&Point, Tampering)>) -> Traced {
        let layout = self.layout.copied();
        let watched = layout.parent().canonicalize().unwrap();
        let push = self.push(&layout, &warm.ecr).args(["--cleanup"]);
        let child = push.command().spawn().expect("the binary starts");
        let process = child.id();
        warm.asked.recv_timeout(LONGEST).expect("the registry is asked for the tag");
        let injection = tampering.map(|(point, tampering)| point.injection(&watched, process, tampering));
        let strace = Strace::attach(process, &watched, injection.as_ref());
        warm.go_on.send(()).expect("the registry waits");
        let output = child.wait_with_output().expect("the process can be waited for");
        let calls = strace.calls();
        let text = |bytes| String::from_utf8(bytes).expect("the output is UTF-8");
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        let traced = Traced { layout, process, calls, status: output.status, stdout, stderr };
        if let Some((point, tampering)) = tampering {
            point.was_hit(&traced, tampering);
        }
        traced
    }
}

impl Traced {
    /// A path as it is in every run.
    pub(super) fn plain(&self, path: &Path) -> String {
        let watched = self.layout.parent().canonicalize().unwrap();
        let path = path.strip_prefix(watched).expect("it is watched").display().to_string();
        path.replace(&self.aside(), ".layout.ecr-push-PID")
    }

    /// The name that the layout's folder has on its way out.
    pub(super) fn aside(&self) -> String {
        format!(".layout.ecr-push-{}", self.process)
    }

    /// All calls of a recorded clean-up that can be hit; and those that can't, since another thread calls the same before.
    pub(super) fn points(&self) -> (Vec<Point>, Vec<Call>) {
        let (mut points, mut hidden) = (Vec::new(), Vec::new());
        for (at, call) in self.calls.iter().enumerate() {
            let alike = |other: &Call| other.name == call.name && other.paths.iter().any(|p| call.paths.contains(p));
            let nth = |at: usize| {
                let thread = self.calls[at].thread;
                self.calls[..=at].iter().filter(|other| other.thread == thread && alike(other)).count()
            };
            if (0..at).any(|before| alike(&self.calls[before]) && nth(before) == nth(at)) {
                hidden.push(call.clone());
            } else {
                let paths = call.paths.iter().map(|path| self.plain(path)).collect();
                points.push(Point { call: call.clone(), paths, nth: nth(at) });
            }
        }
        (points, hidden)
    }
}

/// What is called, and for which of the times that the thread calls it.
impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} (the thread's {})", self.call.name, self.paths.join(", "), self.nth)
    }
}

impl Point {
    fn injection(&self, watched: &Path, process: u32, tampering: Tampering) -> Injection {
        let of = |path: &String| -> PathBuf { watched.join(path.replace("PID", &process.to_string())) };
        let paths = self.paths.iter().map(of).collect();
        Injection { name: self.call.name.clone(), paths, nth: self.nth, tampering }
    }

    /// Asserts that this call was hit and no other.
    #[track_caller]
    fn was_hit(&self, traced: &Traced, tampering: Tampering) {
        let calls = &traced.calls;
        let hit = match tampering {
            Tampering::Kill => {
                let killed = traced.status.signal() == Some(9);
                assert!(killed, "{self:?} was never reached: {:?}\n{}", traced.status, traced.stderr);
                calls.iter().find(|call| call.result.is_empty())
            }
            Tampering::Fail(_) => calls.iter().find(|call| call.was_injected()),
        };
        let hit = hit.unwrap_or_else(|| panic!("{self:?} was never reached:\n{calls:#?}\n{}", traced.stderr));
        let paths: Vec<_> = hit.paths.iter().map(|path| traced.plain(path)).collect();
        assert_eq!((&hit.name, &paths), (&self.call.name, &self.paths), "another call was hit");
    }
}
