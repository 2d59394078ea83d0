//! Looks hosts' names up as the system does, so that a failure says which one it was.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

/// A host's name that doesn't resolve.
#[derive(Debug, Error)]
#[error("the name {host} does not resolve")]
pub(crate) struct Nameless {
    pub(crate) host: String,
    source: io::Error,
}

/// The addresses of `host`, each with port 0.
pub(crate) async fn lookup(host: &str) -> Result<std::vec::IntoIter<SocketAddr>, Nameless> {
    let found = tokio::net::lookup_host((host, 0)).await;
    let found = found.map_err(|source| Nameless { host: host.to_owned(), source })?;
    Ok(found.collect::<Vec<_>>().into_iter())
}
