//! `moto_server`: the AWS API, without a registry behind it.

use tempfile::TempDir;

use super::{Server, Tool};

/// A running moto.
#[derive(Debug)]
pub(crate) struct Moto {
    server: Server,
    _folder: TempDir,
}

impl Moto {
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().expect("a folder can be made");
        let mut command = Tool::Moto.command(folder.path());
        command.args(["-H", "127.0.0.1", "-p", "0"]);
        Self { server: Server::start(command, folder.path(), "Running on http://"), _folder: folder }
    }

    /// HOST:PORT.
    pub(crate) fn address(&self) -> &str {
        &self.server.address
    }
}
