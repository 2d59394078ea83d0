use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{AUTHORIZATION, LOCATION};
use local_ecr::{Builder, Fault, FaultKind, LocalEcr, TlsVersion};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, StreamOwned};

use crate::client::{base64, exchange};

fn start(builder: Builder) -> LocalEcr {
    builder.repository("app").tls(true).start().expect("starts")
}

/// A client that trusts the server's authority, and nobody else.
fn trusting(ecr: &LocalEcr, protocols: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(ecr.ca_file().expect("TLS is on")).expect("a certificate");
    roots.add(authority).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.expect("all versions").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// Asks for `/v2/` under a name; gives the connection, after the answer, and the answer.
fn ask(ecr: &LocalEcr, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<(ClientConnection, String)> {
    let address = ecr.registry_url()["https://".len()..].to_owned();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let connection = ClientConnection::new(Arc::clone(config), name).expect("a client");
    let mut stream = StreamOwned::new(connection, TcpStream::connect(address)?);
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok((stream.conn, answer))
}

#[test]
fn the_certificate_is_for_the_loopback_and_for_ecr() {
    let ecr = start(LocalEcr::builder().repository_in("210987654321", "cn-north-1", "app"));
    assert!(ecr.ca_pem().is_some_and(|pem| pem.starts_with("-----BEGIN CERTIFICATE-----")));
    let config = trusting(&ecr, &[]);
    let home = ecr.host();
    let names = [
        "127.0.0.1",
        "localhost",
        &home,
        "123456789012.dkr-ecr-fips.ap-northeast-2.on.aws",
        "210987654321.dkr.ecr.cn-north-1.amazonaws.com.cn",
        "api.ecr.ap-northeast-2.amazonaws.com",
        "ecr.ap-northeast-2.api.aws",
        "public.ecr.aws",
    ];
    for name in names {
        let (_, answer) = ask(&ecr, &config, name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
    for name in ["123456789012.dkr.ecr.eu-west-1.amazonaws.com", "example.com"] {
        let error = ask(&ecr, &config, name).expect_err("it isn't for this name");
        assert!(error.to_string().contains("not valid for name"), "{error}");
    }
    let stranger = start(LocalEcr::builder());
    let error = ask(&ecr, &trusting(&stranger, &[]), "localhost").expect_err("an authority of another server");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[test]
fn versions_can_be_chosen_and_sessions_resumed() {
    for (versions, found) in [
        (&[TlsVersion::V1_2, TlsVersion::V1_3][..], ProtocolVersion::TLSv1_3),
        (&[TlsVersion::V1_3], ProtocolVersion::TLSv1_3),
        (&[TlsVersion::V1_2], ProtocolVersion::TLSv1_2),
    ] {
        let ecr = start(LocalEcr::builder().tls_versions(versions));
        let config = trusting(&ecr, &[]);
        for handshake in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let (connection, _) = ask(&ecr, &config, "localhost").expect("an answer");
            assert_eq!(connection.protocol_version(), Some(found), "{versions:?}");
            assert_eq!(connection.handshake_kind(), Some(handshake), "{versions:?}");
        }
    }
}

#[test]
fn http2_is_offered_on_request_alone() {
    for (offered, agreed) in [(false, "http/1.1"), (true, "h2")] {
        let ecr = start(LocalEcr::builder().http2(offered));
        let (both, old) = (trusting(&ecr, &["h2", "http/1.1"]), trusting(&ecr, &["http/1.1"]));
        let (connection, answer) = ask(&ecr, &old, "localhost").expect("an answer");
        assert_eq!(connection.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        if !offered {
            let (connection, answer) = ask(&ecr, &both, "localhost").expect("an answer");
            assert_eq!(connection.alpn_protocol(), Some(agreed.as_bytes()));
            assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        }
    }
}

#[test]
fn without_tls_nothing_is_said() {
    let ecr = start(LocalEcr::builder());
    let plain = ecr.registry_url().replace("https://", "http://");
    let got = exchange(&plain, b"GET /v2/ HTTP/1.1\r\nHost: x\r\nAuthorization: Basic QVdTOng=\r\n\r\n");
    assert_eq!((got.status, ecr.journal()), (0, Vec::new()));
    let ecr = LocalEcr::builder().start().expect("starts");
    assert_eq!((ecr.ca_file(), ecr.ca_pem()), (None, None));
}

/// POSTs for an upload session over HTTP/2 until an answer doesn't come; gives the `Location` of each.
async fn locations(ecr: &LocalEcr) -> Vec<String> {
    let address = ecr.registry_url()["https://".len()..].to_owned();
    let stream = tokio::net::TcpStream::connect(&address).await.expect("listens");
    let connector = tokio_rustls::TlsConnector::from(trusting(ecr, &["h2"]));
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let stream = connector.connect(name, stream).await.expect("a handshake");
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let mut found = Vec::new();
    let authorization = format!("Basic {}", base64(&format!("AWS:{}", ecr.issue_password())));
    loop {
        let request = hyper::Request::post(format!("{}/v2/app/blobs/uploads/", ecr.registry_url()))
            .header(AUTHORIZATION, &authorization)
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .expect("a request");
        let Ok(reply) = sender.send_request(request).await else { break };
        assert_eq!((reply.status().as_u16(), reply.version()), (202, hyper::Version::HTTP_2));
        let location = reply.headers().get(LOCATION).expect("a Location").to_str().expect("ASCII");
        found.push(location.to_owned());
    }
    tokio::time::timeout(Duration::from_secs(10), connection)
        .await
        .expect("the whole connection ends")
        .expect("no panic")
        .ok();
    found
}

#[test]
fn over_http2_a_location_is_absolute_and_a_cut_ends_the_connection() {
    let ecr = start(LocalEcr::builder().http2(true).fault(Fault::at(3).does(FaultKind::Cut)));
    ecr.allow_open_sessions();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let found = runtime.block_on(locations(&ecr));
    assert_eq!(found.len(), 2);
    let start = format!("{}/v2/app/blobs/uploads/", ecr.registry_url());
    assert!(found.iter().all(|location| location.starts_with(&start)), "{found:?}");
    let hosts: Vec<_> = ecr.journal().into_iter().map(|entry| entry.host).collect();
    assert_eq!(hosts, vec![ecr.registry_url()["https://".len()..].to_owned(); 3]);
    assert_eq!(ecr.check(), Ok(()));
}
