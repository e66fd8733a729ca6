//! The server: what each request is answered with, without a socket.
//!
//! A request is authenticated first, and sees what its recipient may read and nothing else: what others may read is
//! answered like what is not there. Each is logged before its answer goes out. It never writes to the room, and shows no
//! fault of this host to a stranger.

mod answer;
mod connections;
mod lines;
mod request;

use std::path::{Path, PathBuf};

use cap_std::fs::Dir;
use chrono::{DateTime, TimeDelta, Utc};
use glovebox::{Clock, SharedView};

use self::answer::{Answer, Listed, Refusal};
pub use self::connections::{listen, serve};
use self::lines::Lines;
use self::request::{Asked, Names, QueryBody, Request, Signed};
use crate::audit::{Access, Audit};
use crate::cache::{Cache, Version};
use crate::error::{Code, Fault, Result};
use crate::protocol::SIGNATURE;
use crate::secret::Signer;
use crate::shares::{Recipient, Shared, Shares};

/// What a server is made of.
#[derive(Debug)]
pub struct Server {
    room: Dir,
    shares: PathBuf,
    cache: Cache,
    signer: Signer,
    audit: Audit,
    clock: Clock,
    /// Held as long as the server lives.
    _lock: std::fs::File,
}

/// What is known of a request by the time it is logged.
#[derive(Default)]
struct Known<'a> {
    asked: Option<&'static str>,
    recipient: Option<&'a str>,
    view: Option<String>,
    version: Option<u64>,
    file: Option<String>,
}

impl Server {
    /// Opens the room and the state folder, and reads `shares.toml` once so that what is wrong with it shows now.
    pub fn open(room: &Path, shares: &Path, state: &Path, clock: Clock) -> Result<Self> {
        Shares::read(shares)?;
        crate::files::private_folder(state)?;
        let lock = crate::files::append(&state.join("lock"))?;
        lock.try_lock().map_err(|_| {
            Fault::new(
                Code::StateFailed,
                format!("another server uses {}", state.display()),
                "end it, or give this one a state folder of its own",
            )
        })?;
        Ok(Self {
            room: glovebox::open_room(room)?,
            shares: shares.to_owned(),
            cache: Cache::open(state.join("views"))?,
            signer: Signer::open(&state.join("url.key"))?,
            audit: Audit::open(&state.join("access.jsonl"))?,
            clock,
            _lock: lock,
        })
    }

    /// How many recipients and views `shares.toml` has now.
    pub fn counts(&self) -> Result<(usize, usize)> {
        Ok(Shares::read(&self.shares)?.counts())
    }

    /// Answers a request, and logs it.
    fn answer(&self, request: &Request<'_>) -> Answer {
        let now = self.clock.now();
        let shares = match Shares::read(&self.shares) {
            Ok(shares) => shares,
            Err(fault) => return self.logged(now, &Known::default(), Err(fault.into())),
        };
        let mut known = Known::default();
        let answered = self.answer_known(request, &shares, now, &mut known);
        self.logged(now, &known, answered)
    }

