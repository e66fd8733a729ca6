//! `pull`: a question by digest, with the agreements and approvals that refer to it, into a new folder.
//!
//! Nothing is written before everything was fetched and checked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_client::RegistryOperation;
use serde::Serialize;

use super::form::{self, Kind};
use super::reference::Repository;
use super::referrers::{self, Referrer};
use super::registry::Registry;
use crate::agreement::{self, AGREEMENT_FILE, Agreement, Approval};
use crate::component;
use crate::digest::Digest;
use crate::error::{Code, Fault, Result};
use crate::files;

/// What the puller knows already of what it gets.
#[derive(Debug)]
pub(crate) enum Expected {
    /// Nothing but the manifest's digest.
    Manifest,
    /// The component's digest.
    Component(Digest),
    /// The agreement.
    Agreement(Box<Agreement>),
}

/// What to pull, and where to.
#[derive(Debug)]
pub(crate) struct Pull {
    pub(crate) repository: Repository,
    pub(crate) digest: Digest,
    pub(crate) plain_http: bool,
    pub(crate) folder: PathBuf,
    pub(crate) expected: Expected,
}

/// What was written.
#[derive(Debug, Serialize)]
pub(crate) struct Pulled {
    pub(crate) folder: PathBuf,
    pub(crate) manifest: String,
    pub(crate) component_sha256: String,
    pub(crate) question_toml_sha256: String,
    /// Whether the component was compared with one that the puller named.
    pub(crate) compared: bool,
    pub(crate) agreements: Vec<PulledAgreement>,
    /// Referrers of other kinds, or for other agreements.
    pub(crate) ignored: usize,
    pub(crate) files: Vec<String>,
}

/// An agreement that was written, with its approvals. None of them is verified here.
#[derive(Debug, Serialize)]
pub(crate) struct PulledAgreement {
    pub(crate) agreement_id: String,
    pub(crate) folder: String,
    pub(crate) approvals: Vec<String>,
}

/// The component with its manifest, checked.
struct Question {
    component: Vec<u8>,
    question_toml: String,
}

/// An agreement with the approvals whose payload names it.
struct Agreed {
    agreement: Agreement,
    approvals: Vec<Approval>,
}

/// Fetches, checks, writes.
pub(crate) async fn pull(pull: &Pull) -> Result<Pulled> {
    files::must_not_exist(&pull.folder)?;
    let registry = Registry::connect(&pull.repository, pull.plain_http, RegistryOperation::Pull).await?;
    let question = fetch_question(&registry, pull).await?;
    let (referrers, foreign) = referrers::fetch(&registry, &pull.digest).await?;
    let (agreed, unused) = sort_out(referrers, &question, &pull.expected)?;
    write(pull, question, agreed, foreign + unused)
}

async fn fetch_question(registry: &Registry, pull: &Pull) -> Result<Question> {
    let manifest = form::read_question(&registry.manifest(&pull.digest).await?)?;
    form::check_config(&registry.blob(manifest.config).await?, &manifest.component.digest)?;
    if let Expected::Component(agreed) = &pull.expected
        && manifest.component.digest != *agreed
    {
        return Err(other_component(&manifest.component.digest, agreed));
    }
    let component = registry.blob(manifest.component).await?;
    component::check_header(&component)?;
    match &pull.expected {
        Expected::Manifest => {}
        Expected::Component(agreed) => agreement::check_component(&component, agreed)?,
        Expected::Agreement(agreement) => agreement.check(&component, manifest.question_toml.as_bytes())?,
    }
    Ok(Question { component, question_toml: manifest.question_toml })
}

/// Told before the component is fetched: no one wants the wrong 8 MiB.
fn other_component(found: &Digest, agreed: &Digest) -> Fault {
    Fault::new(
        Code::ComponentChanged,
        format!("the component has {found}, agreed is {agreed}"),
        "get the question that was agreed, or agree on this one",
    )
}

/// Puts approvals to their agreements. Says how many are for none that is here.
fn sort_out(referrers: Vec<Referrer>, question: &Question, expected: &Expected) -> Result<(Vec<Agreed>, usize)> {
    let mut agreed: BTreeMap<Digest, Agreed> = BTreeMap::new();
    let mut approvals = Vec::new();
    let mut unused = 0;
    if let Expected::Agreement(agreement) = expected {
        agreed.insert(agreement.id, Agreed { agreement: (**agreement).clone(), approvals: Vec::new() });
    }
    for referrer in referrers {
        match referrer.kind {
            Kind::Approval(wrapping) => approvals.push(Approval::parse(&referrer.title, wrapping, referrer.content)?),
            Kind::Agreement => {
                let agreement = Agreement::parse(referrer.content)?;
                agreement.check(&question.component, question.question_toml.as_bytes())?;
                match expected {
                    Expected::Agreement(one) => unused += usize::from(agreement.id != one.id),
                    _ => drop(agreed.insert(agreement.id, Agreed { agreement, approvals: Vec::new() })),
                }
            }
        }
    }
    for approval in approvals {
        match agreed.get_mut(&approval.agreement) {
            Some(agreed) => agreed.approvals.push(approval),
            None => unused += 1,
        }
    }
    Ok((agreed.into_values().collect(), unused))
}

fn write(pull: &Pull, question: Question, agreed: Vec<Agreed>, ignored: usize) -> Result<Pulled> {
    let component_sha256 = Digest::of(&question.component).hex();
    let question_toml_sha256 = Digest::of(question.question_toml.as_bytes()).hex();
    let mut contents: BTreeMap<String, Vec<u8>> = BTreeMap::from([
        ("question.wasm".to_owned(), question.component),
        ("question.toml".to_owned(), question.question_toml.into_bytes()),
    ]);
    let mut derived = Vec::new();
    let mut agreements = Vec::new();
    for Agreed { agreement, approvals } in agreed {
        // Named by its digest: a name from a stranger would lead who knows where.
        let folder = format!("agreements/{}", agreement.id.hex());
        let mut names = Vec::new();
        contents.insert(format!("{folder}/{AGREEMENT_FILE}"), agreement.bytes);
        for approval in approvals {
            names.push(approval.name.clone());
            if let Some((name, bytes)) = approval.inner_envelope()? {
                derived.push((format!("{folder}/{name}"), bytes));
            }
            add(&mut contents, format!("{folder}/{}", approval.name), approval.bytes)?;
        }
        names.sort();
        agreements.push(PulledAgreement { agreement_id: agreement.id.hex(), folder, approvals: names });
    }
    // An envelope that its signer pushed as a file stays as it is.
    for (path, bytes) in derived {
        contents.entry(path).or_insert(bytes);
    }
    let files: Vec<String> = contents.keys().cloned().collect();
    files::write_new_folder(&pull.folder, &contents.into_iter().collect::<Vec<_>>())?;
    Ok(Pulled {
        folder: pull.folder.clone(),
        manifest: pull.digest.to_string(),
        component_sha256,
        question_toml_sha256,
        compared: !matches!(pull.expected, Expected::Manifest),
        agreements,
        ignored,
        files,
    })
}

/// Two approvals of one name: someone stands in another's place. The same bytes twice do no harm.
fn add(contents: &mut BTreeMap<String, Vec<u8>>, path: String, bytes: Vec<u8>) -> Result<()> {
    match contents.get(&path) {
        Some(other) if *other != bytes => Err(Fault::new(
            Code::ApprovalInvalid,
            format!("two different approvals are called {path}"),
            "ask their signers which one counts, and have the other one removed from the registry",
        )),
        _ => {
            contents.insert(path, bytes);
            Ok(())
        }
    }
}
