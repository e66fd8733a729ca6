//! Why something is not accepted: a reason from a closed set, and one line of fact.

use std::fmt;

const FACT_BYTES_MAX: usize = 1000;

/// Result of every check.
pub type Result<T, E = Denial> = std::result::Result<T, E>;

macro_rules! reasons {
    ($($variant:ident = $text:literal $doc:literal,)+) => {
        /// Why something is not accepted. The text form is stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $(#[doc = $doc] $variant,)+ }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable text form.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

reasons! {
    Malformed = "MALFORMED" "a signed file is not of the form that it must have",
    TooLarge = "TOO_LARGE" "a file is longer than any honest one",
    SignatureMissing = "SIGNATURE_MISSING" "an envelope has no signature, or more than one",
    SignatureInvalid = "SIGNATURE_INVALID" "a signature verifies with no key that could have made it",
    PayloadType = "PAYLOAD_TYPE" "an envelope holds another kind of document",
    PredicateType = "PREDICATE_TYPE" "a statement says another kind of thing",
    SubjectMismatch = "SUBJECT_MISMATCH" "a statement is not about exactly this document",
    SignerMismatch = "SIGNER_MISMATCH" "someone else signed than the statement says",
    KeyWeak = "KEY_WEAK" "a public key verifies signatures that nobody made",
    KeyNotCanonical = "KEY_NOT_CANONICAL" "a public key is not a point, or not written in its only form",
    KeyNotTorsionFree = "KEY_NOT_TORSION_FREE" "a public key is of mixed order, on which verifiers disagree",
    KeyFormat = "KEY_FORMAT" "a public key file is of no known format",
    KeyDuplicate = "KEY_DUPLICATE" "a public key stands twice in the registry",
    KeyScope = "KEY_SCOPE" "a key is not registered for what it signed",
    KeyExpired = "KEY_EXPIRED" "a key was used outside its window, or after it was retired",
    IdInvalid = "ID_INVALID" "an id is not of the form [a-z0-9._-]",
    PolicyInvalid = "POLICY_INVALID" "a quorum's text is malformed or could never hold",
    NotApproved = "NOT_APPROVED" "someone signed that they do not approve",
    ApprovalExpired = "APPROVAL_EXPIRED" "an approval is used outside its window",
    ApprovalReplayed = "APPROVAL_REPLAYED" "a person gave two approvals the same number",
    OwnerMissing = "OWNER_MISSING" "an owner of the data, or the recipient, has not approved",
    QuorumMissing = "QUORUM_MISSING" "the quorum of the room's registry is not reached",
    RegistryInvalid = "REGISTRY_INVALID" "the key registry is missing, malformed, or not signed as it must be",
    RegistryExpired = "REGISTRY_EXPIRED" "the key registry has expired",
    RevocationsMissing = "REVOCATIONS_MISSING" "a party has no fresh list of revocations",
    Revoked = "REVOKED" "a party has withdrawn what the run needs",
    LogInvalid = "LOG_INVALID" "a log's checkpoint, tile or proof does not verify",
    WitnessMissing = "WITNESS_MISSING" "a checkpoint lacks the cosignatures that the policy demands",
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    reason: Reason,
    fact: String,
}

impl Denial {
    /// The fact is one line, lower case, without a full stop. It may quote signed text, never data. Whoever wrote that
    /// text does not get to move the reader's cursor with it: what is not printable ASCII is escaped.
    pub fn new(reason: Reason, fact: impl Into<String>) -> Self {
        Self { reason, fact: one_line(&fact.into()) }
    }

    /// The reason.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// What is so.
    #[must_use]
    pub fn fact(&self) -> &str {
        &self.fact
    }
}

fn one_line(fact: &str) -> String {
    let mut line = String::new();
    for character in fact.chars() {
        if line.len() >= FACT_BYTES_MAX {
            line.push_str("...");
            break;
        }
        match character {
            ' '..='~' => line.push(character),
            other => line.extend(other.escape_unicode()),
        }
    }
    line
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.as_str(), self.fact)
    }
}

impl std::error::Error for Denial {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_is_one_line_of_ascii() {
        let denial = Denial::new(Reason::Malformed, "a\nb\u{1b}[2J\u{202e}\u{212a}");
        assert_eq!(denial.fact(), r"a\u{a}b\u{1b}[2J\u{202e}\u{212a}");
        assert_eq!(Denial::new(Reason::Malformed, "not approved by: a, b").fact(), "not approved by: a, b");
        assert!(Denial::new(Reason::Malformed, "x".repeat(1 << 20)).fact().len() < 1100);
    }
}
