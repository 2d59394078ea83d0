//! The slow line, over real sockets. Only what can't depend on how busy the machine is: that nothing is too fast.

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use local_ecr::{Link, LocalEcr};

use crate::client::Client;

#[test]
fn a_blob_takes_as_long_as_its_line_is_slow() {
    let rtt = Duration::from_millis(40);
    let link = Link { rtt, connection_rate: Some(8_000_000), total_rate: None };
    let ecr = LocalEcr::builder().repository("app").allow_pull().link(link).start().expect("starts");
    let client = Client::new(&ecr);
    let bytes = vec![7; 2_000_000];
    let begun = Instant::now();
    let digest = client.upload("app", &bytes);
    // Two connections with a handshake, and two questions.
    let least = rtt * 4 + Duration::from_millis(250);
    assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
    let begun = Instant::now();
    assert_eq!(client.get(&format!("/v2/app/blobs/{digest}")).body, bytes);
    assert!(begun.elapsed() >= rtt * 2 + Duration::from_millis(250), "{:?}", begun.elapsed());
}

#[test]
fn the_kernel_takes_little_that_the_line_has_not_taken() {
    let link = Link { connection_rate: Some(1), ..Link::default() };
    let ecr = LocalEcr::builder().link(link).start().expect("starts");
    let mut stream = TcpStream::connect(&ecr.registry_url()[7..]).expect("listens");
    stream.set_write_timeout(Some(Duration::from_millis(300))).expect("a socket");
    socket2::SockRef::from(&stream).set_send_buffer_size(64 * 1024).expect("a socket");
    let mut gone = 0;
    loop {
        match stream.write(&[b'x'; 4096]) {
            Ok(bytes) => gone += bytes,
            Err(error) => break assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)),
        }
    }
    // Twice 64 KiB on either side, as Linux counts.
    assert!(gone < 512 * 1024, "{gone} bytes are gone");
}

#[test]
fn every_port_is_as_far_away() {
    let link = Link { rtt: Duration::from_millis(30), ..Link::default() };
    let ecr = LocalEcr::builder().link(link).start().expect("starts");
    for url in [ecr.registry_url(), ecr.api_url(), ecr.elsewhere_url()] {
        let begun = Instant::now();
        let got = crate::client::exchange(&url, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert_ne!(got.status, 0);
        assert!(begun.elapsed() >= Duration::from_millis(60), "{url}");
    }
    ecr.expect_violation(local_ecr::ViolationKind::UnknownRequest);
}
