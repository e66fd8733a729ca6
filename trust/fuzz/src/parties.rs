//! A room of two parties, whose keys anyone can make.

use glovebox_trust::keys::{Signer, SigningKey};
use glovebox_trust::registry::{Custody, KeyRecord, MemberKind, RegistryFile, Scope};
use glovebox_trust::{Principal, time_from_text};

/// The day of all checks, in the form of [`time_from_text`].
pub(super) const TODAY: &str = "2026-06-01T00:00:00Z";
const YESTERYEAR: &str = "2026-01-01T00:00:00Z";
const NEXT_YEAR: &str = "2027-01-01T00:00:00Z";

/// Party, person and the byte that their secret key repeats.
const PEOPLE: [(&str, &str, u8); 3] = [("retailer", "ana", 1), ("retailer", "ben", 2), ("brand", "dan", 3)];

/// The people and their keys.
pub(super) fn people() -> [(Principal, SigningKey); 3] {
    PEOPLE.map(|(party, person, secret)| (Principal::new(party, person), SigningKey::from_bytes(&[secret; 32])))
}

/// A registry with all of them and a runtime, whose quorums ask for someone of each party.
pub(super) fn registry(room: &str) -> RegistryFile {
    let (from, until) = (time_from_text(YESTERYEAR).unwrap(), time_from_text(NEXT_YEAR).unwrap());
    let mut file = RegistryFile::new(room, until);
    for (principal, key) in people() {
        let scopes = [Scope::Approve, Scope::Revoke, Scope::Root];
        let record = KeyRecord::new(&key.public(), &scopes, from, until, Custody::SshAgent);
        file.add_key(&principal, MemberKind::Person, record).unwrap();
    }
    let runtime = SigningKey::from_bytes(&[4; 32]).public();
    let record = KeyRecord::new(&runtime, &[Scope::Runtime], from, until, Custody::File);
    file.add_key(&Principal::new("retailer", "host"), MemberKind::Service, record).unwrap();
    file.set_default_quorum();
    file
}
