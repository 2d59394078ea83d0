//! The client against engines that answer from a table, and what real ones never do on demand.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::TempDir;

use super::*;
use crate::reach::PerHost;

/// What a fake engine does with a request: the path's beginning, and the bytes of the answer, which end the connection.
type Table = Vec<(&'static str, Vec<u8>)>;

struct Fake {
    folder: TempDir,
    /// Request lines.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// An engine that keeps a connection open without an answer where its table has none.
    fn start(table: Table) -> Self {
        let folder = TempDir::new().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (log, path) = (Arc::clone(&asked), folder.path().join("s"));
        thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let line = request(&stream);
                log.lock().unwrap().push(line.clone());
                match table.iter().find(|(begin, _)| line.starts_with(begin)) {
                    Some((_, answer)) if answer.is_empty() => return drop(std::fs::remove_file(&path)),
                    Some((_, answer)) => drop(stream.write_all(answer)),
                    None => silent.push(stream),
                }
            }
        });
        Self { folder, asked }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    fn engine(&self) -> Engine {
        engine(&self.socket())
    }
}

fn request(stream: &UnixStream) -> String {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().and_then(Result::ok).unwrap_or_default();
    for line in lines {
        if line.is_ok_and(|line| line.is_empty()) {
            break;
        }
    }
    first
}

fn access() -> Access {
    Access {
        plain_http: false,
        connect_timeout: Duration::from_secs(5),
        timeout: Duration::from_secs(5),
        retries: 0,
        ca_files: Vec::new(),
        config_files: Vec::new(),
        profiles: PerHost::default(),
        roles: PerHost::default(),
        region: None,
        endpoint_urls: PerHost::default(),
        registry_endpoints: PerHost::default(),
    }
}

fn engine(socket: &Path) -> Engine {
    let endpoint = Endpoint { address: Address::Unix(socket.to_owned()), origin: Origin::Default };
    Engine::new(endpoint, &Trust::load(&[]).unwrap(), &access()).unwrap()
}

fn json(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into()
}

/// The head of a stream, its chunks, and its end if it has one.
fn stream(chunks: &[&[u8]], end: bool) -> Vec<u8> {
    let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in chunks {
        answer.extend(format!("{:x}\r\n", chunk.len()).bytes());
        answer.extend_from_slice(chunk);
        answer.extend(b"\r\n");
    }
    if end {
        answer.extend(b"0\r\n\r\n");
    }
    answer
}

/// All that a read of the export gives, and how it ends.
async fn read(engine: &Engine) -> (Vec<u8>, io::Result<usize>, io::Result<usize>) {
    let mut export = engine.export("app").await.unwrap();
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        let end = export.read_to_end(&mut bytes);
        (bytes, end, export.read(&mut [0]))
    });
    reading.await.unwrap()
}

#[tokio::test]
async fn a_stream_is_given_as_it_comes() {
    let content: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let pieces: Vec<&[u8]> = content.chunks(30_000).chain([&[0; 1024][..]]).collect();
    let fake = Fake::start(vec![("GET /images/app/get ", stream(&pieces, true))]);
    let (bytes, end, after) = read(&fake.engine()).await;
    assert_eq!((end.unwrap(), after.unwrap()), (content.len() + 1024, 0));
    assert!(bytes == pieces.concat());
}

#[tokio::test]
async fn an_early_end_is_an_error() {
    let failure: &[u8] = b"{\"errorDetail\":{\"message\":\"disk on fire\"},\"error\":\"disk on fire\"}\r\n";
    let cases: [(Vec<u8>, &str); 4] = [
        (stream(&[b"content", &[0; 1024]], false), "sent 1031 bytes of app and then no more"),
        (stream(&[b"content"], true), "the tar has no end"),
        (stream(&[], true), "the tar has no end"),
        (stream(&[b"content", failure], true), "disk on fire"),
    ];
    for (answer, expected) in cases {
        let fake = Fake::start(vec![("GET /images/app/get ", answer)]);
        let (_, end, after) = read(&fake.engine()).await;
        let error = end.unwrap_err();
        let told = crate::cause::find::<EngineError>(&error).map(|error| crate::cause::chain(error)).unwrap();
        assert!(told.contains(expected), "{told}");
        assert!(after.is_err(), "an end after {told}");
    }
}

#[tokio::test]
async fn an_engine_that_dies_is_noticed() {
    // It takes the request, says nothing, and is gone when it is asked whether it is there.
    for head in [Vec::new(), stream(&[b"content"], false)] {
        let mut table: Table = vec![("GET /_ping ", Vec::new())];
        let begins = !head.is_empty();
        if begins {
            table.push(("GET /images/app/get ", head));
        }
        let fake = Fake::start(table);
        let engine = Engine { quiet: Duration::from_millis(20), ..fake.engine() };
        if begins {
            let (_, end, _) = read(&engine).await;
            assert!(end.is_err());
        } else {
            let error = engine.export("app").await.unwrap_err();
            assert!(matches!(error, EngineError::Unreachable { .. }), "{error}");
        }
    }
}

#[tokio::test]
async fn an_engine_that_is_only_slow_is_waited_for() {
    let fake = Fake::start(vec![("GET /_ping ", json(200, "OK"))]);
    let engine = Engine { quiet: Duration::from_millis(1), ..fake.engine() };
    let pings = async {
        while fake.asked.lock().unwrap().iter().filter(|line| line.contains("_ping")).count() < 5 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        export = engine.export("app") => panic!("{export:?}"),
        () = pings => {}
    }
}

