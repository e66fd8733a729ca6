//! HTTP for all commands: time limits, few redirects, bodies of bounded length, and failures told in one line.

use std::error::Error;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, redirect};

use crate::error::{Code, Fault, Result};

/// No connection takes longer.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A server that says nothing for so long is taken for gone.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// What is read of an error's body.
const COMPLAINT_BYTES_MAX: usize = 4 << 10;

/// A client that follows so many redirects.
pub(crate) fn client(https_only: bool, redirects: usize) -> Result<Client> {
    let policy = if redirects == 0 { redirect::Policy::none() } else { redirect::Policy::limited(redirects) };
    Client::builder()
        .user_agent(concat!("glovebox-exchange/", env!("CARGO_PKG_VERSION")))
        .https_only(https_only)
        .redirect(policy)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .build()
        .map_err(|error| {
            Fault::new(
                Code::Internal,
                format!("cannot set up HTTP: {}", chain(&error)),
                "check the certificates that this host trusts",
            )
        })
}

/// Reads the address of a service.
pub(crate) fn parse_url(text: &str) -> Result<Url> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| {
        Fault::new(Code::Usage, format!("{text:?} is not a URL"), "give one that begins with https:// or http://")
    })
}

/// Sends a request; an answer of whatever status is none of a failure.
pub(crate) async fn send(request: RequestBuilder, server: &str) -> Result<Response> {
    request.send().await.map_err(|error| network_failed(server, &error))
}

/// Reads a whole body of at most `max` bytes, whatever the server announced.
pub(crate) async fn body(mut response: Response, max: u64, server: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| network_failed(server, &error))? {
        if (bytes.len() + chunk.len()) as u64 > max {
            return Err(Fault::new(
                Code::Oversize,
                format!("{server} sends more than {max} bytes"),
                "nothing was kept; ask whoever runs the server",
            ));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The beginning of an error's body, for a fact.
pub(crate) async fn complaint(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > COMPLAINT_BYTES_MAX {
            break;
        }
    }
    bytes.truncate(COMPLAINT_BYTES_MAX);
    String::from_utf8_lossy(&bytes).chars().take(300).collect()
}

/// A status that the protocol does not foresee.
pub(crate) async fn server_failed(response: Response, server: &str, doing: &str) -> Fault {
    let status = response.status();
    let remedy = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "set GLOVEBOX_REGISTRY_USER and GLOVEBOX_REGISTRY_PASSWORD, or ask for access"
        }
        _ => "try again later, or ask whoever runs the server",
    };
    let said = complaint(response).await;
    Fault::new(Code::ServerFailed, format!("{server} answers {status} to {doing}: {said}"), remedy)
}

/// A connection that failed.
pub(crate) fn network_failed(server: &str, error: &reqwest::Error) -> Fault {
    let remedy = if error.is_timeout() {
        "try again later"
    } else {
        "check the address, the network and the server's certificate; a registry without TLS needs --plain-http"
    };
    Fault::new(Code::NetworkFailed, format!("{server} cannot be reached: {}", chain(error)), remedy)
}

/// An error with everything that caused it: the outermost alone says only that a request failed.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
