//! A line to a server that breaks: whoever sends much over one connection is cut off.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

struct Shared {
    server: String,
    /// Bytes to the server that one connection carries before it is cut.
    bytes: u64,
    /// How often there is still to be a cut, and how often there was one.
    left: AtomicUsize,
    done: AtomicUsize,
    stop: AtomicBool,
}

/// A running proxy for one server.
pub(crate) struct Cutter {
    address: String,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Cutter {
    /// Passes on everything to `server`, HOST:PORT, but cuts the first `cuts` connections that carry so many bytes there.
    pub(crate) fn start(server: &str, bytes: u64, cuts: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = listener.local_addr().expect("a listener has an address").to_string();
        let (left, done) = (AtomicUsize::new(cuts), AtomicUsize::new(0));
        let shared = Arc::new(Shared { server: server.to_owned(), bytes, left, done, stop: AtomicBool::new(false) });
        let for_all = shared.clone();
        let accepting = std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if for_all.stop.load(Ordering::SeqCst) {
                    break;
                }
                let shared = for_all.clone();
                // Ends with the client, which the test waits for.
                std::thread::spawn(move || pass_on(&shared, &client));
            }
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    /// HOST:PORT.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// How many connections were cut.
    pub(crate) fn cuts(&self) -> usize {
        self.shared.done.load(Ordering::SeqCst)
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(&self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn pass_on(shared: &Shared, client: &TcpStream) -> io::Result<()> {
    let server = TcpStream::connect(&shared.server)?;
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    let back = std::thread::spawn(move || {
        let _ = io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let (mut client, mut server) = (client, &server);
    let (mut carried, mut piece) = (0, vec![0; 64 * 1024]);
    while let Ok(length @ 1..) = client.read(&mut piece) {
        if server.write_all(&piece[..length]).is_err() {
            break;
        }
        carried += length as u64;
        let due = carried >= shared.bytes;
        if due && shared.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            shared.done.fetch_add(1, Ordering::SeqCst);
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
    let _ = back.join();
    Ok(())
}
