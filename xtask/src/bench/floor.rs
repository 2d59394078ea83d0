//! What line and registry take: the bytes of an image, streamed by a program that asks and checks nothing.
//!
//! Two requests a blob, no hashing, digests believed, plain HTTP. It is told which blobs the registry has.
//! The largest blob first, on so many connections.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::image::{Image, file};

/// The variable that holds the password of user `AWS`.
pub(crate) const PASSWORD: &str = "BENCH_PASSWORD";

const BLOB: &str = "application/octet-stream";

/// What a process that is the floor is told.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Host and port of the registry
    address: String,
    /// The repository
    repository: String,
    /// The tag
    tag: String,
    /// The layout
    layout: PathBuf,
    /// How many blobs at a time
    lanes: usize,
    /// The layout whose blobs the registry has
    #[arg(long)]
    except: Option<PathBuf>,
}

/// Pushes, and says whether that worked.
pub(crate) fn run(args: &Args) -> bool {
    let pushed = push(args).inspect_err(|error| eprintln!("{error}"));
    pushed.is_ok()
}

fn push(args: &Args) -> Result<(), Box<dyn Error + Send + Sync>> {
    let password = std::env::var(PASSWORD)?;
    let image = Image::read(&args.layout).map_err(|error| error.to_string())?;
    let mut blobs = image.blobs;
    if let Some(layout) = &args.except {
        let there = Image::read(layout).map_err(|error| error.to_string())?.blobs;
        blobs.retain(|blob| !there.contains(blob));
    }
    blobs.sort_by_key(|(_, size)| *size);
    let lanes = args.lanes.min(blobs.len());
    let waiting = Mutex::new(blobs);
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let lane = || -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut connection = Connection::open(args, &password)?;
        while let Some((digest, size)) = next() {
            connection.blob(&args.layout, &digest, size)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().map_err(|_| "a lane panicked")?)
    })?;
    let mut connection = Connection::open(args, &password)?;
    for (at, manifest) in (1..).zip(&image.manifests) {
        let name = if at == image.manifests.len() { &args.tag } else { &manifest.digest };
        let path = format!("/v2/{}/manifests/{name}", args.repository);
        connection.ask("PUT", &path, &manifest.media_type, &Body::Bytes(&manifest.bytes))?;
    }
    Ok(())
}

enum Body<'a> {
    Bytes(&'a [u8]),
    File(&'a File, u64),
}

struct Connection<'a> {
    args: &'a Args,
    credentials: String,
    stream: BufReader<TcpStream>,
}

impl<'a> Connection<'a> {
    fn open(args: &'a Args, password: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(&args.address)?;
        stream.set_nodelay(true)?;
        let credentials = STANDARD.encode(format!("AWS:{password}"));
        Ok(Self { args, credentials, stream: BufReader::new(stream) })
    }

    fn blob(&mut self, layout: &Path, digest: &str, size: u64) -> io::Result<()> {
        let path = format!("/v2/{}/blobs/uploads/", self.args.repository);
        let session = self.ask("POST", &path, BLOB, &Body::Bytes(&[]))?;
        let separator = if session.contains('?') { '&' } else { '?' };
        let end = format!("{session}{separator}digest={digest}");
        self.ask("PUT", &end, BLOB, &Body::File(&File::open(file(layout, digest))?, size))?;
        Ok(())
    }

    /// Sends a request and gives the path of its `Location`, if there is one. Anything but a success is an error.
    fn ask(&mut self, method: &str, path: &str, media_type: &str, body: &Body) -> io::Result<String> {
        let length = match body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::File(_, size) => *size,
        };
        let (address, credentials) = (&self.args.address, &self.credentials);
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic {credentials}\r\n\
             Content-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n"
        );
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        match body {
            Body::Bytes(bytes) => stream.write_all(bytes)?,
            Body::File(file, size) => send(stream, file, *size)?,
        }
        let reply = Reply::read(&mut self.stream)?;
        if !reply.status.starts_with('2') {
            return Err(io::Error::other(format!("{method} {path}: {} {}", reply.status, reply.body)));
        }
        let location = reply.location.unwrap_or_default();
        Ok(location.split_once(address).map_or(location.as_str(), |(_, path)| path).to_owned())
    }
}

/// From file to socket within the kernel: `io::copy` would read and write.
#[cfg(target_os = "linux")]
fn send(stream: &TcpStream, file: &File, size: u64) -> io::Result<()> {
    let mut at = 0;
    while at < size {
        let rest = usize::try_from(size - at).unwrap_or(usize::MAX);
        if rustix::fs::sendfile(stream, file, Some(&mut at), rest)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn send(mut stream: &TcpStream, mut file: &File, _size: u64) -> io::Result<()> {
    io::copy(&mut file, &mut stream).map(drop)
}

struct Reply {
    /// With the reason behind it.
    status: String,
    location: Option<String>,
    body: String,
}

impl Reply {
    fn read(stream: &mut impl BufRead) -> io::Result<Self> {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let status = line.split_once(' ').map_or("", |(_, status)| status.trim()).to_owned();
        let (mut location, mut length) = (None, 0);
        loop {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "location" => location = Some(value.trim().to_owned()),
                "content-length" => length = value.trim().parse().map_err(io::Error::other)?,
                _ => (),
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        Ok(Self { status, location, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_replies_one_after_the_other() {
        let mut stream = &b"HTTP/1.1 202 Accepted\r\nLocation: /v2/a?b=c:d\r\ncontent-length: 0\r\n\r\n\
            HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno"[..];
        let reply = Reply::read(&mut stream).unwrap();
        assert_eq!((reply.status.as_str(), reply.location.as_deref()), ("202 Accepted", Some("/v2/a?b=c:d")));
        let reply = Reply::read(&mut stream).unwrap();
        assert_eq!((reply.status.as_str(), reply.location, reply.body.as_str()), ("400 Bad Request", None, "no"));
        assert!(Reply::read(&mut stream).is_err());
    }
}
