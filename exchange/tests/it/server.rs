//! A small HTTP server for answers that no real one gives, and a client for requests that no tool makes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// An answer: status, further header lines, body.
pub(crate) type Answer = (u16, String, Vec<u8>);

/// Serves on a port of its own until the tests end. Gives host and port.
pub(crate) fn serve(answer: impl Fn(&Request) -> Answer + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if let Some(request) = read_request(&mut stream) {
                let (status, headers, body) = answer(&request);
                let head = format!(
                    "HTTP/1.1 {status} Status\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
                    body.len()
                );
                // A client that has seen enough hangs up.
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
                let _ = stream.shutdown(Shutdown::Write);
            }
        }
    });
    address
}

fn read_request(stream: &mut TcpStream) -> Option<Request> {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (head, mut body) = read_head(stream)?;
    let length = header(&head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    while body.len() < length {
        let mut chunk = [0; 8192];
        let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        body.extend_from_slice(&chunk[..read]);
    }
    let mut words = head.split(' ');
    Some(Request { method: words.next()?.into(), path: words.next()?.into(), head: head.clone(), body })
}

fn read_head(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Some((String::from_utf8(bytes).ok()?, rest));
        }
        let mut chunk = [0; 8192];
        let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
    }
}

/// The value of a header.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Sends a request and reads the whole answer: status, head, body.
pub(crate) fn http(address: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).unwrap();
    let (head, mut rest) = read_head(&mut stream).unwrap();
    stream.read_to_end(&mut rest).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, rest)
}
