use std::time::{Duration, Instant};

use local_ecr::{Answer, Fault, FaultKind, LocalEcr, UploadStatus, ViolationKind};

use crate::client::{Client, exchange, sha256};

fn server(faults: impl IntoIterator<Item = Fault>) -> LocalEcr {
    let builder = LocalEcr::builder().repository("app").allow_pull();
    faults.into_iter().fold(builder, local_ecr::Builder::fault).start().expect("starts")
}

#[test]
fn the_nth_request_is_struck() {
    let ecr = server([
        Fault::at(2).does(FaultKind::Cut),
        Fault::at(3).does(FaultKind::status(503)),
        Fault::at(4).does(FaultKind::Redirect("http://127.0.0.1:9/away".into())),
        Fault::at(5).does(FaultKind::Header { name: "Docker-Distribution-Api-Version".into(), value: None }),
        Fault::at(6).does(FaultKind::Delay(Duration::from_millis(50))),
    ]);
    let client = Client::new(&ecr);
    assert_eq!(client.get("/v2/").status, 200);
    assert_eq!(client.get("/v2/").status, 0);
    client.get("/v2/").refuses(503, "UNKNOWN", "");
    let got = client.get("/v2/");
    assert_eq!((got.status, got.header("location")), (307, Some("http://127.0.0.1:9/away")));
    let got = client.get("/v2/");
    assert_eq!((got.status, got.header("docker-distribution-api-version")), (200, None));
    let begun = Instant::now();
    assert_eq!(client.get("/v2/").status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(50));
    assert_eq!(ecr.journal()[1].answer, Answer::Cut);
}

#[test]
fn a_cut_in_the_body_keeps_what_came() {
    let cut = Fault::on("PUT", "/uploads/").does(FaultKind::CutAfter(1000));
    let ecr = LocalEcr::builder().repository("app").short_after_cut(true).fault(cut).start().expect("starts");
    let client = Client::new(&ecr);
    let session = client.open("app");
    let bytes = vec![3; 100_000];
    let finish = format!("{session}?digest={}", sha256(&bytes));
    assert_eq!(client.send("PUT", &finish, &[], &bytes).status, 0);
    ecr.wait_for_quiet();
    assert_eq!(ecr.journal()[1].bytes, 1000);
    client.send("PUT", &finish, &[], &bytes).refuses(416, "BLOB_UPLOAD_INVALID", "is 0 instead of 1000");
    assert_eq!(client.send("PUT", &finish, &[("Content-Range", "1000-99999")], &bytes[1000..]).status, 201);
}

#[test]
fn cuts_follow_one_another_and_each_keeps_what_came() {
    let every = Fault::on("PATCH", "/uploads/").times(u64::MAX).does(FaultKind::CutAfter(6 << 20));
    let ecr = LocalEcr::builder().repository("app").upload_status(UploadStatus::Progress).fault(every);
    let ecr = ecr.start().expect("starts");
    let client = Client::new(&ecr);
    let session = client.open("app");
    let bytes: Vec<u8> = (0..=250).cycle().take(16 << 20).collect();
    for first in [0, 6 << 20] {
        let range = format!("{first}-{}", bytes.len() - 1);
        assert_eq!(client.send("PATCH", &session, &[("Content-Range", &range)], &bytes[first..]).status, 0);
        ecr.wait_for_quiet();
        let got = client.get(&session);
        assert_eq!((got.status, got.header("range")), (204, Some(format!("0-{}", first + (6 << 20) - 1).as_str())));
    }
    // What is shorter than that isn't cut.
    let range = format!("{}-{}", 12 << 20, bytes.len() - 1);
    assert_eq!(client.send("PATCH", &session, &[("Content-Range", &range)], &bytes[12 << 20..]).status, 201);
    assert_eq!(client.send("PUT", &format!("{session}?digest={}", sha256(&bytes)), &[], b"").status, 201);
}

#[test]
fn a_cut_reply_comes_after_the_effect() {
    let ecr = server([Fault::on("PUT", "/uploads/").does(FaultKind::CutReply)]);
    let client = Client::new(&ecr);
    let finish = format!("{}?digest={}", client.open("app"), sha256(b"a"));
    assert_eq!(client.send("PUT", &finish, &[], b"a").status, 0);
    assert!(ecr.has_blob("app", &sha256(b"a")));
}

#[test]
fn a_truncated_reply_promises_more_than_it_sends() {
    let ecr = server([Fault::on("GET", "/blobs/").times(2).does(FaultKind::TruncatedReply)]);
    let client = Client::new(&ecr);
    let digest = ecr.seed_blob("app", &[5; 1000]);
    let got = client.get(&format!("/v2/app/blobs/{digest}"));
    assert_eq!((got.status, got.header("content-length"), got.body.len()), (200, Some("1000"), 500));
}

#[test]
fn a_stall_lasts_until_the_client_goes() {
    use std::io::{Read as _, Write as _};
    let ecr = server([Fault::at(1).does(FaultKind::Stall)]);
    let mut stream = std::net::TcpStream::connect(&ecr.registry_url()[7..]).expect("listens");
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").expect("reads");
    stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
    assert!(stream.read(&mut [0; 1]).is_err());
    assert_eq!(ecr.journal()[0].answer, Answer::Stalled);
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let ecr = server([Fault::on("PUT", "/uploads/").does(FaultKind::status(500))]);
    let client = Client::new(&ecr);
    let session = client.open("app");
    let got = client.send("PUT", &format!("{session}?digest=x"), &[], &vec![0; 32 * 1024 * 1024]);
    got.refuses(500, "UNKNOWN", "");
    assert_eq!(client.send("DELETE", &session, &[], b"").status, 204);
}

