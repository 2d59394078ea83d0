//! The slow line in front of a server that is not this one.
//!
//! Carries bytes and looks at none of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::builder::{StartError, bind};
use crate::link::{Link, SharedLink};

/// Longest wait for its threads.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// A loopback address from which a server is as far away as a [`Link`] says; until this is dropped.
///
/// ```
/// use std::net::{Ipv4Addr, TcpListener};
/// use std::time::Duration;
/// use local_ecr::{LineProxy, Link};
///
/// let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
/// let link = Link { rtt: Duration::from_millis(20), ..Link::default() };
/// let proxy = LineProxy::start(link, server.local_addr()?)?;
/// assert_ne!(proxy.address(), server.local_addr()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LineProxy {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

impl LineProxy {
    /// Starts the line on a thread of its own, and comes back when it listens.
    ///
    /// # Errors
    ///
    /// No port, or no thread.
    pub fn start(link: Link, server: SocketAddr) -> Result<Self, StartError> {
        let (listener, address) = bind(0)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("line")
            .enable_all()
            .build()
            .map_err(StartError::Threads)?;
        let accepted = Arc::new(AtomicUsize::new(0));
        let in_runtime = runtime.enter();
        let listener = TcpListener::from_std(listener).map_err(StartError::Threads)?;
        SharedLink::narrow(&listener).map_err(|source| StartError::Listen { port: address.port(), source })?;
        runtime.spawn(listen(SharedLink::new(link), listener, server, Arc::clone(&accepted)));
        drop(in_runtime);
        Ok(Self { address, accepted, runtime: Some(runtime) })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for LineProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // On a thread of its own: a runtime refuses to be stopped from within another one.
            let _ = std::thread::spawn(move || runtime.shutdown_timeout(STOP_WAIT)).join();
        }
    }
}

async fn listen(link: SharedLink, listener: TcpListener, server: SocketAddr, accepted: Arc<AtomicUsize>) {
    let link = Arc::new(link);
    loop {
        // A connection that failed before it was accepted is its client's business.
        let Ok((client, _)) = listener.accept().await else { continue };
        accepted.fetch_add(1, Ordering::SeqCst);
        let link = Arc::clone(&link);
        tokio::spawn(async move {
            // Without a server the client is hung up on, as a real line's far end would.
            let Ok(server) = TcpStream::connect(server).await else { return };
            if client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).is_ok() {
                link.bridge(client, server).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::time::Instant;

    use super::*;

    /// A server for one connection, which sends back what it got once all is there.
    fn echo() -> SocketAddr {
        let (listener, address) = bind(0).unwrap();
        listener.set_nonblocking(false).unwrap();
        std::thread::spawn(move || once(&listener));
        address
    }

    fn once(listener: &TcpListener) {
        let (mut connection, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        connection.read_to_end(&mut all).unwrap();
        connection.write_all(&all).unwrap();
    }

    #[test]
    fn everything_passes_in_both_directions_and_takes_its_time() {
        const BYTES: usize = 100_000;
        let link = Link { rtt: Duration::from_millis(40), connection_rate: Some(1_000_000), total_rate: None };
        let proxy = LineProxy::start(link, echo()).unwrap();
        let sent: Vec<u8> = (0..=u8::MAX).cycle().take(BYTES).collect();
        let start = Instant::now();
        let mut connection = TcpStream::connect(proxy.address()).unwrap();
        connection.write_all(&sent).unwrap();
        connection.shutdown(Shutdown::Write).unwrap();
        let mut received = Vec::new();
        connection.read_to_end(&mut received).unwrap();
        assert!(received == sent, "{} bytes came back", received.len());
        assert_eq!(proxy.connections(), 1);
        // The handshake, a round trip, and the bytes in both directions, one after the other.
        assert!(start.elapsed() >= Duration::from_millis(40 + 40 + 200), "{:?}", start.elapsed());
    }

    #[test]
    fn a_client_whose_server_is_gone_is_hung_up_on() {
        let (listener, address) = bind(0).unwrap();
        drop(listener);
        let proxy = LineProxy::start(Link::default(), address).unwrap();
        let mut connection = TcpStream::connect(proxy.address()).unwrap();
        assert!(matches!(connection.read(&mut [0]), Ok(0) | Err(_)));
    }
}
