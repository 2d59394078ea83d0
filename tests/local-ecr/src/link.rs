//! A slow line between clients and server: it delays and paces what passes, below TLS and HTTP.
//!
//! Each direction has half of the round trip, a rate of its own for each connection and one rate for all. A new
//! connection pays TCP's handshake, and each connection starts slowly. Nothing is lost. What a connection has under way
//! is bounded by its window, and what the line can't take yet is not read from the socket.

mod line;

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

use self::line::{Line, Window, bytes_within};
use crate::sync::lock;

/// Bytes are taken so long before they leave: a timer wakes late by about a millisecond, and the line must not idle.
const AHEAD: Duration = Duration::from_millis(5);
/// Most bytes that are taken at once.
const PIECE: usize = 64 * 1024;
/// A segment: less is never waited for.
const SEGMENT: usize = 1460;
/// What arrived and was not read by TLS or HTTP yet.
const ARRIVED: usize = 64 * 1024;
/// What the kernel may take from a client before the line does; its own choice would be megabytes, and hide the line.
const KERNEL_BUFFER: usize = 64 * 1024;

/// How far away the server is. [`Link::default`] is no distance at all.
///
/// ```
/// use std::time::Duration;
/// use local_ecr::{Link, LocalEcr};
///
/// // A region on another continent, 1 Gbit/s to it, and 30 MB/s for each connection.
/// let link = Link { rtt: Duration::from_millis(150), connection_rate: Some(30_000_000), total_rate: Some(125_000_000) };
/// let ecr = LocalEcr::builder().link(link).start()?;
/// # Ok::<(), local_ecr::StartError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The time of a round trip. A connection costs one before its first byte.
    pub rtt: Duration,
    /// Bytes per second for each connection, in each direction; unlimited if none.
    pub connection_rate: Option<u64>,
    /// Bytes per second for all connections together, in each direction; unlimited if none.
    pub total_rate: Option<u64>,
}

/// A [`Link`] with what its connections share.
#[derive(Debug)]
pub(crate) struct SharedLink {
    link: Link,
    up: Option<Arc<Mutex<Line>>>,
    down: Option<Arc<Mutex<Line>>>,
}

impl SharedLink {
    pub(crate) fn new(link: Link) -> Self {
        let shared = || link.total_rate.map(|rate| Arc::new(Mutex::new(Line::new(rate))));
        Self { link, up: shared(), down: shared() }
    }

    /// Keeps the kernel from taking more off its clients than the line would.
    pub(crate) fn narrow(listener: &TcpListener) -> io::Result<()> {
        socket2::SockRef::from(listener).set_recv_buffer_size(KERNEL_BUFFER)
    }

