//! A server that says whatever a test wants, over real HTTP, also what no honest server says.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_io::Async;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use serde_json::{Value, json};
use smol_hyper::rt::FuturesIo;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: String,
}

/// What is said to it.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the connection breaks off behind the body, before it has ended.
    pub(crate) breaks: bool,
}

impl Reply {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into(), breaks: false }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::ok("{}") }
    }
}

type Answer = dyn Fn(&str, &Asked) -> Reply + Send + Sync;

/// The server. It lives as long as the test's process, and nobody else asks it.
#[derive(Clone)]
pub(crate) struct Faulty {
    pub(crate) endpoint: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Faulty {
    /// Answers with what a function makes of the server's own address and a request.
    pub(crate) fn new(answer: impl Fn(&str, &Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { endpoint: format!("http://{}", listener.local_addr().unwrap()), asked: Arc::default() };
        let (shared, answer): (_, Arc<Answer>) = (server.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, answer) = (shared.clone(), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let io = FuturesIo::new(Async::new(stream.unwrap()).unwrap());
                    let service = service_fn(|request| reply(&shared, &*answer, request));
                    // One request for each connection, which a test may break.
                    let _ = async_io::block_on(http1::Builder::new().keep_alive(false).serve_connection(io, service));
                });
            }
        });
        server
    }

    /// All requests until now.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The text of a profile for it.
    pub(crate) fn profile(&self) -> Value {
        json!({ "shareCredentialsVersion": 1, "endpoint": self.endpoint, "bearerToken": "secret" })
    }
}

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

async fn reply(
    server: &Faulty,
    answer: &Answer,
    request: http::Request<Incoming>,
) -> Result<http::Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let asked = Asked {
        path: parts.uri.to_string(),
        authorization: parts.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned()),
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    server.asked.lock().unwrap().push(asked.clone());
    let Reply { status, headers, body, breaks } = answer(&server.endpoint, &asked);
    let mut response = http::Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    let body = stream::once(async { Ok(Frame::data(Bytes::from(body))) });
    let end = stream::iter(breaks.then_some(())).then(|()| async {
        // What was said before has to be on its way by then.
        async_io::Timer::after(Duration::from_millis(100)).await;
        Err(io::Error::other("on purpose"))
    });
    Ok(response.body(StreamBody::new(body.chain(end)).boxed_unsync()).unwrap())
}
