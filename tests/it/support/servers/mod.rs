//! Real servers and other people's tools. Each server is started by the test that needs it, on a port that the kernel
//! chose, with everything it writes in a folder of its own, and ends with its handle.

mod authority;
mod cutter;
mod docker_registry;
mod engine;
mod front;
mod moto;
mod token;
mod tool;

pub(crate) use authority::Authority;
pub(crate) use cutter::Cutter;
pub(crate) use docker_registry::{DockerRegistry, Guard, Logged, Login};
pub(crate) use engine::{Engine, Kind, Saved};
pub(crate) use front::{Asked, Front, Said};
pub(crate) use moto::Moto;
pub(crate) use token::{Notary, REFRESH_TOKEN};
pub(crate) use tool::{Tool, left_out};

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server gets to say that it listens. Long, since on a busy machine Python alone takes seconds.
const START: Duration = Duration::from_mins(1);

/// A server's process, killed when it is dropped, and the files that it prints into.
#[derive(Debug)]
struct Server {
    child: Child,
    stdout: PathBuf,
    address: String,
}

impl Server {
    /// Starts `command`, which prints into `folder`, and waits until standard error has `sign` followed by HOST:PORT.
    fn start(mut command: Command, folder: &Path, sign: &str) -> Self {
        let (stdout, stderr) = (folder.join("stdout"), folder.join("stderr"));
        let create = |path: &Path| File::create(path).expect("a log file can be made");
        command.stdin(Stdio::null()).stdout(create(&stdout)).stderr(create(&stderr));
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} can't be started: {error}"));
        let mut server = Self { child, stdout, address: String::new() };
        let since = Instant::now();
        loop {
            let said = fs::read_to_string(&stderr).unwrap_or_default();
            let named =
                said.split_once(sign).map(|(_, rest)| rest.split(['"', '\n', ' ', ',']).next().unwrap_or_default());
            // Only a whole line: the port's last digit may not be written yet.
            if let Some(address) = named.filter(|_| said.ends_with('\n')) {
                address.clone_into(&mut server.address);
                return server;
            }
            let ended = server.child.try_wait().expect("a child can be asked");
            assert!(ended.is_none() && since.elapsed() < START, "{command:?} doesn't listen ({ended:?}):\n{said}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
