//! What a list calls its units at a destination that must not learn their identifiers; and what a view calls a value that
//! the code must not learn.
//!
//! A pseudonym is the same for the same room, destination and data, so that lists can be told apart and renewed there,
//! and without relation to any other destination's: linking two takes the host's key.

use data_encoding::HEXLOWER;

use hmac::Mac;

use super::keyed::{self, DerivedKey, Keyed};
use crate::provision::UnitKey;

/// Makes the pseudonyms of one destination.
#[derive(Clone)]
pub(crate) struct DestinationKey(DerivedKey, Keyed);

impl std::fmt::Debug for DestinationKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DestinationKey(..)")
    }
}

impl DestinationKey {
    /// The key of a destination of a room.
    pub(super) fn new(master: &[u8; 32], room: &str, destination: &str) -> Self {
        Self::of(Keyed::derive(master, "glovebox pseudonym 1", [room, destination]))
    }

    fn of(key: DerivedKey) -> Self {
        Self(key, Keyed::new(&key))
    }

    /// The form that the recipient gets beside a list.
    pub(crate) fn to_hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// Reads that form.
    pub(crate) fn from_hex(hex: &str) -> Option<Self> {
        HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok().map(Self::of)
    }

    /// 128 bits in hex: even among 2^40 units a collision is less likely than 2^-48.
    pub(crate) fn pseudonym(&self, key: &UnitKey) -> String {
        HEXLOWER.encode(&self.1.hash(key)[..16])
    }
}

/// Makes the pseudonyms that views of one room write, on one host: the same for every run, and of every owner.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RoomKey(DerivedKey);

impl std::fmt::Debug for RoomKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RoomKey(..)")
    }
}

impl RoomKey {
    pub(super) fn new(master: &[u8; 32], room: &str) -> Self {
        Self(Keyed::derive(master, "glovebox view pseudonym 1", [room]))
    }

    /// For views that are planned and not read.
    pub(crate) const fn none() -> Self {
        Self([0; 32])
    }

    /// The form that is sealed to the auditor.
    pub(crate) fn to_hex(self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// Reads that form.
    pub(crate) fn from_hex(hex: &str) -> Option<Self> {
        HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok().map(Self)
    }

    /// HMAC-SHA256 of the text, in hex.
    pub(crate) fn pseudonym(self, text: &str) -> String {
        let mut mac = keyed::new(&self.0);
        mac.update(text.as_bytes());
        HEXLOWER.encode(&mac.finalize().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const MASTER: [u8; 32] = [7; 32];

    fn key(room: &str, destination: &str) -> DestinationKey {
        DestinationKey::new(&MASTER, room, destination)
    }

    fn text(key: &str) -> UnitKey {
        UnitKey::Utf8(key.into())
    }

    fn shared_prefix(one: &str, two: &str) -> usize {
        one.bytes().zip(two.bytes()).take_while(|(one, two)| one == two).count()
    }

    #[test]
    fn pseudonyms_are_those_that_another_implementation_computes() {
        // Python: hmac.digest(hmac.digest(master, b"".join(struct.pack(">Q", len(n)) + n for n in names), "sha256"),
        // b"t" + text or b"i" + struct.pack(">q", number), "sha256")[:16].hex(); the first name is the purpose.
        let key = key("spring", "ads");
        assert_eq!(key.pseudonym(&text("anna@example.org")), "b5a9ac51480ec10c321af4a02f48544c");
        assert_eq!(key.pseudonym(&UnitKey::Int64(-42)), "cfc7ca7b46adc7cf22b5f6a165b4f0a7");
        let read = DestinationKey::from_hex(&key.to_hex()).unwrap();
        assert_eq!(read.pseudonym(&text("b")), key.pseudonym(&text("b")));
    }

    #[test]
    fn a_views_pseudonyms_are_those_that_another_implementation_computes() {
        // Python: hmac.digest(hmac.digest(master, b"".join(struct.pack(">Q", len(n)) + n for n in names), "sha256"),
        // text, "sha256").hex(); the names are the purpose and the room.
        let room = RoomKey::new(&MASTER, "spring");
        let anna = room.pseudonym("anna@example.org");
        assert_eq!(anna, "39fbf7d3f57c8ec09f98efd403b8241edb7ebbec067c8d23f1aeaccccb4fe3b5");
        assert_eq!(RoomKey::from_hex(&room.to_hex()), Some(room));
        assert_eq!(RoomKey::from_hex("00"), None);
        // Neither another room's nor another host's, nor what a list calls it.
        for other in [RoomKey::new(&MASTER, "summer"), RoomKey::new(&[8; 32], "spring"), RoomKey::none()] {
            assert!(shared_prefix(&other.pseudonym("anna@example.org"), &anna) < 16);
        }
        assert!(shared_prefix(&key("spring", "").pseudonym(&text("anna@example.org")), &anna) < 16);
        assert!(!format!("{room:?}").contains(&room.to_hex()[..8]));
    }

    #[test]
    fn names_cannot_be_cut_differently() {
        let keys =
            [key("r", "d"), key("rd", ""), key("", "rd"), key("d", "r"), DestinationKey::new(&[8; 32], "r", "d")];
        let pseudonyms: BTreeSet<String> = keys.iter().map(|key| key.pseudonym(&text("a"))).collect();
        assert_eq!(pseudonyms.len(), keys.len());
    }

    proptest! {
        #[test]
        fn two_destinations_cannot_be_linked(id in any::<i64>(), name in "[a-z]{1,12}", other in "[a-z]{1,12}") {
            prop_assume!(name != other);
            let (one, two) = (key("r", &name), key("r", &other));
            for id in [UnitKey::Int64(id), text(&id.to_string())] {
                let (one, two) = (one.pseudonym(&id), two.pseudonym(&id));
                prop_assert_eq!((one.len(), two.len()), (32, 32));
                // 16 digits agree by chance once in 2^64.
                prop_assert!(shared_prefix(&one, &two) < 16);
            }
        }

        #[test]
        fn numbers_and_texts_never_collide(id in any::<i64>(), other in any::<i64>()) {
            let key = key("r", "d");
            let bytes: String = id.to_be_bytes().iter().map(|byte| char::from(byte & 0x7f)).collect();
            let number = key.pseudonym(&UnitKey::Int64(id));
            for text in [text(&id.to_string()), text(&bytes), text(&format!("i{bytes}"))] {
                prop_assert_ne!(&number, &key.pseudonym(&text));
            }
            prop_assert_eq!(id == other, number == key.pseudonym(&UnitKey::Int64(other)));
        }
    }

    #[test]
    fn a_number_and_the_text_of_its_bytes_differ() {
        let key = key("r", "d");
        assert_ne!(key.pseudonym(&UnitKey::Int64(0x4142_4344_4546_4748)), key.pseudonym(&text("ABCDEFGH")));
    }
}
