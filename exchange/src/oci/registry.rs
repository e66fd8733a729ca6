//! A registry: what is asked of it, in the words of the OCI distribution specification.
//!
//! Tokens and uploads are the library's. Everything that is read comes through requests of our own: those bound the
//! length of every body, and say what a registry answered instead of taking any error for an empty list.

use oci_client::RegistryOperation;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use reqwest::header::{ACCEPT, CONTENT_TYPE, LINK};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};

use super::form::{INDEX_TYPE, MANIFEST_TYPE, Part};
use super::reference::Repository;
use crate::digest::Digest;
use crate::error::{Code, Fault, Result};
use crate::files::TEXT_BYTES_MAX;
use crate::http;

/// Blobs may be kept elsewhere; one hop or two lead there.
const REDIRECTS_MAX: usize = 3;
/// Pages of a list of referrers.
const PAGES_MAX: usize = 16;

/// A connection to one repository of a registry.
pub(super) struct Registry {
    repository: Repository,
    base: String,
    oci: Client,
    http: reqwest::Client,
    auth: RegistryAuth,
    token: Option<String>,
}

impl Registry {
    /// Signs in, if the registry demands it, for reading or for writing.
    pub(super) async fn connect(
        repository: &Repository,
        plain_http: bool,
        operation: RegistryOperation,
    ) -> Result<Self> {
        let config = ClientConfig {
            protocol: if plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
            // In one piece: every registry takes that, and a component is at most 8 MiB.
            use_monolithic_push: true,
            connect_timeout: Some(http::CONNECT_TIMEOUT),
            read_timeout: Some(http::READ_TIMEOUT),
            ..ClientConfig::default()
        };
        let oci = Client::try_from(config).map_err(|error| failed(repository, &error))?;
        // The library looks up where a registry of this name is served; a digest is needed only for the form.
        let reference = repository.manifest(&Digest::of(b""));
        let auth = credentials();
        let token = oci.auth(&reference, &auth, operation).await.map_err(|error| failed(repository, &error))?;
        let scheme = if plain_http { "http" } else { "https" };
        Ok(Self {
            base: format!("{scheme}://{}/v2/{}", reference.resolve_registry(), repository.name),
            repository: repository.clone(),
            http: http::client(!plain_http, REDIRECTS_MAX)?,
            oci,
            auth,
            token,
        })
    }

    /// The bytes of a manifest, if the registry holds it.
    pub(super) async fn manifest(&self, digest: &Digest) -> Result<Vec<u8>> {
        let bytes = self.get(&format!("manifests/{digest}"), TEXT_BYTES_MAX).await?;
        checked(bytes.ok_or_else(|| self.not_found(&format!("the manifest {digest}")))?, digest, None)
    }

    /// The list that stands under a tag. Nothing in it is believed.
    pub(super) async fn tagged_index(&self, tag: &str) -> Result<Option<Vec<u8>>> {
        self.get(&format!("manifests/{tag}"), TEXT_BYTES_MAX).await
    }

    /// The bytes of a blob.
    pub(super) async fn blob(&self, part: Part) -> Result<Vec<u8>> {
        let bytes =
            self.get(&format!("blobs/{}", part.digest), part.size).await.map_err(|fault| match fault.code() {
                // More than was promised, though not more than is accepted.
                Code::Oversize => mismatch(&part.digest, "more bytes than the manifest says"),
                _ => fault,
            })?;
        checked(
            bytes.ok_or_else(|| self.not_found(&format!("the blob {}", part.digest)))?,
            &part.digest,
            Some(part.size),
        )
    }

    /// The pages of the list of referrers, or nothing from a registry that has no such list.
    pub(super) async fn referrers(&self, subject: &Digest) -> Result<Option<Vec<Vec<u8>>>> {
        let mut url = self.url(&format!("referrers/{subject}"))?;
        let mut pages = Vec::new();
        while pages.len() < PAGES_MAX {
            let response = self.send(self.http.get(url.clone()).header(ACCEPT, INDEX_TYPE)).await?;
            if response.status() == StatusCode::NOT_FOUND && pages.is_empty() {
                return Ok(None);
            }
            let response = self.expect(response, &[StatusCode::OK], "a request for the list of referrers").await?;
            let next = next_page(&response, &url)?;
            pages.push(http::body(response, TEXT_BYTES_MAX, &self.repository.registry).await?);
            match next {
                Some(next) => url = next,
                None => return Ok(Some(pages)),
            }
        }
        Err(Fault::new(
            Code::Oversize,
            format!("{} lists referrers on more than {PAGES_MAX} pages", self.repository.registry),
            "ask whoever runs the registry; nothing was written",
        ))
    }

    /// Uploads a blob, unless it is there.
    pub(super) async fn push_blob(&self, bytes: &[u8]) -> Result<()> {
        let digest = Digest::of(bytes);
        let image = self.repository.manifest(&digest);
        let text = digest.to_string();
        let there = self.oci.blob_exists(&image, &text).await.map_err(|error| failed(&self.repository, &error))?;
        if !there {
            let pushed = self.oci.push_blob(&image, bytes.to_vec(), &text).await;
            pushed.map_err(|error| failed(&self.repository, &error))?;
        }
        Ok(())
    }

