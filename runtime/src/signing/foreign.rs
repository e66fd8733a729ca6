//! The same consent in the forms of other tools: an in-toto link, an OpenSSH signature, a minisign signature, each over
//! the very bytes of the agreement. The gate counts none of them; they are for auditors who trust no tool of ours.

use cap_std::fs::Dir;
use glovebox_trust::Principal;
use glovebox_trust::envelope::{self, IN_TOTO};
use glovebox_trust::keys::{PublicKey, Signer};
use glovebox_trust::{minisign, ssh};
use serde_json::json;

use crate::error::{Code, Fault, Result};
use crate::files::{self, Existing};
use crate::gate::AGREEMENT_FILE;
use crate::room::sha256_hex;

/// The namespace of OpenSSH signatures: a signature for anything else does not pass for an approval.
pub(crate) const SSH_NAMESPACE: &str = "approval@glovebox";

/// Where a person's signatures for other tools lie.
pub(crate) fn foreign_folder(agreement: &str, person: &Principal) -> String {
    format!("{agreement}/foreign/{}.{}", person.party, person.member)
}

/// The name of a party's step in an in-toto layout.
pub(crate) fn step_name(party: &str) -> String {
    format!("approve-{party}")
}

/// in-toto looks for a link under the step's name and the beginning of the key's id.
pub(crate) fn link_name(party: &str, key: &PublicKey) -> String {
    format!("{}.{}.link", step_name(party), &key.fingerprint()[..8])
}

/// Signs the agreement once more for each of the other tools.
pub(super) fn sign_for_others(
    dir: &Dir,
    folder: &str,
    person: &Principal,
    agreement: &[u8],
    key: &dyn Signer,
) -> Result<()> {
    let link = json!({
        "_type": "link",
        "name": step_name(&person.party),
        "command": [],
        "materials": {AGREEMENT_FILE: {"sha256": sha256_hex(agreement)}},
        "products": {},
        "byproducts": {},
        "environment": {},
    });
    let link = envelope::seal(IN_TOTO, link.to_string().as_bytes(), key).map_err(|why| cannot_sign(&why))?;
    let sshsig = ssh::sign(SSH_NAMESPACE, agreement, key).map_err(|why| cannot_sign(&why))?;
    let comment = format!("{person} approves {AGREEMENT_FILE} {}", sha256_hex(agreement));
    let minisig = minisign::sign(agreement, &comment, key).map_err(|why| cannot_sign(&why))?;
    for (name, bytes) in [
        (link_name(&person.party, &key.public()), link.as_slice()),
        (format!("{AGREEMENT_FILE}.sshsig"), sshsig.as_bytes()),
        (format!("{AGREEMENT_FILE}.minisig"), minisig.as_bytes()),
    ] {
        let path = format!("{folder}/{name}");
        files::write(dir, &path, bytes, Existing::Replace).map_err(|error| {
            Fault::new(
                Code::AgreementInvalid,
                format!("cannot write {path}: {error}"),
                "make the agreement's folder writable",
            )
        })?;
    }
    Ok(())
}

fn cannot_sign(why: &str) -> Fault {
    Fault::new(Code::KeyUnreadable, format!("cannot sign: {why}"), "check the key, or the agent that holds it")
}