    fn answer_known<'a>(
        &self,
        request: &Request<'_>,
        shares: &'a Shares,
        now: DateTime<Utc>,
        known: &mut Known<'a>,
    ) -> Result<Answer, Refusal> {
        let asked = request.asked(shares.endpoint.path());
        known.asked = asked.as_ref().map(Asked::kind);
        if let Some(Asked::File(signed)) = &asked {
            return self.file(signed, request, shares, now, known);
        }
        let recipient = request.token().and_then(|token| shares.authenticate(token, now));
        let recipient = recipient.ok_or(Refusal::Unauthenticated)?;
        known.recipient = Some(&recipient.name);
        let views: Vec<&Shared> = shares.views_of(&recipient.name).collect();
        let reader = Reader { server: self, shares, recipient, views, now };
        reader.answer(&asked.ok_or(Refusal::NotFound)?, request, known)
    }

    /// A file by its signed address. No token: clients send none to what they take for a store.
    fn file<'a>(
        &self,
        signed: &Signed<'_>,
        request: &Request<'_>,
        shares: &'a Shares,
        now: DateTime<Utc>,
        known: &mut Known<'a>,
    ) -> Result<Answer, Refusal> {
        let recipient = shares.recipient(signed.recipient, now).ok_or(Refusal::Forbidden)?;
        let claim = Claim::of(signed.names, signed.version, signed.file, recipient, signed.expires);
        if !self.signer.verifies(&claim.parts(), signed.signature) {
            return Err(Refusal::Forbidden);
        }
        known.recipient = Some(&recipient.name);
        if now.timestamp_millis() >= signed.expires {
            return Err(Refusal::AddressExpired);
        }
        let shared =
            shares.views_of(&recipient.name).find(|shared| signed.names.are(shared)).ok_or(Refusal::Forbidden)?;
        known.view = Some(shared.to_string());
        let version = self.version(shares, shared, signed.version, now)?;
        known.version = Some(version.number);
        let part = version.files.iter().find(|part| part.id == signed.file).ok_or(Refusal::NotFound)?;
        known.file = Some(part.id.clone());
        let file = self.cache.file(&shared.view, version.number, part)?;
        answer::file(file, part.size, request.range())
    }

    fn version(&self, shares: &Shares, shared: &Shared, number: u64, now: DateTime<Utc>) -> Result<Version, Refusal> {
        let keep = TimeDelta::days(shares.keep_days.into());
        self.cache.version(&shared.view, number, keep, now)?.ok_or(Refusal::VersionGone)
    }

    fn current(&self, shares: &Shares, shared: &Shared, now: DateTime<Utc>) -> Result<Version, Refusal> {
        let view = SharedView::find(&self.room, &shares.party, &shared.view).map_err(Fault::from)?;
        let version = self.cache.current(&shared.view, &view, shares.rows_per_file, now)?;
        self.cache.prune(&shared.view, TimeDelta::days(shares.keep_days.into()), now)?;
        Ok(version)
    }

    /// Nothing is answered that is not logged.
    fn logged(&self, now: DateTime<Utc>, known: &Known<'_>, answered: Result<Answer, Refusal>) -> Answer {
        let refusal = answered.as_ref().err();
        let access = Access {
            time: now,
            recipient: known.recipient,
            asked: known.asked.unwrap_or("unknown"),
            view: known.view.clone(),
            version: known.version,
            file: known.file.as_deref(),
            status: answered.as_ref().map_or_else(|refusal| refusal.status(), Answer::status),
            code: refusal.map(Refusal::code),
            fact: refusal.and_then(Refusal::fact),
        };
        match self.audit.append(&access) {
            Ok(()) => answered.unwrap_or_else(|refusal| refusal.answer()),
            Err(fault) => Refusal::from(fault).answer(),
        }
    }
}

/// A recipient, and what it may read.
struct Reader<'a> {
    server: &'a Server,
    shares: &'a Shares,
    recipient: &'a Recipient,
    views: Vec<&'a Shared>,
    now: DateTime<Utc>,
}

