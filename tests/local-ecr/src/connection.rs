//! From an accepted socket to HTTP: the slow line, if there is one, then TLS, then the version of HTTP.

use std::io;
use std::sync::Arc;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::rustls::HandshakeKind;

use crate::journal::Side;
use crate::server::{Shared, answer};
use crate::tls;

/// Bytes in both directions, over whatever they come.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Serves a connection to its end.
pub(crate) async fn serve(shared: Arc<Shared>, side: Side, connection: TcpStream) -> io::Result<()> {
    // Replies are small, and a reply that waits for an acknowledgement costs 40 ms.
    connection.set_nodelay(true)?;
    let stream: Box<dyn Stream> = match &shared.link {
        Some(link) => Box::new(link.lay(connection)),
        None => Box::new(connection),
    };
    let Some(tls) = &shared.tls else {
        shared.journal.connect(side, false);
        speak(shared, side, stream, false).await;
        return Ok(());
    };
    let stream = tls.acceptor.accept(stream).await?;
    let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
    shared.journal.connect(side, resumed);
    let http2 = tls::is_http2(stream.get_ref().1.alpn_protocol());
    speak(shared, side, stream, http2).await;
    Ok(())
}

/// Answers request after request. An error is a client that went away, or a cut that was wanted.
async fn speak(shared: Arc<Shared>, side: Side, stream: impl Stream + 'static, http2: bool) {
    let cut = Arc::new(Notify::new());
    let service = service_fn(|request| {
        let answer = answer(Arc::clone(&shared), side, request);
        let cut = Arc::clone(&cut);
        async move { answer.await.inspect_err(|_| cut.notify_one()) }
    });
    let stream = TokioIo::new(stream);
    if http2 {
        // Of itself hyper would only reset the one stream.
        tokio::select! {
            _ = http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service) => (),
            () = cut.notified() => (),
        }
    } else {
        let _ = http1::Builder::new().title_case_headers(true).serve_connection(stream, service).await;
    }
}
