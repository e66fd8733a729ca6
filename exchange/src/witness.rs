//! `witness`: a checkpoint to a witness, and its cosignature back (C2SP tlog-witness, add-checkpoint).
//!
//! The request is made by `glovebox log witness-request`, which has the log; the cosignature is verified there too,
//! with the witness's key. Here bytes are carried, and a refusal is told in words.

use std::path::PathBuf;

use data_encoding::BASE64;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Response, StatusCode, Url};
use serde::Serialize;

use crate::error::{Code, Fault, Result};
use crate::files;
use crate::http;

/// 63 hashes and a checkpoint take a tenth of it.
const MESSAGE_BYTES_MAX: u64 = 64 << 10;
const PROOF_LINES_MAX: usize = 63;
/// What begins a signature line of a signed note.
const SIGNATURE_MARK: &str = "\u{2014} ";

/// Where to send what, and where the answer goes.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) url: Url,
    pub(crate) request: PathBuf,
    pub(crate) out: Option<PathBuf>,
}

/// A checkpoint that was cosigned.
#[derive(Debug, Serialize)]
pub(crate) struct Cosigned {
    pub(crate) origin: String,
    pub(crate) size: u64,
    /// Signature lines, each with its line feed: they can be appended to the checkpoint as they are.
    pub(crate) cosignatures: String,
    pub(crate) out: Option<PathBuf>,
}

/// What a request says of itself.
#[derive(Debug, PartialEq, Eq)]
struct Request<'a> {
    old: u64,
    origin: &'a str,
    size: u64,
}

/// Sends the request and reads the answer.
pub(crate) async fn witness(ask: &Ask) -> Result<Cosigned> {
    if let Some(out) = &ask.out {
        files::must_not_exist(out)?;
    }
    let bytes = files::read(&ask.request, MESSAGE_BYTES_MAX)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| request_invalid("it is not UTF-8"))?;
    let request = parse_request(text)?;
    let server = ask.url.host_str().unwrap_or("the witness");
    let url = http::parse_url(&format!("{}/add-checkpoint", ask.url.as_str().trim_end_matches('/')))?;
    let sent = http::client(false, 0)?.post(url).header(CONTENT_TYPE, "text/plain; charset=utf-8").body(bytes.clone());
    let response = http::send(sent, server).await?;
    if response.status() != StatusCode::OK {
        return Err(refusal(response, server, &request).await);
    }
    let answer = http::body(response, MESSAGE_BYTES_MAX, server).await?;
    let cosignatures = parse_answer(&answer)?;
    if let Some(out) = &ask.out {
        files::write_new(out, cosignatures.as_bytes())?;
    }
    Ok(Cosigned { origin: request.origin.into(), size: request.size, cosignatures, out: ask.out.clone() })
}

/// Reads a request's form: a wrong file is noticed before a stranger gets it.
fn parse_request(text: &str) -> Result<Request<'_>> {
    let (head, checkpoint) = text.split_once("\n\n").ok_or_else(|| request_invalid("it has no empty line"))?;
    let mut lines = head.split('\n');
    let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(parse_size);
    let old = old.ok_or_else(|| request_invalid("its first line is not `old SIZE`"))?;
    let proof: Vec<&str> = lines.collect();
    let is_hash = |line: &&str| BASE64.decode(line.as_bytes()).is_ok_and(|hash| hash.len() == 32);
    if proof.len() > PROOF_LINES_MAX || !proof.iter().all(is_hash) {
        return Err(request_invalid("its proof is not at most 63 lines of hashes"));
    }
    let mut lines = checkpoint.split('\n');
    let (origin, size) = (lines.next().unwrap_or_default(), lines.next().and_then(parse_size));
    match size {
        Some(size) if !origin.is_empty() && checkpoint.contains(SIGNATURE_MARK) && text.ends_with('\n') => {
            Ok(Request { old, origin, size })
        }
        _ => Err(request_invalid("it does not end with a signed checkpoint")),
    }
}