impl Reader<'_> {
    fn answer(&self, asked: &Asked<'_>, request: &Request<'_>, known: &mut Known<'_>) -> Result<Answer, Refusal> {
        match asked {
            Asked::Shares => answer::page(self.shares(), request),
            Asked::Share(share) => {
                let share = self.shares().into_iter().find(|listed| listed.is(share)).ok_or(Refusal::NotFound)?;
                answer::json(&serde_json::json!({ "share": share }))
            }
            Asked::Schemas(share) => answer::page(self.schemas(share)?, request),
            Asked::AllTables(share) => answer::page(self.tables(|view| is(share, &view.share))?, request),
            Asked::Tables(share, schema) => {
                answer::page(self.tables(|view| is(share, &view.share) && is(schema, &view.schema))?, request)
            }
            Asked::Version(names) => {
                let (_, version) = self.current(names, known)?;
                Ok(answer::version(&version))
            }
            Asked::Metadata(names) => {
                let lines = Lines::new(request.capabilities())?;
                let (shared, version) = self.current(names, known)?;
                lines.metadata(&shared, &version)
            }
            Asked::Query(names) => self.query(names, request, known),
            Asked::File(_) => Err(Refusal::NotFound),
        }
    }

    fn query(&self, names: &Names<'_>, request: &Request<'_>, known: &mut Known<'_>) -> Result<Answer, Refusal> {
        let lines = Lines::new(request.capabilities())?;
        let body = QueryBody::parse(request.body)?;
        let (shared, version) = match body.version {
            None => self.current(names, known)?,
            Some(number) => {
                let shared = self.find(names, known)?;
                let version = self.server.version(self.shares, &shared, number, self.now)?;
                known.version = Some(version.number);
                (shared, version)
            }
        };
        let expires = (self.now + TimeDelta::minutes(self.shares.url_minutes.into())).timestamp_millis();
        let names = Names::of(&shared);
        let address = |file: &str| self.address(names, version.number, file, expires);
        lines.query(&shared, &version, body.limit_hint, expires, &address)
    }

    fn current(&self, names: &Names<'_>, known: &mut Known<'_>) -> Result<(Shared, Version), Refusal> {
        let shared = self.find(names, known)?;
        let version = self.server.current(self.shares, &shared, self.now)?;
        known.version = Some(version.number);
        Ok((shared, version))
    }

    fn find(&self, names: &Names<'_>, known: &mut Known<'_>) -> Result<Shared, Refusal> {
        let shared = self.views.iter().find(|shared| names.are(shared)).ok_or(Refusal::NotFound)?;
        known.view = Some(shared.to_string());
        Ok((*shared).clone())
    }

    /// The address of a file, which is the key to it for a while.
    fn address(&self, names: Names<'_>, version: u64, file: &str, expires: i64) -> String {
        let claim = Claim::of(names, version, file, self.recipient, expires);
        let signature = self.server.signer.sign(&claim.parts());
        let Names { share, schema, view } = names;
        let (endpoint, recipient) = (&self.shares.endpoint, &self.recipient.name);
        format!(
            "{endpoint}/files/{share}/{schema}/{view}/{version}/{file}.parquet\
             ?recipient={recipient}&expires={expires}&{SIGNATURE}={signature}"
        )
    }

    fn shares(&self) -> Vec<Listed> {
        distinct(self.views.iter().map(|view| Listed::share(&view.share)))
    }

    fn schemas(&self, share: &str) -> Result<Vec<Listed>, Refusal> {
        let views = self.views.iter().filter(|view| is(share, &view.share));
        some(distinct(views.map(|view| Listed::schema(&view.share, &view.schema))))
    }

    fn tables(&self, of: impl Fn(&Shared) -> bool) -> Result<Vec<Listed>, Refusal> {
        some(self.views.iter().filter(|view| of(view)).map(|view| Listed::table(view)).collect())
    }
}

/// What the signature of an address is about. The token's digest is in it, so that a new token ends what was given out
/// under the one before.
struct Claim<'a> {
    names: Names<'a>,
    file: &'a str,
    recipient: &'a Recipient,
    version: [u8; 8],
    expires: [u8; 8],
}

impl<'a> Claim<'a> {
    const fn of(names: Names<'a>, version: u64, file: &'a str, recipient: &'a Recipient, expires: i64) -> Self {
        Self { names, file, recipient, version: version.to_be_bytes(), expires: expires.to_be_bytes() }
    }

    fn parts(&self) -> [&[u8]; 8] {
        let Names { share, schema, view } = self.names;
        [
            share.as_bytes(),
            schema.as_bytes(),
            view.as_bytes(),
            &self.version,
            self.file.as_bytes(),
            self.recipient.name.as_bytes(),
            &self.recipient.token,
            &self.expires,
        ]
    }
}

/// Whether a name is meant. Names are compared without regard to case.
fn is(asked: &str, name: &str) -> bool {
    asked.eq_ignore_ascii_case(name)
}

/// Views come in order, so what is alike stands together.
fn distinct(listed: impl Iterator<Item = Listed>) -> Vec<Listed> {
    let mut all: Vec<Listed> = listed.collect();
    all.dedup();
    all
}

/// What has nothing in it is not there for this recipient.
fn some(listed: Vec<Listed>) -> Result<Vec<Listed>, Refusal> {
    if listed.is_empty() { Err(Refusal::NotFound) } else { Ok(listed) }
}

#[cfg(test)]
mod tests;
