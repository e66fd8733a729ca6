//! `push`: a question, and the agreement and approvals that refer to it.

use std::path::PathBuf;

use oci_client::RegistryOperation;
use oci_client::manifest::ImageIndexEntry;
use serde::Serialize;

use super::form::{self, Kind, MANIFEST_TYPE};
use super::reference::Repository;
use super::referrers;
use super::registry::Registry;
use crate::agreement::{self, AGREEMENT_FILE, Agreement, Approval};
use crate::component;
use crate::digest::Digest;
use crate::error::{Code, Fault, Result};
use crate::files::{self, COMPONENT_BYTES_MAX, TEXT_BYTES_MAX};

/// What to push, and where to.
#[derive(Debug)]
pub(crate) struct Push {
    pub(crate) repository: Repository,
    pub(crate) plain_http: bool,
    pub(crate) component: PathBuf,
    pub(crate) manifest: PathBuf,
    pub(crate) agreement: Option<PathBuf>,
}

/// What stands in the registry now. All of it is named by digests.
#[derive(Debug, Serialize)]
pub(crate) struct Pushed {
    /// The name by which others pull.
    pub(crate) question: String,
    pub(crate) manifest: String,
    pub(crate) component_sha256: String,
    pub(crate) question_toml_sha256: String,
    pub(crate) referrers: Vec<PushedReferrer>,
    /// The tag under which the registry's missing list of referrers is kept.
    pub(crate) referrers_tag: Option<String>,
}

/// A referrer that was pushed.
#[derive(Debug, Serialize)]
pub(crate) struct PushedReferrer {
    pub(crate) file: String,
    pub(crate) artifact_type: &'static str,
    pub(crate) manifest: String,
}

/// A question that was read and found whole.
struct Question {
    component: Vec<u8>,
    question_toml: String,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

/// Reads and checks everything, and only then begins to push.
pub(crate) async fn push(push: &Push) -> Result<Pushed> {
    let question = read_question(push)?;
    let agreed = push.agreement.as_deref().map(agreement::read_folder).transpose()?;
    if let Some((agreement, _)) = &agreed {
        agreement.check(&question.component, question.question_toml.as_bytes())?;
    }
    let registry = Registry::connect(&push.repository, push.plain_http, RegistryOperation::Push).await?;
    registry.push_blob(&question.component).await?;
    registry.push_blob(&question.config).await?;
    registry.push_manifest(&question.manifest).await?;
    let subject = Digest::of(&question.manifest);
    let mut pushed = Pushed {
        question: format!("{}@{subject}", push.repository),
        manifest: subject.to_string(),
        component_sha256: Digest::of(&question.component).hex(),
        question_toml_sha256: Digest::of(question.question_toml.as_bytes()).hex(),
        referrers: Vec::new(),
        referrers_tag: None,
    };
    if let Some((agreement, approvals)) = &agreed {
        push_referrers(&registry, &question.manifest, agreement, approvals, &mut pushed).await?;
    }
    Ok(pushed)
}

fn read_question(push: &Push) -> Result<Question> {
    let component = files::read(&push.component, COMPONENT_BYTES_MAX)?;
    let interface = component::interface(&component)?;
    let question_toml = String::from_utf8(files::read(&push.manifest, TEXT_BYTES_MAX)?).map_err(|_| {
        Fault::new(
            Code::FileUnreadable,
            format!("{} is not UTF-8", push.manifest.display()),
            "name the question's manifest with --manifest",
        )
    })?;
    let config = form::config(&Digest::of(&component), interface)?;
    let manifest = form::question(&config, &component, &question_toml)?;
    Ok(Question { component, question_toml, config, manifest })
}

async fn push_referrers(
    registry: &Registry,
    question: &[u8],
    agreement: &Agreement,
    approvals: &[Approval],
    pushed: &mut Pushed,
) -> Result<()> {
    registry.push_blob(form::EMPTY).await?;
    let subject = form::descriptor(MANIFEST_TYPE, question);
    let contents = approvals
        .iter()
        .map(|approval| (Kind::Approval(approval.wrapping), approval.name.as_str(), approval.bytes.as_slice()));
    let all = std::iter::once((Kind::Agreement, AGREEMENT_FILE, agreement.bytes.as_slice())).chain(contents);
    let mut unlisted: Vec<ImageIndexEntry> = Vec::new();
    for (kind, title, content) in all {
        let (manifest, entry) = form::referrer(kind, title, &agreement.id, content, &subject)?;
        registry.push_blob(content).await?;
        pushed.referrers.push(PushedReferrer {
            file: title.into(),
            artifact_type: kind.media_type(),
            manifest: entry.digest.clone(),
        });
        if !registry.push_manifest(&manifest).await? {
            unlisted.push(entry);
        }
    }
    if !unlisted.is_empty() {
        let subject = Digest::of(question);
        referrers::add_to_tag(registry, &subject, unlisted).await?;
        pushed.referrers_tag = Some(subject.referrers_tag());
    }
    Ok(())
}
