//! An HTTP/1.1 server whose every answer is the test's own, and which notes what it was asked.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::Authority;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    /// A header's value; `name` is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// What was shown as `Authorization`.
    pub(crate) fn authorization(&self) -> Option<&str> {
        self.header("authorization")
    }

    /// Asks the plain http server at `address` the same.
    pub(crate) fn forward(&self, address: &str) -> Said {
        self.pass_on(address).unwrap_or_else(|error| panic!("{} {}: {error}", self.method, self.target))
    }

    fn pass_on(&self, address: &str) -> io::Result<Said> {
        let mut headers = self.headers.clone();
        headers.retain(|(name, _)| name != "connection");
        headers.push(("connection".to_owned(), "close".to_owned()));
        let mut stream = BufReader::new(TcpStream::connect(address)?);
        let first = format!("{} {} HTTP/1.1", self.method, self.target);
        write_message(stream.get_mut(), &first, &headers, &self.body)?;
        let (first, mut headers) = read_head(&mut stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut body = Vec::new();
        stream.read_to_end(&mut body)?;
        headers.retain(|(name, _)| name != "connection" && (name != "content-length" || self.method == "HEAD"));
        Ok(Said { status: status.ok_or(io::ErrorKind::InvalidData)?, headers, body })
    }
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Said {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Changes a header, if it is there.
    pub(crate) fn map_header(mut self, name: &str, change: impl Fn(&str) -> String) -> Self {
        for (_, value) in self.headers.iter_mut().filter(|(own, _)| own == name) {
            *value = change(value);
        }
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

type Answer = dyn Fn(&Asked) -> Said + Send + Sync;

struct Shared {
    answer: Box<Answer>,
    asked: Mutex<Vec<Asked>>,
    stop: AtomicBool,
}

/// A running server.
pub(crate) struct Front {
    address: String,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Front {
    /// A server that speaks http.
    pub(crate) fn start(answer: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> Self {
        Self::with(None, Box::new(answer))
    }

    /// A server that speaks https, with a certificate of `authority`.
    pub(crate) fn start_tls(authority: &Authority, answer: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> Self {
        Self::with(Some(authority.server()), Box::new(answer))
    }

    fn with(tls: Option<Arc<ServerConfig>>, answer: Box<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = listener.local_addr().expect("a listener has an address").to_string();
        let shared = Arc::new(Shared { answer, asked: Mutex::default(), stop: AtomicBool::new(false) });
        let for_all = shared.clone();
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if for_all.stop.load(Ordering::SeqCst) {
                    break;
                }
                let (shared, tls) = (for_all.clone(), tls.clone());
                // Ends with the client, which the test waits for.
                std::thread::spawn(move || {
                    let _ = match tls {
                        None => serve(&shared, stream),
                        Some(config) => ServerConnection::new(config)
                            .map_err(io::Error::other)
                            .and_then(|connection| serve(&shared, StreamOwned::new(connection, stream))),
                    };
                });
            }
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    /// HOST:PORT.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(&self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn serve(shared: &Shared, stream: impl Read + Write) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some((first, headers)) = read_head(&mut stream)? {
        let mut words = first.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let length = headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.parse());
        let length = length.transpose().map_err(io::Error::other)?.unwrap_or(0);
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let asked = Asked { method: method.to_owned(), target: target.to_owned(), headers, body };
        shared.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
        let said = (shared.answer)(&asked);
        let (mut headers, mut body) = (said.headers, said.body);
        if !headers.iter().any(|(name, _)| name == "content-length") && said.status != 204 {
            headers.push(("content-length".to_owned(), body.len().to_string()));
        }
        if asked.method == "HEAD" {
            body.clear();
        }
        write_message(stream.get_mut(), &format!("HTTP/1.1 {} .", said.status), &headers, &body)?;
    }
    Ok(())
}

fn write_message(to: &mut impl Write, first: &str, headers: &[(String, String)], body: &[u8]) -> io::Result<()> {
    write!(to, "{first}\r\n")?;
    for (name, value) in headers {
        write!(to, "{name}: {value}\r\n")?;
    }
    to.write_all(b"\r\n")?;
    to.write_all(body)?;
    to.flush()
}

type Head = (String, Vec<(String, String)>);

/// The first line, and the headers with their names in lower case; `None` at the end of the connection.
fn read_head(stream: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut first = String::new();
    if stream.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(Some((first.trim_end().to_owned(), headers)));
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
}
