//! The one error type: a stable code, one line of fact, one line of remedy.
//!
//! A code belongs to a closed set and decides the exit code. What a server said may stand in a fact, but never with
//! characters that a terminal would act on; a token or a row never does.

use std::fmt;

/// Result of every fallible step.
pub type Result<T, E = Fault> = std::result::Result<T, E>;

macro_rules! codes {
    ($($exit:literal { $($variant:ident = $text:literal $doc:literal,)+ })+) => {
        /// Why nothing was done. The text form is stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[doc = $doc] $variant,)+)+
            /// The room refused: a code of the runtime.
            Room(glovebox::Code),
        }

        impl Code {
            /// Every code of sharing itself.
            pub const ALL: &'static [Self] = &[$($(Self::$variant,)+)+];

            /// The stable text form.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $($(Self::$variant => $text,)+)+ Self::Room(code) => code.as_str() }
            }

            /// What the code means, in a line.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $($(Self::$variant => $doc,)+)+ Self::Room(code) => code.meaning() }
            }

            /// The process exit code.
            #[must_use]
            pub const fn exit_code(self) -> u8 {
                match self { $($(Self::$variant => $exit,)+)+ Self::Room(code) => code.stage().exit_code() }
            }
        }
    };
}

codes! {
    2 {
    Usage = "USAGE" "the command line is wrong",
    FileUnreadable = "FILE_UNREADABLE" "a file is missing, too long, not a regular file, or cannot be read",
    FileExists = "FILE_EXISTS" "what would be written is there already; nothing is ever overwritten",
    SharesInvalid = "SHARES_INVALID" "shares.toml is malformed or contradicts itself",
    ProfileInvalid = "PROFILE_INVALID" "a profile file is malformed, or of a kind that is not supported",
    }
    3 {
    FileExposed = "FILE_EXPOSED" "a file with secrets can be read or written by others than its owner",
    AddressRefused = "ADDRESS_REFUSED" "an address would carry a token or rows over a network in the clear",
    RecipientExists = "RECIPIENT_EXISTS" "shares.toml has a recipient of that name",
    TypeUnsupported = "TYPE_UNSUPPORTED" "a view has a column of a type that cannot be shared",
    ProfileExpired = "PROFILE_EXPIRED" "the profile's token has expired",
    AccessDenied = "ACCESS_DENIED" "the server does not accept the token, or denies what was asked for",
    NotShared = "NOT_SHARED" "the server has no such share, schema, table or version for this recipient",
    FormatUnexpected = "FORMAT_UNEXPECTED" "the server answers in a format that was not asked for",
    AnswerInvalid = "ANSWER_INVALID" "the server's answer is not what the protocol says",
    AnswerTruncated = "ANSWER_TRUNCATED" "the server's answer ended before its end",
    QueryFailed = "QUERY_FAILED" "the server gave up in the middle of its answer",
    FeatureUnsupported = "FEATURE_UNSUPPORTED" "a table needs more of its reader than this one can do",
    PinLost = "PIN_LOST" "the server does not serve the pinned version as it was",
    UrlExpired = "URL_EXPIRED" "the server gives addresses of files that have expired already",
    Oversize = "OVERSIZE" "the server's answer is longer than is accepted",
    }
    6 {
    NetworkFailed = "NETWORK_FAILED" "a server cannot be reached, or the connection broke",
    ServerFailed = "SERVER_FAILED" "a server answered with an error",
    WriteFailed = "WRITE_FAILED" "a file could not be written",
    }
    7 {
    StateFailed = "STATE_FAILED" "the state folder is damaged, in use, or cannot be read or written",
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
pub struct Fault {
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
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// What is so.
    #[must_use]
    pub fn fact(&self) -> &str {
        &self.fact
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

impl From<glovebox::Fault> for Fault {
    fn from(fault: glovebox::Fault) -> Self {
        Self::new(Code::Room(fault.code()), fault.fact(), fault.remedy())
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