/// A decimal number without leading zeroes.
fn parse_size(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Reads signature lines. Whose they are and whether they verify is found out where the keys are.
fn parse_answer(bytes: &[u8]) -> Result<String> {
    let invalid = |why: &str| {
        Fault::new(
            Code::WitnessInvalid,
            format!("the witness's answer {why}"),
            "check that the URL is the witness's submission prefix",
        )
    };
    let text = String::from_utf8(bytes.to_vec()).map_err(|_| invalid("is not UTF-8"))?;
    let Some(lines) = text.strip_suffix('\n') else { return Err(invalid("does not end with a line feed")) };
    if lines.split('\n').all(is_signature_line) { Ok(text) } else { Err(invalid("has lines that are no cosignatures")) }
}

/// Mark, name, and base64 of a key id with a signature. No control characters: the line goes to a terminal.
fn is_signature_line(line: &str) -> bool {
    let Some((name, signature)) = line.strip_prefix(SIGNATURE_MARK).and_then(|rest| rest.split_once(' ')) else {
        return false;
    };
    let named = !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+');
    named && BASE64.decode(signature.as_bytes()).is_ok_and(|bytes| bytes.len() > 4)
}

/// Says what a refusal means.
async fn refusal(response: Response, server: &str, request: &Request<'_>) -> Fault {
    let refused = |fact: String, remedy: &str| Fault::new(Code::WitnessRefused, fact, remedy);
    match response.status() {
        StatusCode::CONFLICT => match http::body(response, MESSAGE_BYTES_MAX, server).await {
            Ok(body) => conflict(&body, server, request),
            Err(fault) => fault,
        },
        StatusCode::NOT_FOUND => refused(
            format!("{server} does not know the log {:?} (404)", request.origin),
            "ask whoever runs the witness to add the log and its key; check that the URL is the submission prefix",
        ),
        StatusCode::FORBIDDEN => refused(
            format!("{server} trusts no key that signed this checkpoint of {:?} (403)", request.origin),
            "give whoever runs the witness the log's public key, or sign with the key it knows",
        ),
        StatusCode::UNPROCESSABLE_ENTITY => refused(
            format!(
                "{server} finds size {} not consistent with the size {} that it cosigned (422)",
                request.size, request.old
            ),
            "the log was rewritten, or the request was: keep both, and compare the log with its copies",
        ),
        StatusCode::BAD_REQUEST => refused(
            format!("{server} cannot read the request (400): {}", http::complaint(response).await),
            "make the request again with `glovebox log witness-request`",
        ),
        _ => http::server_failed(response, server, "a checkpoint").await,
    }
}

/// The witness has cosigned another size than the request's old one.
fn conflict(body: &[u8], server: &str, request: &Request<'_>) -> Fault {
    let size = std::str::from_utf8(body).ok().and_then(|text| text.strip_suffix('\n')).and_then(parse_size);
    let Some(size) = size else {
        return Fault::new(
            Code::WitnessInvalid,
            format!("{server} answers 409 without the size it has cosigned"),
            "check that the URL is the witness's submission prefix",
        );
    };
    let Request { old, origin, size: new } = request;
    let (meaning, remedy) = if size > *new {
        (
            format!("more than the {new} of this checkpoint: the log was rolled back, or this is an old copy of it"),
            "find the newer log; if there is none, entries were removed after they were witnessed".to_owned(),
        )
    } else if size > *old {
        (
            format!("the request goes on from {old}: its old size is stale"),
            format!("make the request again with old size {size}"),
        )
    } else {
        (
            format!(
                "the request goes on from {old}, which it never cosigned: this is another witness, or it lost its state"
            ),
            format!("ask whoever runs the witness; if all is well there, make the request again with old size {size}"),
        )
    };
    Fault::new(Code::WitnessConflict, format!("{server} has cosigned {size} entries of {origin:?}; {meaning}"), remedy)
}

fn request_invalid(why: &str) -> Fault {
    Fault::new(
        Code::RequestInvalid,
        format!("the file is no add-checkpoint request: {why}"),
        "make it with `glovebox log witness-request`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=";

    #[test]
    fn requests_are_read_as_the_protocol_says() {
        let checkpoint = format!("log.example/room\n9\n{HASH}\n\n\u{2014} log.example/room AAAAAAAA\n");
        let request = |head: &str| parse_request(&format!("{head}\n\n{checkpoint}")).map(|request| request.old).ok();
        assert_eq!(request(&format!("old 4\n{HASH}\n{HASH}")), Some(4));
        assert_eq!(request("old 0"), Some(0));
        for wrong in ["", "old", "old 04", "old -1", "old 1 ", "new 1", "old 1\nx", "old 1\nAAAA"] {
            assert_eq!(request(wrong), None, "{wrong}");
        }
        assert_eq!(request(&format!("old 1{}", format!("\n{HASH}").repeat(64))), None);
        for wrong in ["old 1\n", "old 1\n\n", "old 1\n\nlog\n", "old 1\n\nlog\n9\nx\n"] {
            assert!(parse_request(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn answers_are_signature_lines_and_nothing_else() {
        let line = "\u{2014} w.example/w1 CMp+6LWBU0anHGH5aNDTJkH/\n";
        assert_eq!(parse_answer(line.as_bytes()).unwrap(), line);
        assert!(parse_answer(line.repeat(2).as_bytes()).is_ok());
        for wrong in [
            "",
            "\n",
            "ok\n",
            &line[..line.len() - 1],
            &format!("{line}\n"),
            &line.replace("w1", "\x1b[2J"),
            "\u{2014} w AAAA\n",
        ] {
            assert_eq!(parse_answer(wrong.as_bytes()).unwrap_err().code(), Code::WitnessInvalid, "{wrong:?}");
        }
    }
}
