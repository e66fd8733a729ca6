//! New recipients: a token that is seen once, in a profile file, and its digest in `shares.toml`.

use std::path::Path;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::error::{Code, Fault, Result};
use crate::shares::{Shares, check_name};
use crate::{files, secret};

/// The longest time for which a token is made.
const DAYS_MAX: u32 = 366;

/// What a new recipient has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecipient {
    /// When its token ends.
    pub expires: DateTime<Utc>,
    /// What it may read already, as `share.schema.view`: views name recipients, also ones that are yet to come.
    pub views: Vec<String>,
}

/// Makes a token, writes a profile file for the recipient and the token's digest into `shares.toml`.
///
/// The token stands in the profile alone, and is not shown again.
pub fn new_recipient(shares: &Path, name: &str, days: u32, profile: &Path, now: DateTime<Utc>) -> Result<NewRecipient> {
    check_name("recipient", name)?;
    if !(1..=DAYS_MAX).contains(&days) {
        return Err(Fault::new(
            Code::Usage,
            format!("a token cannot be made for {days} days"),
            format!("give 1 to {DAYS_MAX}, and make a new one then"),
        ));
    }
    let text = files::read_private(shares)?;
    let known = Shares::parse(&text)?;
    if known.has_recipient(name) {
        return Err(Fault::new(
            Code::RecipientExists,
            format!("{} has the recipient {name}", shares.display()),
            "remove its [[recipient]] first, which ends its token, or choose another name",
        ));
    }
    let token = BASE64URL_NOPAD.encode(&secret::random::<32>()?);
    let expires = now + TimeDelta::days(days.into());
    let expires_text = expires.to_rfc3339_opts(SecondsFormat::Secs, true);
    let sha256 = HEXLOWER.encode(&Sha256::digest(&token));
    let added = format!(
        "{}\n\n[[recipient]]\nname = \"{name}\"\ntoken_sha256 = \"{sha256}\"\nexpires = \"{expires_text}\"\n",
        text.trim_end()
    );
    Shares::parse(&added)?;
    let profile_json = json!({
        "shareCredentialsVersion": 1,
        "endpoint": known.endpoint.as_str(),
        "bearerToken": token,
        "expirationTime": expires_text,
    });
    // In this order: a failure between the two leaves a token that opens nothing.
    files::write_new(profile, format!("{profile_json:#}\n").as_bytes())?;
    files::replace(shares, added.as_bytes())?;
    let views = known.views_of(name).map(ToString::to_string).collect();
    Ok(NewRecipient { expires, views })
}
