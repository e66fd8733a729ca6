//! Sockets: a thread for each connection, which may wait for a disk, and bounds on all that a stranger can use up.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_io::{Async, Timer};
use bytes::Bytes;
use futures::future::{Either, select};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use smol_hyper::rt::{FuturesIo, SmolTimer};

use super::Server;
use super::answer::{Body, Refusal};
use super::request::Request;
use crate::error::{Code, Fault, Result};

/// How many connections there are at a time. Whoever comes then is turned away, and may try again.
const CONNECTIONS_MAX: usize = 64;
/// How long the head or the body of a request may take to arrive.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// No connection lasts longer, whatever it is used for.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// The longest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
/// The longest body of a request.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Takes an address of this machine to listen on. The server speaks no TLS: that is for a proxy before it.
pub fn listen(address: SocketAddr) -> Result<TcpListener> {
    if !address.ip().is_loopback() {
        return Err(Fault::new(
            Code::AddressRefused,
            format!("{address} can be reached from other machines, and this server speaks no TLS"),
            "listen on 127.0.0.1 or [::1], and let a proxy that speaks TLS forward to it",
        ));
    }
    TcpListener::bind(address).map_err(|error| failed(&error))
}

/// Serves whoever connects, until the process ends.
pub fn serve(server: &Arc<Server>, listener: &TcpListener) -> Result<Infallible> {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let (stream, _) = listener.accept().map_err(|error| failed(&error))?;
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (server, open) = (Arc::clone(server), Arc::clone(&open));
        let connection = std::thread::Builder::new().name("connection".into()).spawn(move || {
            let _open = Open(open);
            // A connection that breaks is the client's affair: what it asked for is logged.
            let _ = async_io::block_on(connection(&server, stream));
        });
        connection.map_err(|error| failed(&error))?;
    }
}

/// Counts a connection until it ends, also by a panic.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(server: &Server, stream: TcpStream) -> Result<(), Box<dyn std::error::Error>> {
    let answer = service_fn(|request| async { Ok::<_, Infallible>(answer(server, request).await) });
    let served = http1::Builder::new()
        .timer(SmolTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(FuturesIo::new(Async::new(stream)?), answer);
    match select(served, Timer::after(CONNECTION_TIMEOUT)).await {
        Either::Left((served, _)) => Ok(served?),
        Either::Right(_) => Ok(()),
    }
}

async fn answer(server: &Server, request: http::Request<Incoming>) -> http::Response<Body> {
    let (parts, body) = request.into_parts();
    match read(body).await {
        Some(body) => server.answer(&Request::new(&parts, &body)).into_response(),
        None => Refusal::TooLarge.answer().into_response(),
    }
}

/// A body that is short enough, and comes soon enough.
async fn read(body: Incoming) -> Option<Bytes> {
    let read = std::pin::pin!(Limited::new(body, BODY_BYTES_MAX).collect());
    match select(read, Timer::after(REQUEST_TIMEOUT)).await {
        Either::Left((read, _)) => read.ok().map(http_body_util::Collected::to_bytes),
        Either::Right(_) => None,
    }
}

fn failed(error: &std::io::Error) -> Fault {
    Fault::new(
        Code::Internal,
        format!("connections cannot be taken: {error}"),
        "free some files or threads, and start again",
    )
}