    /// Uploads a manifest under its digest. Says whether the registry itself lists it as a referrer.
    pub(super) async fn push_manifest(&self, bytes: &[u8]) -> Result<bool> {
        let response = self.put(&Digest::of(bytes).to_string(), MANIFEST_TYPE, bytes).await?;
        Ok(response.headers().contains_key("OCI-Subject"))
    }

    /// Writes the list that stands for a registry's own.
    pub(super) async fn push_index(&self, tag: &str, bytes: &[u8]) -> Result<()> {
        self.put(tag, INDEX_TYPE, bytes).await.map(drop)
    }

    async fn put(&self, reference: &str, media_type: &str, bytes: &[u8]) -> Result<Response> {
        let request = self.http.request(Method::PUT, self.url(&format!("manifests/{reference}"))?);
        let response = self.send(request.header(CONTENT_TYPE, media_type).body(bytes.to_vec())).await?;
        self.expect(response, &[StatusCode::CREATED, StatusCode::OK], "a manifest").await
    }

    async fn get(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>> {
        let accept = format!("{MANIFEST_TYPE}, {INDEX_TYPE}, */*;q=0.1");
        let response = self.send(self.http.get(self.url(path)?).header(ACCEPT, accept)).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = self.expect(response, &[StatusCode::OK], &format!("a request for {path}")).await?;
        http::body(response, max, &self.repository.registry).await.map(Some)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let request = match (&self.token, &self.auth) {
            (Some(token), _) => request.bearer_auth(token),
            (None, RegistryAuth::Basic(user, password)) => request.basic_auth(user, Some(password)),
            (None, _) => request,
        };
        http::send(request, &self.repository.registry).await
    }

    async fn expect(&self, response: Response, statuses: &[StatusCode], doing: &str) -> Result<Response> {
        if statuses.contains(&response.status()) {
            return Ok(response);
        }
        Err(http::server_failed(response, &self.repository.registry, doing).await)
    }

    fn url(&self, path: &str) -> Result<Url> {
        http::parse_url(&format!("{}/{path}", self.base))
    }

    fn not_found(&self, what: &str) -> Fault {
        Fault::new(
            Code::NotFound,
            format!("{} does not hold {what}", self.repository),
            "check the repository and the digest, and whether the push ended well",
        )
    }
}

/// Credentials come from the environment: arguments stand in every list of processes.
fn credentials() -> RegistryAuth {
    match (std::env::var("GLOVEBOX_REGISTRY_USER"), std::env::var("GLOVEBOX_REGISTRY_PASSWORD")) {
        (Ok(user), Ok(password)) => RegistryAuth::Basic(user, password),
        _ => RegistryAuth::Anonymous,
    }
}

/// Refuses bytes that are not those that were named.
fn checked(bytes: Vec<u8>, digest: &Digest, size: Option<u64>) -> Result<Vec<u8>> {
    if size.is_some_and(|size| bytes.len() as u64 != size) {
        return Err(mismatch(digest, &format!("{} bytes, not as many as the manifest says", bytes.len())));
    }
    let found = Digest::of(&bytes);
    if found == *digest { Ok(bytes) } else { Err(mismatch(digest, &format!("bytes with {found}"))) }
}

fn mismatch(digest: &Digest, got: &str) -> Fault {
    Fault::new(
        Code::DigestMismatch,
        format!("asked for {digest}, the registry sends {got}"),
        "ask whoever runs the registry; nothing was written",
    )
}

/// The address of the next page. It must be of the same server, which has our credentials.
fn next_page(response: &Response, current: &Url) -> Result<Option<Url>> {
    let Some(link) = response.headers().get(LINK).and_then(|link| link.to_str().ok()) else { return Ok(None) };
    let target = link.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    let Some((target, relation)) = target.filter(|(_, relation)| relation.contains("next")) else { return Ok(None) };
    let next = current.join(target).ok().filter(|next| next.origin() == current.origin() && relation.contains("rel"));
    next.map(Some).ok_or_else(|| {
        Fault::new(
            Code::ReferrersInvalid,
            "the list of referrers goes on at another server",
            "ask whoever runs the registry; nothing was written",
        )
    })
}

/// What the library reports, in our codes.
fn failed(repository: &Repository, error: &OciDistributionError) -> Fault {
    let registry = &repository.registry;
    match error {
        // With a status, it was reached.
        OciDistributionError::RequestError(error) if error.status().is_none() => http::network_failed(registry, error),
        _ => Fault::new(
            Code::ServerFailed,
            format!("{registry} does not do as asked: {}", http::chain(error)),
            "check the address, and GLOVEBOX_REGISTRY_USER and GLOVEBOX_REGISTRY_PASSWORD if it demands credentials",
        ),
    }
}
