//! What a host and the program that keeps its ledger on a server say to each other.
//!
//! The program is started without arguments. It gets one [`Open`] and then one [`Ask`] after the other on its standard
//! input, and answers each with a [`Told`] before it reads the next. A message is a line of JSON, which says how many
//! bytes follow it. The host hashes and verifies the entries itself, and the program only keeps them.

use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Secret;

/// The longest line of a message: all entries of a ledger are one.
const LINE_BYTES_MAX: u64 = 1 << 30;

/// The most bytes that follow a message: more than any released table has, and less than a server takes in one value.
pub const BYTES_MAX: u64 = 256 << 20;

/// Where the ledger is, and how one gets in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// The place, as `postgres://USER@HOST/DATABASE`, without a password.
    pub place: String,
    /// Where the password is, if one is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The PEM file of the authority that names the server, for every place that is reached over a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_certificate: Option<PathBuf>,
}

/// How many entries a ledger has, and the hash of the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Head {
    pub entries: u64,
    pub sha256: String,
}

/// An entry as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// 1, 2, 3 and so on.
    pub number: u64,
    /// The entry.
    pub text: String,
    /// Its hash, chained to that of the entry before.
    pub sha256: String,
}

/// The name of a stored answer, and the run that gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names say it")]
pub struct AnswerName {
    pub key: String,
    pub run: String,
}

/// The run of a record of contributors, and its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names say it")]
pub struct RecordName {
    pub run: String,
    pub sha256: String,
}

/// What the program is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Ask {
    /// Make an empty ledger where there is none, for hosts of this key. Answered with [`Told::Ready`].
    Create {
        /// What all hosts of the ledger must have in common, as a hash.
        host_key: String,
    },
    /// Answered with [`Told::Head`].
    Head,
    /// Answered with [`Told::Rows`], in order.
    Rows {
        /// The first number that is wanted.
        from: u64,
    },
    /// Add these rows, and the answer whose bytes follow, durably and all of them, if the ledger's head is still that.
    /// Answered with [`Told::Added`].
    Append {
        /// What the rows follow on.
        after: Head,
        /// The rows.
        rows: Vec<Row>,
        /// The answer to be kept, where none is kept under its key.
        answer: Option<AnswerName>,
    },
    /// Answered with [`Told::Answer`], and its bytes.
    Answer {
        /// The answer's key.
        key: String,
    },
    /// Answered with [`Told::Records`], in order.
    Records,
    /// Answered with [`Told::Record`], and its bytes.
    Record {
        /// The record's run.
        run: String,
    },
    /// Keep the record whose bytes follow, durably, if there are still just so many before it. Answered with
    /// [`Told::Added`].
    Keep {
        /// How many records there are.
        after: u64,
        /// Its name.
        record: RecordName,
    },
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Told {
    /// The server was reached; to [`Open`] and [`Ask::Create`].
    Ready {
        /// The common key of the ledger's hosts, as a hash; none where there is no ledger.
        host_key: Option<String>,
    },
    /// The ledger's head.
    Head(Head),
    /// Entries.
    Rows(Vec<Row>),
    /// Whether it was added: nothing is where someone else was first.
    Added(bool),
    /// The run of the answer whose bytes follow; none where there is no answer.
    Answer(Option<String>),
    /// All records of contributors.
    Records(Vec<RecordName>),
    /// Whether there is such a record.
    Record(bool),
    /// Why there is no answer. What was asked for may be done nevertheless, if the server was lost on the way.
    Refused(Refused),
}

/// Why there is no answer. The program then ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Refused {
    pub why: Why,
    pub fact: String,
    pub remedy: String,
}

/// Kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// The place, or what says how to reach it, makes no sense.
    Invalid,
    /// The server is not there, or does not let this host in.
    Unreachable,
    /// The server is there, and what it has cannot be used.
    Failed,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<T> {
    message: T,
    bytes: u64,
}

/// Writes a message and the bytes that follow it.
pub fn write_message(mut out: impl Write, message: &impl Serialize, bytes: &[u8]) -> io::Result<()> {
    let mut line = serde_json::to_vec(&Line { message, bytes: bytes.len() as u64 })?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.write_all(bytes)?;
    out.flush()
}

/// Reads a message and the bytes that follow it; none where nothing follows any more.
pub fn read_message<T: DeserializeOwned>(mut input: impl BufRead) -> io::Result<Option<(T, Vec<u8>)>> {
    let mut line = Vec::new();
    input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    let Line { message, bytes: length } = serde_json::from_slice(&line)?;
    if length > BYTES_MAX {
        return Err(io::Error::other(format!("more than {BYTES_MAX} bytes follow")));
    }
    let mut bytes = Vec::new();
    input.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(Some((message, bytes))) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
