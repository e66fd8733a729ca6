//! Requests that no honest client sends, over a real socket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::Sharing;

/// Sends bytes, and returns all that comes back until the server closes.
fn send(sharing: &Sharing, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(sharing.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // The server may close before it has read all of it.
    let _ = stream.write_all(request);
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

fn get(sharing: &Sharing, path: &str, headers: &str) -> String {
    let token = sharing.token("brand");
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n");
    send(sharing, format!("{head}{headers}\r\n").as_bytes())
}

#[track_caller]
fn has_status(said: &str, statuses: &[u16]) {
    let status = said.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    assert!(statuses.contains(&status), "{said}");
}

#[test]
fn a_request_that_is_too_long_is_refused_and_the_server_goes_on() {
    let sharing = Sharing::new(10);
    let long = "a".repeat(64 << 10);
    has_status(&get(&sharing, &format!("/shares/{long}"), ""), &[414, 431]);
    has_status(&get(&sharing, "/shares", &format!("x: {long}\r\n")), &[431]);
    has_status(&get(&sharing, "/shares", &"x: y\r\n".repeat(100)), &[431]);
    let token = sharing.token("brand");
    let body = " ".repeat(65 << 10);
    let head = format!("authorization: Bearer {token}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    let path = "/shares/weekly/schemas/sales/tables/visits/query";
    has_status(&send(&sharing, format!("POST {path} HTTP/1.1\r\nhost: x\r\n{head}\r\n{body}").as_bytes()), &[413]);
    has_status(&get(&sharing, "/shares", ""), &[200]);
}

#[test]
fn a_path_with_tricks_leads_nowhere_and_what_is_not_http_is_no_request() {
    let sharing = Sharing::new(10);
    for trick in ["/shares/../../etc/passwd", "/shares/%2e%2e/schemas", "//shares", "/shares/a%2fb", "/shares/%ff"] {
        has_status(&get(&sharing, trick, ""), &[404]);
    }
    has_status(&get(&sharing, "http://other.example/shares/../x", ""), &[404]);
    has_status(&send(&sharing, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"), &[400]);
    has_status(&send(&sharing, b"DELETE /shares HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"), &[401]);
    has_status(&get(&sharing, "/shares", ""), &[200]);
}

#[test]
fn the_program_says_what_sharing_means_and_serves_this_machine_alone() {
    let sharing = Sharing::new(10);
    assert!(sharing.said.contains("outside of the privacy kernel"), "{}", sharing.said);
    let everywhere = glovebox_sharing::listen("0.0.0.0:0".parse().unwrap());
    assert_eq!(everywhere.unwrap_err().code(), glovebox_sharing::Code::AddressRefused);
    let serve = ["serve", "--room", "room", "--state", "other", "--listen", "0.0.0.0:0"];
    let refused = sharing.program(&serve);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.starts_with("ADDRESS_REFUSED: ") && said.lines().count() == 2, "{said}");
}
