//! Whoever holds keys: a person or a service of a party.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::denial::{Denial, Reason};
use crate::is_name;

/// A person or a service of a party, written `party/member`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Principal {
    /// The party.
    pub party: String,
    /// The person or service.
    pub member: String,
}

impl Principal {
    /// A member of a party; neither name is checked here.
    pub fn new(party: impl Into<String>, member: impl Into<String>) -> Self {
        Self { party: party.into(), member: member.into() }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.party, self.member)
    }
}

impl FromStr for Principal {
    type Err = Denial;

    fn from_str(text: &str) -> Result<Self, Denial> {
        let names = text.split_once('/').filter(|(party, member)| is_name(party) && is_name(member));
        let (party, member) =
            names.ok_or_else(|| Denial::new(Reason::IdInvalid, format!("`{text}` is not of the form party/member")))?;
        Ok(Self::new(party, member))
    }
}

impl TryFrom<String> for Principal {
    type Error = Denial;

    fn try_from(text: String) -> Result<Self, Denial> {
        text.parse()
    }
}

impl From<Principal> for String {
    fn from(principal: Principal) -> Self {
        principal.to_string()
    }
}