    /// The server's end of the line whose other end is this connection.
    pub(crate) fn lay(&self, connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> DuplexStream {
        let (near, far) = tokio::io::duplex(ARRIVED);
        let (up, down) = (self.way(self.up.as_ref()), self.way(self.down.as_ref()));
        tokio::spawn(carry(connection, far, self.link.rtt, up, down));
        near
    }

    /// Lays the line between a connection and its server, until either hangs up.
    pub(crate) async fn bridge(&self, connection: TcpStream, server: TcpStream) {
        let (up, down) = (self.way(self.up.as_ref()), self.way(self.down.as_ref()));
        carry(connection, server, self.link.rtt, up, down).await;
    }

    fn way(&self, shared: Option<&Arc<Mutex<Line>>>) -> Way {
        let own = self.link.connection_rate.map(Line::new);
        let slowest = self.link.connection_rate.into_iter().chain(self.link.total_rate).min();
        let piece = slowest.map_or(PIECE, |rate| bytes_within(AHEAD, rate).clamp(SEGMENT, PIECE));
        Way { delay: self.link.rtt / 2, own, shared: shared.cloned(), piece }
    }
}

/// One direction of one connection.
struct Way {
    delay: Duration,
    own: Option<Line>,
    shared: Option<Arc<Mutex<Line>>>,
    /// Most bytes to take at once, so that connections take turns.
    piece: usize,
}

impl Way {
    /// When the last of so many bytes has left that are handed over now.
    fn take(&mut self, bytes: usize, now: Instant) -> Instant {
        let own = self.own.as_mut().map_or(now, |line| line.take(bytes, now));
        let shared = self.shared.as_ref().map_or(now, |line| lock(line).take(bytes, now));
        own.max(shared)
    }
}

/// Carries both directions until the server hangs up, or the client is gone.
async fn carry(
    connection: impl AsyncRead + AsyncWrite + Unpin,
    far: impl AsyncRead + AsyncWrite + Unpin,
    handshake: Duration,
    mut up: Way,
    mut down: Way,
) {
    let (mut from_client, mut to_client) = tokio::io::split(connection);
    let (mut from_server, mut to_server) = tokio::io::split(far);
    let mut down = pin!(pump(&mut from_server, &mut to_client, &mut down));
    let up = async {
        // The kernel's own handshake took no time.
        tokio::time::sleep(handshake).await;
        pump(&mut from_client, &mut to_server, &mut up).await
    };
    tokio::select! {
        _ = &mut down => (),
        outcome = up => if outcome.is_ok() {
            // The client sends no more, and may still read.
            let _ = down.await;
        },
    }
}

/// Carries one direction to its end.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    way: &mut Way,
) -> io::Result<()> {
    let mut window = Window::new();
    // What is under way and when it arrives; no bytes mean the end.
    let mut flying: VecDeque<(Instant, Bytes)> = VecDeque::new();
    let mut buffer = BytesMut::new();
    let mut ended = false;
    let mut next_take = Instant::now();
    // What has arrived and was not read by the other end yet. Meanwhile the line goes on.
    let mut arrived = Bytes::new();
    loop {
        let now = Instant::now();
        if !arrived.has_remaining()
            && let Some((_, bytes)) = flying.pop_front_if(|(arrives, _)| *arrives <= now)
        {
            if bytes.is_empty() {
                return to.shutdown().await;
            }
            arrived = bytes;
        }
        let room = window.room(now);
        let most = room.min(way.piece);
        let more_room = if room == 0 { window.next_acknowledgement() } else { None };
        let turn = (!ended && now < next_take).then_some(next_take);
        let arrival = flying.front().filter(|_| !arrived.has_remaining()).map(|(arrives, _)| *arrives);
        let wake = [more_room, turn, arrival].into_iter().flatten().min();
        buffer.reserve(most);
        tokio::select! {
            taken = async { from.read_buf(&mut (&mut buffer).limit(most)).await },
                if !ended && most > 0 && turn.is_none() =>
            {
                let bytes = taken?;
                ended = bytes == 0;
                let now = Instant::now();
                let leaves = way.take(bytes, now);
                window.send(bytes);
                flying.push_back((leaves + way.delay, buffer.split().freeze()));
                next_take = leaves.checked_sub(AHEAD).unwrap_or(now);
            }
            written = to.write_buf(&mut arrived), if arrived.has_remaining() => {
                // Not from when it was due: a server that doesn't read isn't sent more.
                window.arrive(written?, Instant::now() + way.delay);
                to.flush().await?;
            }
            () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;

    use super::*;

    const MIB: usize = 1024 * 1024;
    const RTT: Duration = Duration::from_millis(100);

    /// A client's end and the server's, of one connection over this link.
    fn connect(link: &SharedLink) -> (DuplexStream, DuplexStream) {
        let (client, kernel) = tokio::io::duplex(1024);
        (client, link.lay(kernel))
    }

    /// Sends so many bytes and hangs up.
    fn send(mut end: DuplexStream, bytes: usize) -> JoinHandle<DuplexStream> {
        tokio::spawn(async move {
            end.write_all(&vec![7; bytes]).await.expect("the other end reads");
            end.shutdown().await.expect("the other end is there");
            end
        })
    }

    /// Reads to the end; gives how many bytes came, and when the last one had, after this moment.
    async fn receive(mut end: DuplexStream, since: Instant) -> (usize, Duration) {
        let mut all = Vec::new();
        end.read_to_end(&mut all).await.expect("the other end hangs up");
        (all.len(), since.elapsed())
    }

    /// Asserts that something took this long; timers are late by up to a millisecond each.
    #[track_caller]
    fn took(found: Duration, expected: Duration, timers: u32) {
        let latest = expected + Duration::from_millis(2) * timers;
        assert!(found >= expected && found <= latest, "{found:?}, but {expected:?} was expected");
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_costs_the_handshake_and_a_round_trip() {
        let link = SharedLink::new(Link { rtt: RTT, ..Link::default() });
        let (mut client, mut server) = connect(&link);
        for (question, expected) in [(1, RTT * 2), (2, RTT)] {
            let asked = Instant::now();
            client.write_u8(question).await.expect("the link takes it");
            assert_eq!(server.read_u8().await.expect("it comes"), question);
            server.write_u8(question).await.expect("the link takes it");
            assert_eq!(client.read_u8().await.expect("it comes"), question);
            took(asked.elapsed(), expected, 3);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_starts_slowly() {
        let link = SharedLink::new(Link { rtt: RTT, ..Link::default() });
        let (client, server) = connect(&link);
        let start = Instant::now();
        let client = send(client, MIB);
        // 14,600 bytes, twice as many in the next round: a MiB needs seven. The end goes with the last one.
        let (bytes, time) = receive(server, start).await;
        assert_eq!(bytes, MIB);
        took(time, RTT + RTT * 6 + RTT / 2, 14);
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_has_its_rate_in_either_direction() {
        let link = SharedLink::new(Link { connection_rate: Some(MIB as u64), ..Link::default() });
        for upwards in [true, false] {
            let (client, server) = connect(&link);
            let (from, to) = if upwards { (client, server) } else { (server, client) };
            let start = Instant::now();
            let from = send(from, 8 * MIB);
            let (bytes, time) = receive(to, start).await;
            assert_eq!(bytes, 8 * MIB);
            took(time, Duration::from_secs(8), 5);
            drop(from);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_share_the_link_evenly() {
        let link = SharedLink::new(Link { total_rate: Some(4 * MIB as u64), ..Link::default() });
        let start = Instant::now();
        let ends: Vec<_> = (0..4)
            .map(|_| {
                let (client, server) = connect(&link);
                (send(client, 4 * MIB), tokio::spawn(receive(server, start)))
            })
            .collect();
        for (sent, received) in ends {
            let (bytes, time) = received.await.expect("it ends");
            assert_eq!(bytes, 4 * MIB);
            // None is done long before the others.
            assert!(time > Duration::from_millis(3900) && time < Duration::from_millis(4050), "{time:?}");
            drop(sent);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_gets_rid_of_no_more_than_the_line_takes() {
        let link = SharedLink::new(Link { rtt: RTT, connection_rate: Some(MIB as u64), total_rate: None });
        let (mut client, server) = connect(&link);
        let reading = tokio::spawn(receive(server, Instant::now()));
        let mut gone = 0;
        let end = Instant::now() + RTT + Duration::from_secs(4);
        while let Ok(sent) = tokio::time::timeout_at(end, client.write(&[0; 1000])).await {
            gone += sent.expect("the link takes it");
        }
        // The pipe's kilobyte, one piece, and what leaves within the next milliseconds. Slow start costs some at first.
        assert!(gone < 4 * MIB + 16 * 1024, "{gone} bytes are gone");
        assert!(gone > 3 * MIB, "{gone} bytes are gone");
        drop(client);
        assert_eq!(reading.await.expect("it ends").0, gone);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_read_is_sent_no_more_than_a_window() {
        let link = SharedLink::new(Link { rtt: RTT, ..Link::default() });
        let (mut client, server) = connect(&link);
        let mut gone = 0;
        while let Ok(sent) = tokio::time::timeout(Duration::from_mins(1), client.write(&[0; 1000])).await {
            gone += sent.expect("the link takes it");
        }
        assert!(gone < 3 * ARRIVED + 1024, "{gone} bytes are gone");
        drop(server);
        // Whoever writes on sees that the server is gone.
        let written = async { while client.write_all(&[0; 1000]).await.is_ok() {} };
        tokio::time::timeout(Duration::from_mins(1), written).await.expect("the connection ends");
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_goes_on_while_the_server_pauses() {
        let link = SharedLink::new(Link { rtt: RTT, connection_rate: Some(MIB as u64), total_rate: None });
        let (client, mut server) = connect(&link);
        let start = Instant::now();
        let sent = send(client, 4 * MIB);
        server.read_exact(&mut vec![0; 2 * MIB]).await.expect("the client sends");
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (bytes, time) = receive(server, start).await;
        assert_eq!(bytes, 2 * MIB);
        // As long as without the pause: handshake, half a round trip, the bytes, and what slow start costs.
        assert!(time < RTT * 3 / 2 + Duration::from_millis(4350), "{time:?}");
        drop(sent);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_up_ends_the_connection_once_all_has_arrived() {
        let link = SharedLink::new(Link { rtt: RTT, connection_rate: Some(1000), total_rate: None });
        let (client, mut server) = connect(&link);
        server.write_all(&[1; 500]).await.expect("the link takes it");
        drop(server);
        let (bytes, time) = receive(client, Instant::now()).await;
        assert_eq!(bytes, 500);
        took(time, Duration::from_millis(550), 3);
    }
}
