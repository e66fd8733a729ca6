//! `shares.toml`: who may read which views under which names. Private to the owner, and read anew for every request, so
//! that what is taken out of it is refused from then on.

use std::collections::BTreeSet;
use std::path::Path;

use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::address::Endpoint;
use crate::error::{Code, Fault, Result};
use crate::files;

/// A checked `shares.toml`.
#[derive(Clone, Debug)]
pub(crate) struct Shares {
    /// The party whose views are shared.
    pub(crate) party: String,
    /// Where recipients reach the server.
    pub(crate) endpoint: Endpoint,
    /// How long an address of a file can be used.
    pub(crate) url_minutes: u32,
    /// How long a version can be read after there is a newer one.
    pub(crate) keep_days: u32,
    /// How many rows a file of a version has at most.
    pub(crate) rows_per_file: usize,
    recipients: Vec<Recipient>,
    views: Vec<Shared>,
}

/// Someone who may read.
#[derive(Clone, Debug)]
pub(crate) struct Recipient {
    pub(crate) name: String,
    /// SHA-256 of the bearer token.
    pub(crate) token: [u8; 32],
    pub(crate) expires: DateTime<Utc>,
}

/// A view under the name by which recipients know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shared {
    pub(crate) share: String,
    pub(crate) schema: String,
    pub(crate) name: String,
    /// Its id in `room.toml`.
    pub(crate) view: String,
    /// A name without a recipient lets nobody in.
    recipients: BTreeSet<String>,
}

impl std::fmt::Display for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.share, self.schema, self.name)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    party: String,
    endpoint: String,
    #[serde(default = "default_url_minutes")]
    url_minutes: u32,
    #[serde(default = "default_keep_days")]
    keep_days: u32,
    #[serde(default = "default_rows_per_file")]
    rows_per_file: usize,
    #[serde(default)]
    recipient: Vec<RecipientTerms>,
    #[serde(default)]
    share: Vec<ShareTerms>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecipientTerms {
    name: String,
    token_sha256: String,
    expires: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShareTerms {
    name: String,
    #[serde(default)]
    schema: Vec<SchemaTerms>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SchemaTerms {
    name: String,
    #[serde(default)]
    view: Vec<ViewTerms>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ViewTerms {
    name: String,
    /// The name, where it is not said.
    #[serde(default)]
    view: Option<String>,
    recipients: BTreeSet<String>,
}

const fn default_url_minutes() -> u32 {
    60
}

const fn default_keep_days() -> u32 {
    7
}

const fn default_rows_per_file() -> usize {
    1_000_000
}

impl Shares {
    /// Reads and checks the file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        Self::parse(&files::read_private(path)?)
    }

    /// Checks the text of a `shares.toml`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text).map_err(|error| invalid(error.message()))?;
        if file.version != 1 {
            return Err(invalid(format!("it has version {}, this program reads version 1", file.version)));
        }
        for (what, value, most) in [("url_minutes", file.url_minutes, 24 * 60), ("keep_days", file.keep_days, 365)] {
            if !(1..=most).contains(&value) {
                return Err(invalid(format!("`{what}` is {value}, it is 1 to {most}")));
            }
        }
        if file.rows_per_file == 0 {
            return Err(invalid("`rows_per_file` is 0"));
        }
        let recipients = file.recipient.into_iter().map(check_recipient).collect::<Result<Vec<_>>>()?;
        require_distinct("recipient", recipients.iter().map(|recipient| recipient.name.as_str()))?;
        let tokens: BTreeSet<_> = recipients.iter().map(|recipient| recipient.token).collect();
        if tokens.len() < recipients.len() {
            return Err(invalid("two recipients have one token"));
        }
        let views = views(file.share)?;
        Ok(Self {
            party: file.party,
            endpoint: Endpoint::parse(&file.endpoint)?,
            url_minutes: file.url_minutes,
            keep_days: file.keep_days,
            rows_per_file: file.rows_per_file,
            recipients,
            views,
        })
    }

    /// Whose token it is, if that is valid now.
    pub(crate) fn authenticate(&self, token: &str, now: DateTime<Utc>) -> Option<&Recipient> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let found = self.recipients.iter().find(|recipient| recipient.token.ct_eq(&digest).into());
        found.filter(|recipient| now < recipient.expires)
    }

    /// A recipient who may read now.
    pub(crate) fn recipient(&self, name: &str, now: DateTime<Utc>) -> Option<&Recipient> {
        self.recipients.iter().find(|recipient| recipient.name == name).filter(|recipient| now < recipient.expires)
    }

    /// Whether a recipient of that name is there, expired or not.
    pub(crate) fn has_recipient(&self, name: &str) -> bool {
        self.recipients.iter().any(|recipient| recipient.name.eq_ignore_ascii_case(name))
    }

    /// What a recipient may read, in order of the names.
    pub(crate) fn views_of<'a>(&'a self, recipient: &'a str) -> impl Iterator<Item = &'a Shared> {
        self.views.iter().filter(move |shared| shared.recipients.contains(recipient))
    }

    /// How many recipients and views there are.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.recipients.len(), self.views.len())
    }
}

fn check_recipient(terms: RecipientTerms) -> Result<Recipient> {
    let RecipientTerms { name, token_sha256, expires } = terms;
    check_name("recipient", &name)?;
    let token = HEXLOWER.decode(token_sha256.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    let token =
        token.ok_or_else(|| invalid(format!("the `token_sha256` of {name} is not 64 lower-case hex digits")))?;
    let expires = DateTime::parse_from_rfc3339(&expires)
        .map_err(|_| invalid(format!("the time at which {name} `expires` is not one of RFC 3339")))?;
    Ok(Recipient { name, token, expires: expires.to_utc() })
}

/// All views under their names, in order.
fn views(shares: Vec<ShareTerms>) -> Result<Vec<Shared>> {
    let mut views = Vec::new();
    require_distinct("share", shares.iter().map(|share| share.name.as_str()))?;
    for share in shares {
        check_name("share", &share.name)?;
        require_distinct("schema", share.schema.iter().map(|schema| schema.name.as_str()))?;
        for schema in share.schema {
            check_name("schema", &schema.name)?;
            require_distinct("view", schema.view.iter().map(|view| view.name.as_str()))?;
            for ViewTerms { name, view, recipients } in schema.view {
                check_name("view", &name)?;
                let view = view.unwrap_or_else(|| name.clone());
                // It names a folder of the state.
                check_name("view", &view)?;
                views.push(Shared { share: share.name.clone(), schema: schema.name.clone(), name, view, recipients });
            }
        }
    }
    let key = |shared: &Shared| [&shared.share, &shared.schema, &shared.name].map(|name| name.to_ascii_lowercase());
    views.sort_by_key(key);
    Ok(views)
}

/// Names stand in paths and are compared without regard to case.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    if is_name(name) {
        Ok(())
    } else {
        Err(invalid(format!(
            "the {what} name `{}` is not of the form [A-Za-z0-9_-][A-Za-z0-9._-]{{0,63}}",
            name.escape_debug()
        )))
    }
}

/// Whether a text could be a name. None begins with a dot, so none leads to another folder.
pub(crate) fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(is_plain)
}

fn require_distinct<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name.to_ascii_lowercase()) {
            return Err(invalid(format!("the {what} {} stands twice, in whatever case", name.escape_debug())));
        }
    }
    Ok(())
}

fn invalid(fact: impl AsRef<str>) -> Fault {
    Fault::new(
        Code::SharesInvalid,
        format!("shares.toml: {}", fact.as_ref()),
        "see \"Sharing a view\" in docs/owner-guide.md for its fields",
    )
}