#[test]
fn a_stall_in_the_body_leaves_the_session_to_others() {
    use std::io::{Read as _, Write as _};
    let ecr = server([Fault::on("PUT", "/uploads/").does(FaultKind::StallAfter(1000))]);
    let client = Client::new(&ecr);
    let session = client.open("app");
    let raw = client.request("PUT", &format!("{session}?digest={}", sha256(b"a")), &[], &[0; 2000]);
    let mut stream = std::net::TcpStream::connect(&ecr.registry_url()[7..]).expect("listens");
    stream.write_all(&raw).expect("reads");
    stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
    assert!(stream.read(&mut [0; 1]).is_err());
    assert_eq!((ecr.journal()[1].answer, ecr.journal()[1].bytes), (Answer::Stalled, 1000));
    assert_eq!(client.send("DELETE", &session, &[], b"").status, 204);
}

#[test]
fn a_cancellation_that_is_struck_counts_as_one() {
    let ecr = server([Fault::on("DELETE", "/uploads/").does(FaultKind::status(500))]);
    let client = Client::new(&ecr);
    let session = client.open("app");
    assert_eq!(client.send("DELETE", &session, &[], b"").status, 500);
    assert_eq!((ecr.open_sessions(), ecr.check()), (1, Ok(())));
}

#[test]
fn a_credential_that_follows_a_redirect_is_a_violation() {
    let ecr = server([]);
    let url = ecr.elsewhere_url();
    let raw = |header: &str| format!("GET /x HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{header}\r\n", &url[7..]);
    assert_eq!(exchange(&url, raw("").as_bytes()).status, 404);
    assert_eq!(ecr.check(), Ok(()));
    assert_eq!(exchange(&url, raw("Authorization: Basic QVdTOng=\r\n").as_bytes()).status, 404);
    let found = ecr.check().expect_err("one");
    assert_eq!(found[0].kind(), ViolationKind::StrayCredential);
    ecr.expect_violation(ViolationKind::StrayCredential);
}

#[test]
fn a_status_comes_once_some_of_the_body_has() {
    let ecr = server([Fault::on("PUT", "/uploads/").does(FaultKind::StatusAfter(1000, 503))]);
    let client = Client::new(&ecr);
    let session = client.open("app");
    let bytes = vec![3; 8 * 1024 * 1024];
    let finish = format!("{session}?digest={}", sha256(&bytes));
    client.send("PUT", &finish, &[], &bytes).refuses(503, "UNKNOWN", "");
    client.send("PUT", &finish, &[], &bytes).refuses(416, "BLOB_UPLOAD_INVALID", "is 0 instead of 1000");
    // A body that is shorter is none of its business.
    ecr.inject(Fault::on("PUT", "/uploads/").does(FaultKind::StatusAfter(1000, 503)));
    assert_eq!(client.send("DELETE", &session, &[], b"").status, 204);
    client.upload("app", &bytes[..999]);
}

#[test]
fn a_reply_comes_in_drops() {
    let every = Duration::from_millis(10);
    let ecr = server([Fault::on("GET", "/blobs/").does(FaultKind::SlowReply { bytes: 100, every })]);
    let client = Client::new(&ecr);
    let bytes: Vec<u8> = (0..=250).cycle().take(1050).collect();
    let path = format!("/v2/app/blobs/{}", ecr.seed_blob("app", &bytes));
    let begun = Instant::now();
    let got = client.get(&path);
    assert_eq!((got.status, got.body == bytes), (200, true));
    assert!(begun.elapsed() >= every * 11, "{:?}", begun.elapsed());
}

#[test]
fn a_reply_breaks_off_after_any_byte() {
    let faults = [0, 1, 999].map(FaultKind::TruncatedReplyAfter);
    let ecr = server(faults.into_iter().zip(1..).map(|(kind, nth)| Fault::on("GET", "/blobs/").nth(nth).does(kind)));
    let client = Client::new(&ecr);
    let path = format!("/v2/app/blobs/{}", ecr.seed_blob("app", &[5; 1000]));
    for length in [0, 1, 999, 1000] {
        let got = client.get(&path);
        assert_eq!((got.status, got.header("content-length"), got.body.len()), (200, Some("1000"), length));
    }
}

#[test]
fn a_reply_stalls_in_its_body() {
    use std::io::{Read as _, Write as _};
    let ecr = server([Fault::on("GET", "/blobs/").does(FaultKind::StalledReplyAfter(10))]);
    let client = Client::new(&ecr);
    let path = format!("/v2/app/blobs/{}", ecr.seed_blob("app", &[5; 1000]));
    let mut stream = std::net::TcpStream::connect(&ecr.registry_url()[7..]).expect("listens");
    stream.write_all(&client.request("GET", &path, &[], b"")).expect("reads");
    let (mut got, mut byte) = (Vec::new(), [0]);
    while !got.ends_with(&[b'\n', 5, 5, 5, 5, 5, 5, 5, 5, 5, 5]) {
        stream.read_exact(&mut byte).expect("ten bytes come");
        got.push(byte[0]);
    }
    stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
    assert!(stream.read(&mut byte).is_err(), "not one more, and no end");
}
