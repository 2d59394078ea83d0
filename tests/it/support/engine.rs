//! An engine that does what a test says: what real ones don't do when they are asked to.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::archive::Saved;
use super::layout::sha256;

/// What is answered to a request to remove a name.
type Removal = dyn Fn() -> Value + Send + Sync;

/// An engine with one image.
pub(crate) struct Engine {
    folder: TempDir,
    asked: Arc<Mutex<Vec<String>>>,
    removal: Arc<Mutex<Box<Removal>>>,
}

impl Engine {
    /// One that says this of its image, and exports this; `cut` is after how many bytes its exports break off.
    pub(crate) fn start(inspected: &Value, export: Vec<u8>, cut: Option<usize>) -> Self {
        let folder = TempDir::with_prefix("ecr-push-it-").expect("a temporary folder");
        let listener = UnixListener::bind(folder.path().join("s")).expect("a new socket");
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (log, inspected) = (asked.clone(), inspected.to_string());
        let export = Arc::new(export);
        let removal: Arc<Mutex<Box<Removal>>> = Arc::new(Mutex::new(Box::new(|| json!([]))));
        let removes = removal.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, inspected, export) = (log.clone(), inspected.clone(), export.clone());
                let removes = removes.clone();
                thread::spawn(move || answer(stream, &log, &inspected, (&export, cut), &removes));
            }
        });
        Self { folder, asked, removal }
    }

    /// What it answers when a name is to be removed, as soon as this comes back.
    pub(crate) fn on_removal(&self, removal: impl Fn() -> Value + Send + Sync + 'static) {
        *self.removal.lock().expect("nobody panicked") = Box::new(removal);
    }

    /// One of Docker's up to 24, or of Podman's, with what `save` made of an image.
    pub(crate) fn of(image: &Saved, export: Vec<u8>, cut: Option<usize>) -> Self {
        let diff_ids: Vec<String> = image.layers.iter().map(|layer| sha256(layer)).collect();
        let size: usize = image.layers.iter().map(Vec::len).sum();
        let inspected = json!({
            "Id": image.id(), "RepoTags": ["app:v1"], "RepoDigests": [], "Os": "linux", "Architecture": "amd64",
            "Size": size, "RootFS": {"Type": "layers", "Layers": diff_ids},
        });
        Self::start(&inspected, export, cut)
    }

    /// For `DOCKER_HOST`.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("s").display())
    }

    /// How many exports were asked for.
    pub(crate) fn exports(&self) -> usize {
        let asked = self.asked.lock().expect("nobody panicked");
        asked.iter().filter(|line| line.starts_with("GET ") && line.contains("/get ")).count()
    }
}

fn answer(
    mut stream: UnixStream,
    log: &Mutex<Vec<String>>,
    inspected: &str,
    (export, cut): (&[u8], Option<usize>),
    removal: &Mutex<Box<Removal>>,
) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut line = String::new();
    let mut header = String::from(" ");
    if reader.read_line(&mut line).is_err() {
        return;
    }
    while header.trim() != "" {
        header.clear();
        if reader.read_line(&mut header).unwrap_or_default() == 0 {
            break;
        }
    }
    log.lock().expect("nobody panicked").push(line.clone());
    let plain = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    // Whoever has had enough goes away.
    let _ = if line.contains("/get ") {
        let body = &export[..cut.unwrap_or(export.len()).min(export.len())];
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/x-tar\r\n\r\n";
        stream.write_all(head.as_bytes()).and_then(|()| {
            for chunk in body.chunks(32_000) {
                stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes())?;
                stream.write_all(chunk)?;
                stream.write_all(b"\r\n")?;
            }
            if cut.is_none() { stream.write_all(b"0\r\n\r\n") } else { Ok(()) }
        })
    } else if line.starts_with("DELETE ") {
        let answer = removal.lock().expect("nobody panicked")();
        stream.write_all(plain(&answer.to_string()).as_bytes())
    } else if line.contains("/json ") {
        stream.write_all(plain(inspected).as_bytes())
    } else {
        stream.write_all(plain("OK").as_bytes())
    };
}
