//! The key registry: parties -> people -> keys, and the runtimes that may sign receipts.
//!
//! A public key stands once in the whole registry. Keys that another verifier might treat differently are refused:
//! small-order, non-canonical and mixed-order points.

use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use crate::error::{Code, Fault, Result};
use crate::parse;
use crate::room::is_id;

/// Whose key it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyHolder {
    /// A person of a party; approves.
    Person {
        /// The party.
        party: String,
        /// The person.
        person: String,
    },
    /// A runtime; signs receipts.
    Runtime {
        /// The runtime's id.
        id: String,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RegistryFile {
    version: u32,
    parties: Vec<PartyKeys>,
    runtimes: Vec<KeyRecord>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartyKeys {
    id: String,
    people: Vec<KeyRecord>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyRecord {
    id: String,
    ed25519: String,
}

/// A checked `registry.json`.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    file: RegistryFile,
    keys: Vec<(KeyHolder, VerifyingKey)>,
}

impl Registry {
    /// A registry without keys, with which a room begins.
    #[must_use]
    pub(crate) const fn empty() -> Self {
        let file = RegistryFile { version: 1, parties: Vec::new(), runtimes: Vec::new() };
        Self { file, keys: Vec::new() }
    }

    /// Parses and checks the bytes of a `registry.json`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let file: RegistryFile = parse::json(bytes).map_err(|error| invalid(format!("registry.json: {error}")))?;
        if file.version != 1 {
            return Err(invalid(format!("registry.json has version {}, this runtime reads version 1", file.version)));
        }
        let people = file.parties.iter().flat_map(|party| {
            party.people.iter().map(|record| {
                (KeyHolder::Person { party: party.id.clone(), person: record.id.clone() }, record.ed25519.as_str())
            })
        });
        let runtimes =
            file.runtimes.iter().map(|record| (KeyHolder::Runtime { id: record.id.clone() }, record.ed25519.as_str()));
        let mut keys: Vec<(KeyHolder, VerifyingKey)> = Vec::new();
        for (holder, hex) in people.chain(runtimes) {
            holder.check()?;
            let key = read_key(hex)?;
            if keys.iter().any(|(other, known)| *known == key || *other == holder) {
                return Err(invalid(format!("the key or the name of {holder} stands twice")));
            }
            keys.push((holder, key));
        }
        Ok(Self { file, keys })
    }

    /// The same registry with one key more.
    pub(crate) fn with(&self, holder: &KeyHolder, key: &VerifyingKey) -> Result<Self> {
        let mut file = self.file.clone();
        let ed25519 = data_encoding::HEXLOWER.encode(key.as_bytes());
        match holder {
            KeyHolder::Runtime { id } => file.runtimes.push(KeyRecord { id: id.clone(), ed25519 }),
            KeyHolder::Person { party, person } => {
                let record = KeyRecord { id: person.clone(), ed25519 };
                match file.parties.iter_mut().find(|known| known.id == *party) {
                    Some(known) => known.people.push(record),
                    None => file.parties.push(PartyKeys { id: party.clone(), people: vec![record] }),
                }
            }
        }
        // Through the one parser, so that no unchecked registry can come to be.
        Self::parse(&Self { file, keys: Vec::new() }.to_bytes()?)
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(&self.file).map_err(|error| invalid(error.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The people whose signatures count as approvals.
    pub(crate) fn approvers(&self) -> impl Iterator<Item = ((&str, &str), VerifyingKey)> {
        self.keys.iter().filter_map(|(holder, key)| match holder {
            KeyHolder::Person { party, person } => Some(((party.as_str(), person.as_str()), *key)),
            KeyHolder::Runtime { .. } => None,
        })
    }

    /// The runtimes whose signatures count on receipts.
    pub(crate) fn runtimes(&self) -> impl Iterator<Item = (&str, VerifyingKey)> {
        self.keys.iter().filter_map(|(holder, key)| match holder {
            KeyHolder::Runtime { id } => Some((id.as_str(), *key)),
            KeyHolder::Person { .. } => None,
        })
    }

    pub(crate) fn knows(&self, holder: &KeyHolder) -> bool {
        self.keys.iter().any(|(known, _)| known == holder)
    }

    pub(crate) fn holder_of(&self, key: &VerifyingKey) -> Option<&KeyHolder> {
        self.keys.iter().find(|(_, known)| known == key).map(|(holder, _)| holder)
    }
}

impl std::fmt::Display for KeyHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Person { party, person } => write!(f, "{party}/{person}"),
            Self::Runtime { id } => write!(f, "runtime {id}"),
        }
    }
}

impl KeyHolder {
    pub(crate) fn check(&self) -> Result<()> {
        let ids: &[&String] = match self {
            Self::Person { party, person } => &[party, person],
            Self::Runtime { id } => &[id],
        };
        // No dots, so that PARTY.PERSON names one person only.
        match ids.iter().find(|id| !is_id(id) || id.contains('.')) {
            None => Ok(()),
            Some(id) => Err(invalid(format!("`{}` is not of the form [a-z0-9_-]{{1,64}}", id.escape_debug()))),
        }
    }
}

/// Reads a public key and refuses those on which verifiers disagree, or which verify anything.
fn read_key(hex: &str) -> Result<VerifyingKey> {
    let bytes: [u8; 32] = data_encoding::HEXLOWER
        .decode(hex.as_bytes())
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| invalid("a public key is not 64 digits of lower-case hex"))?;
    let key = VerifyingKey::from_bytes(&bytes).map_err(|_| invalid("a public key is not a point of the curve"))?;
    let point = key.to_edwards();
    if key.is_weak() || !point.is_torsion_free() || point.compress().to_bytes() != bytes {
        return Err(invalid("a public key is weak, of mixed order, or not in canonical form"));
    }
    Ok(key)
}

fn invalid(fact: impl Into<String>) -> Fault {
    Fault::new(Code::RegistryInvalid, fact, "register keys with `glovebox key new`")
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::EIGHT_TORSION;
    use curve25519_dalek::edwards::CompressedEdwardsY;
    use ed25519_dalek::SigningKey;

    use super::*;

    fn person(party: &str, person: &str) -> KeyHolder {
        KeyHolder::Person { party: party.into(), person: person.into() }
    }

    #[test]
    fn a_key_stands_once_in_the_whole_registry() {
        let key = SigningKey::from_bytes(&[1; 32]).verifying_key();
        let registry = Registry::empty().with(&person("retailer", "ana"), &key).unwrap();
        let fault = registry.with(&person("brand", "dan"), &key).unwrap_err();
        assert_eq!(fault.code(), Code::RegistryInvalid);
        assert!(fault.fact().contains("stands twice"));
    }

    #[test]
    fn keys_on_which_verifiers_disagree_are_refused() {
        let honest = SigningKey::from_bytes(&[1; 32]).verifying_key();
        let mixed = (honest.to_edwards() + EIGHT_TORSION[1]).compress();
        let small: Vec<CompressedEdwardsY> = EIGHT_TORSION.iter().map(|point| point.compress()).collect();
        // y = p + 1 encodes the identity a second time.
        let mut non_canonical = [0xff; 32];
        non_canonical[0] = 0xee;
        non_canonical[31] = 0x7f;
        let refused = small.into_iter().chain([mixed, CompressedEdwardsY(non_canonical)]);
        for encoded in refused {
            assert!(read_key(&data_encoding::HEXLOWER.encode(encoded.as_bytes())).is_err(), "{encoded:?}");
        }
        assert!(read_key(&data_encoding::HEXLOWER.encode(honest.as_bytes())).is_ok());
    }
}