#[tokio::test]
async fn dropping_an_export_closes_its_connection() {
    let folder = TempDir::new().unwrap();
    let listener = UnixListener::bind(folder.path().join("s")).unwrap();
    let serving = tokio::task::spawn_blocking(move || {
        let (mut stream, _) = listener.accept().unwrap();
        request(&stream);
        stream.write_all(&self::stream(&[b"content"], false)).unwrap();
        // Until nobody takes it any more.
        let chunk = self::stream(&[&[1; 10_000]], false);
        let chunk = &chunk[chunk.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4..];
        while stream.write_all(chunk).is_ok() {}
    });
    let export = engine(&folder.path().join("s")).export("app").await.unwrap();
    drop(export);
    serving.await.unwrap();
}

#[tokio::test]
async fn answers() {
    let check = async |image: &str, table: Table| Fake::start(table).engine().image(image).await;
    let inspect = r#"{"Id":"ab","RepoTags":["app:v1","<none>:<none>"],"RepoDigests":null,"Os":"linux","Architecture":"arm64",
        "Variant":"v8","Size":5,"RootFS":{"Type":"layers"}}"#;
    let found = check("app:v1", vec![("GET /images/app:v1/json ", json(200, inspect))]).await.unwrap();
    assert_eq!(
        (found.id.as_str(), &found.names[..], found.named),
        ("sha256:ab", &["app:v1".to_owned()][..], Some("app:v1".to_owned()))
    );
    assert_eq!((found.platform.to_string().as_str(), found.size, found.diff_ids), ("linux/arm64/v8", 5, Vec::new()));

    let error = async |image: &str, table: Table| check(image, table).await.unwrap_err();
    let not_there = || ("GET /images/app/json ", json(404, r#"{"message":"No such image: app"}"#));
    assert!(matches!(error("app", vec![not_there()]).await, EngineError::Gone { .. }));
    assert!(matches!(error("a//b", vec![]).await, EngineError::Name { .. }));
    let no_json = error("app", vec![("GET ", json(200, "<html>"))]).await;
    assert!(matches!(no_json, EngineError::Odd { .. }), "{no_json}");
    let no_http = error("app", vec![("GET ", b"\x15\x03\x01\x00\x02\x02\x16".to_vec())]).await;
    assert!(matches!(no_http, EngineError::Odd { .. }), "{no_http}");
    let EngineError::Answered { status, message, .. } =
        error("app", vec![("GET ", json(500, r#"{"message":"a\nb"}"#))]).await
    else {
        panic!()
    };
    assert_eq!((status, message.as_str()), (500, "a; b"));
    let list = r#"[{"Id":"sha256:abc1","RepoTags":null},{"Id":"sha256:abc2"},{"Id":"sha256:ad"}]"#;
    let ambiguous =
        error("abc", vec![("GET /images/abc/", json(404, "{}")), ("GET /images/json ", json(200, list))]).await;
    let EngineError::Ambiguous { ids, .. } = ambiguous else { panic!("{ambiguous}") };
    assert_eq!(ids, ["sha256:abc1", "sha256:abc2"]);
}

#[tokio::test]
async fn every_engine_is_asked() {
    let list = r#"[{"Id":"sha256:ab","RepoTags":["app:v2"]}]"#;
    let without =
        |image: &'static str| Fake::start(vec![(image, json(404, "{}")), ("GET /images/json ", json(200, list))]);
    let first = without("GET /images/app:v1/json ");
    let inspect = r#"{"Id":"sha256:cd","RepoTags":["app:v1"]}"#;
    let second = Fake::start(vec![("GET /images/app:v1/json ", json(200, inspect))]);
    let home = TempDir::new().unwrap();
    let runtime = TempDir::new().unwrap();
    std::os::unix::fs::symlink(first.socket(), runtime.path().join("docker.sock")).unwrap();
    std::fs::create_dir(runtime.path().join("podman")).unwrap();
    let podman = runtime.path().join("podman/podman.sock");
    std::os::unix::fs::symlink(second.socket(), &podman).unwrap();
    let settings = EngineSettings {
        runtime: Some(runtime.path().into()),
        home: Some(home.path().into()),
        ..EngineSettings::default()
    };
    let (engine, found) = Engine::find(&settings, &access(), "app:v1").await.unwrap();
    assert_eq!((engine.endpoint(), found.id), (format!("unix://{}", podman.display()), "sha256:cd".to_owned()));

    std::fs::remove_file(&podman).unwrap();
    let dead = UnixListener::bind(&podman).unwrap();
    drop(dead);
    let error = Engine::find(&settings, &access(), "app:v1").await.unwrap_err();
    let EngineError::NotFound { asked, similar, .. } = &error else { panic!("{error}") };
    let reached = |name: &Path| {
        let asked = asked.iter().find(|asked| asked.endpoint.ends_with(&*name.to_string_lossy())).unwrap();
        (asked.failure.is_none(), asked.reach())
    };
    assert_eq!(reached(&runtime.path().join("docker.sock")), (true, None));
    assert_eq!(reached(&podman), (false, Some(Reach::Refused)));
    assert_eq!(reached(&home.path().join(".docker/run/docker.sock")), (false, Some(Reach::Missing)));
    assert_eq!(similar, &["app:v2"]);

    let host = format!("unix://{}", podman.display());
    let named = EngineSettings { docker_host: Some(host), ..EngineSettings::default() };
    let error = Engine::find(&named, &access(), "app").await.unwrap_err();
    assert!(matches!(error, EngineError::Unreachable { reach: Reach::Refused, .. }), "{error}");
}
