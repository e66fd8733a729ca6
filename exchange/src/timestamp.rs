//! `timestamp`: an RFC 3161 time stamp over the signature of an approval or a receipt.
//!
//! The signature's raw bytes are stamped, as in Sigstore bundles: the stamp proves that the signature existed. What is
//! checked here is that the answer is granted and answers this request. Whether the authority is to be trusted, and
//! whether its signature holds, is for `openssl ts -verify` and its list of roots.

use std::path::{Path, PathBuf};

use cms::content_info::ContentInfo;
use cms::signed_data::SignedData;
use der::asn1::{Int, ObjectIdentifier, OctetString};
use der::{Any, Decode, Encode, Sequence};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, StatusCode, Url};
use serde::Serialize;
use x509_tsp::{MessageImprint, TimeStampReq, TimeStampResp, TspVersion};

use crate::agreement::Envelope;
use crate::digest::Digest;
use crate::error::{Code, Fault, Result};
use crate::files::{self, TEXT_BYTES_MAX};
use crate::http;

const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const NONCE_BYTES: usize = 16;

/// A time stamp that was written.
#[derive(Debug, Serialize)]
pub(crate) struct Stamped {
    pub(crate) file: PathBuf,
    pub(crate) timestamp: PathBuf,
    /// The authority's time, as it wrote it: `YYYYMMDDhhmmss[.f]Z`.
    pub(crate) time: String,
    /// SHA-256 of the signature's raw bytes.
    pub(crate) imprint_sha256: String,
}

/// What a time stamp says. Read here once more than in the library, which knows no fractions of seconds.
#[derive(Debug, Sequence)]
struct TstInfo {
    version: TspVersion,
    policy: ObjectIdentifier,
    message_imprint: MessageImprint,
    serial_number: Int,
    time: Any,
    #[asn1(optional = "true")]
    accuracy: Option<x509_tsp::Accuracy>,
    #[asn1(default = "Default::default")]
    ordering: bool,
    #[asn1(optional = "true")]
    nonce: Option<Int>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    authority: Option<Any>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true", constructed = "true")]
    extensions: Option<Any>,
}

/// Stamps each file, in turn. A failure leaves the stamps that were written before it.
pub(crate) async fn timestamp(tsa: &Url, paths: &[PathBuf]) -> Result<Vec<Stamped>> {
    let targets = paths.iter().map(|path| target(path)).collect::<Result<Vec<_>>>()?;
    for target in &targets {
        files::must_not_exist(target)?;
    }
    let client = http::client(false, 0)?;
    let mut stamped = Vec::new();
    for (path, target) in paths.iter().zip(targets) {
        let signature = Envelope::parse(&files::read(path, TEXT_BYTES_MAX)?)?.signature()?;
        let imprint = Digest::of(&signature);
        let (answer, time) = stamp(&client, tsa, &imprint).await?;
        files::write_new(&target, &answer)?;
        stamped.push(Stamped { file: path.clone(), timestamp: target, time, imprint_sha256: imprint.hex() });
    }
    Ok(stamped)
}

/// `NAME.tsr` beside `NAME.dsse.json`.
fn target(path: &Path) -> Result<PathBuf> {
    let stem = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".dsse.json"));
    match stem {
        Some(stem) if !stem.is_empty() => Ok(path.with_file_name(format!("{stem}.tsr"))),
        _ => Err(Fault::new(
            Code::Usage,
            format!("{} is not called NAME.dsse.json", path.display()),
            "name an approval or a receipt; the time stamp goes to NAME.tsr beside it",
        )),
    }
}

async fn stamp(client: &Client, tsa: &Url, imprint: &Digest) -> Result<(Vec<u8>, String)> {
    let server = tsa.host_str().unwrap_or("the authority");
    let nonce = nonce()?;
    let request = request(imprint, &nonce).map_err(|error| internal(&error))?;
    let request = client.post(tsa.clone()).header(CONTENT_TYPE, "application/timestamp-query").body(request);
    let response = http::send(request, server).await?;
    if response.status() != StatusCode::OK {
        return Err(http::server_failed(response, server, "a time-stamp request").await);
    }
    let answer = http::body(response, TEXT_BYTES_MAX, server).await?;
    let time = check(&answer, imprint, &nonce)?;
    Ok((answer, time))
}

/// A positive number that no one can guess, in its shortest form.
fn nonce() -> Result<Vec<u8>> {
    let mut bytes = vec![0; NONCE_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| internal(&error))?;
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(bytes)
}

fn request(imprint: &Digest, nonce: &[u8]) -> der::Result<Vec<u8>> {
    let request = TimeStampReq {
        version: TspVersion::V1,
        message_imprint: MessageImprint {
            hash_algorithm: cms::cert::x509::spki::AlgorithmIdentifier { oid: SHA256, parameters: Some(Any::null()) },
            hashed_message: OctetString::new(imprint.as_bytes().as_slice())?,
        },
        req_policy: None,
        nonce: Some(Int::new(nonce)?),
        // Without the certificate, no one could verify the stamp once the authority's pages are gone.
        cert_req: true,
        extensions: None,
    };
    request.to_der()
}

/// Checks that an answer grants this request, and says when.
fn check(answer: &[u8], imprint: &Digest, nonce: &[u8]) -> Result<String> {
    let response = TimeStampResp::from_der(answer).map_err(|error| malformed(&error))?;
    // Zero is granted, one is granted with changes; those that matter are compared below.
    let status = response.status.status as u32;
    if status > 1 {
        return Err(Fault::new(
            Code::TimestampRefused,
            format!("the authority answers with status {status}, not granted"),
            "try again later, or another authority",
        ));
    }
    let token = response.time_stamp_token.ok_or_else(|| invalid("the answer is granted and holds no time stamp"))?;
    let (info, certificates) = open(&token)?;
    if info.message_imprint.hash_algorithm.oid != SHA256
        || info.message_imprint.hashed_message.as_bytes() != imprint.as_bytes()
    {
        return Err(invalid("the time stamp is for another signature"));
    }
    if info.nonce.as_ref().map(Int::as_bytes) != Some(nonce) {
        return Err(invalid("the time stamp answers another request: its nonce is not ours"));
    }
    if !certificates {
        return Err(invalid("the time stamp lacks the authority's certificate"));
    }
    String::from_utf8(info.time.value().to_vec()).map_err(|error| malformed(&error))
}

/// What is signed, and whether a certificate is enclosed.
fn open(token: &ContentInfo) -> Result<(TstInfo, bool)> {
    if token.content_type != SIGNED_DATA {
        return Err(invalid("the time stamp is no signed message"));
    }
    let signed: SignedData = token.content.decode_as().map_err(|error| malformed(&error))?;
    if signed.encap_content_info.econtent_type != TST_INFO {
        return Err(invalid("the signed message is no time stamp"));
    }
    let content = signed.encap_content_info.econtent.ok_or_else(|| invalid("the signed message is empty"))?;
    let info = TstInfo::from_der(content.value()).map_err(|error| malformed(&error))?;
    Ok((info, signed.certificates.is_some_and(|set| !set.0.is_empty())))
}

fn malformed(error: &dyn std::fmt::Display) -> Fault {
    invalid(&format!("the authority's answer cannot be read: {error}"))
}

fn invalid(fact: &str) -> Fault {
    Fault::new(Code::TimestampInvalid, fact, "nothing was written; try another authority")
}

fn internal(error: &dyn std::fmt::Display) -> Fault {
    Fault::new(Code::Internal, format!("cannot form a time-stamp request: {error}"), "report it")
}
