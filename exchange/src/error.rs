//! The one error type of the program: a stable code, one line of fact, one line of remedy.
//!
//! A code belongs to a closed set and decides the exit code. What a server said may stand in a fact, but never with
//! characters that a terminal would act on.

use std::fmt;

/// Result of every fallible step.
pub(crate) type Result<T, E = Fault> = std::result::Result<T, E>;

macro_rules! codes {
    ($($exit:literal { $($variant:ident = $text:literal $doc:literal,)+ })+) => {
        /// Why nothing was done. The text form is stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Code { $($(#[doc = $doc] $variant,)+)+ }

        impl Code {
            /// Every code there is.
            pub(crate) const ALL: &'static [Self] = &[$($(Self::$variant,)+)+];

            /// The stable text form.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $($(Self::$variant => $text,)+)+ }
            }

            /// What the code means, in a line.
            pub(crate) const fn meaning(self) -> &'static str {
                match self { $($(Self::$variant => $doc,)+)+ }
            }

            /// The process exit code.
            pub(crate) const fn exit_code(self) -> u8 {
                match self { $($(Self::$variant => $exit,)+)+ }
            }
        }
    };
}

codes! {
    2 {
    Usage = "USAGE" "the command line is wrong",
    FileUnreadable = "FILE_UNREADABLE" "a file that was named is missing, not a regular file, or cannot be read",
    FileExists = "FILE_EXISTS" "what would be written is there already; nothing is ever overwritten",
    }
    3 {
    TagRefused = "TAG_REFUSED" "a tag was given where only a digest says what is meant",
    DigestAlgorithm = "DIGEST_ALGORITHM" "a digest is not a SHA-256 digest in lower-case hex",
    DigestMismatch = "DIGEST_MISMATCH" "bytes from the registry do not have the digest or size that was promised",
    Oversize = "OVERSIZE" "a file, a blob or an answer is longer than is accepted",
    ArtifactInvalid = "ARTIFACT_INVALID" "a manifest does not have the form of a question, an agreement or an approval",
    ComponentInvalid = "COMPONENT_INVALID" "the question is not a WebAssembly component",
    ComponentChanged = "COMPONENT_CHANGED" "the component is not the one that was agreed",
    ManifestChanged = "MANIFEST_CHANGED" "question.toml is not the one that was agreed",
    AgreementInvalid = "AGREEMENT_INVALID" "agreement.json is missing or malformed",
    ApprovalInvalid = "APPROVAL_INVALID" "an approval is malformed, or its file has a name that no approval has",
    ReferrersInvalid = "REFERRERS_INVALID" "the registry's list of referrers says something that the manifests do not",
    SubjectMismatch = "SUBJECT_MISMATCH" "a referrer or an approval is about something else",
    TimestampRefused = "TIMESTAMP_REFUSED" "the time-stamping authority did not grant a time stamp",
    TimestampInvalid = "TIMESTAMP_INVALID" "the time stamp is malformed or answers another request",
    RequestInvalid = "REQUEST_INVALID" "the file is not an add-checkpoint request",
    WitnessConflict = "WITNESS_CONFLICT" "the witness has cosigned another size than the request goes on from",
    WitnessRefused = "WITNESS_REFUSED" "the witness refused the checkpoint",
    WitnessInvalid = "WITNESS_INVALID" "the witness's answer is not what the protocol says",
    }
    6 {
    NetworkFailed = "NETWORK_FAILED" "a server cannot be reached, or the connection broke",
    ServerFailed = "SERVER_FAILED" "a server answered with an error",
    NotFound = "NOT_FOUND" "the registry does not hold what was asked for",
    WriteFailed = "WRITE_FAILED" "the result could not be written",
    Internal = "INTERNAL" "an unexpected failure of this host",
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal or failure: what is so, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    code: Code,
    fact: String,
    remedy: String,
}

impl Fault {
    /// Both texts are one line each, lower case, without a full stop.
    pub(crate) fn new(code: Code, fact: impl AsRef<str>, remedy: impl AsRef<str>) -> Self {
        Self { code, fact: one_line(fact.as_ref()), remedy: one_line(remedy.as_ref()) }
    }

    /// The stable code.
    pub(crate) const fn code(&self) -> Code {
        self.code
    }

    /// What is so.
    pub(crate) fn fact(&self) -> &str {
        &self.fact
    }

    /// What to do about it.
    pub(crate) fn remedy(&self) -> &str {
        &self.remedy
    }
}

/// Libraries and servers put line breaks and full stops into their messages, and a server could put worse.
fn one_line(text: &str) -> String {
    const CHARACTERS_MAX: usize = 600;
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words.join(" ").chars().filter(|c| !c.is_control()).take(CHARACTERS_MAX).collect();
    line.strip_suffix('.').unwrap_or(&line).to_owned()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\nhint: {}", self.code, self.fact, self.remedy)
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_two_lines_whatever_a_server_said() {
        let fault = Fault::new(Code::ServerFailed, "it said: \x1b[2J\nhint: trust me\r\n.", "try again.");
        assert_eq!(fault.to_string(), "SERVER_FAILED: it said: [2J hint: trust me \nhint: try again");
    }

    #[test]
    fn codes_are_told_apart() {
        let texts: std::collections::BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
    }
}
