//! Attacks on signatures and keys: no signature, too many, of someone else, of another kind, by a key that counts no
//! more or should never have counted.

use std::fs;

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::Signer;
use glovebox::{Change, Scope};
use serde_json::{Value, json};

use super::forge::seal_as;
use crate::support::forge::{EVIL, IN_TOTO, seal, statement};
use crate::support::{Fixture, now};

/// The order of the group, little-endian: added to `S`, it gives another signature that sloppy verifiers take.
const GROUP_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// Strips the signature, or the field. The format: `trust/tests/approval.rs`, a01 and a02.
#[test]
fn a01_a02_an_approval_without_its_signature() {
    let (room, agreement) = Fixture::with_evil();
    let honest = seal(room.anas(&agreement).to_string().as_bytes(), &room.key("retailer.ana"));
    let mut stripped = honest.clone();
    stripped["signatures"] = json!([]);
    room.denied_with_approval(&agreement, stripped.to_string().as_bytes(), "SIGNATURE_MISSING");
    stripped.as_object_mut().unwrap().remove("signatures");
    room.denied_with_approval(&agreement, stripped.to_string().as_bytes(), "MALFORMED");
    room.is_unharmed(&agreement);
}

/// Adds a second signature to a good one: garbage, the same once more, or the other party's. One file, one signature.
#[test]
fn a03_an_approval_with_a_second_signature() {
    let (room, agreement) = Fixture::with_evil();
    let honest = seal(room.anas(&agreement).to_string().as_bytes(), &room.key("retailer.ana"));
    let other = seal(room.anas(&agreement).to_string().as_bytes(), &room.key("brand.dan"));
    let garbage = json!({"sig": BASE64.encode(&[7; 64])});
    for second in [garbage, honest["signatures"][0].clone(), other["signatures"][0].clone()] {
        let mut both = honest.clone();
        both["signatures"].as_array_mut().unwrap().push(second);
        room.denied_with_approval(&agreement, both.to_string().as_bytes(), "SIGNATURE_MISSING");
    }
    room.is_unharmed(&agreement);
}

/// A room in which the retailer wants two of its people.
fn with_two_of_retailer() -> (Fixture, String) {
    let room = Fixture::new();
    room.new_key("retailer", "bob");
    let lines = "group retailer 2 retailer/ana retailer/bob\ngroup both all retailer brand/dan\n\
                 quorum root both\nquorum analytical both";
    // Whoever asks for more signatures has to have them.
    glovebox::set_quorum(&room.dir(), lines, now()).unwrap();
    for (party, person) in [("retailer", "ana"), ("retailer", "bob"), ("brand", "dan")] {
        room.sign_draft(3, party, person);
    }
    let agreement = room.agreed("evil", EVIL);
    (room, agreement)
}

/// Where two people of a party must sign, one of them copies the approval under the other's name.
#[test]
fn a04_a_copy_of_an_approval_counts_once() {
    let (room, agreement) = with_two_of_retailer();
    let [ana, bob] = ["ana", "bob"].map(|person| room.path(&format!("{agreement}/retailer.{person}.dsse.json")));
    fs::copy(ana, &bob).unwrap();
    room.denied(&agreement, "QUORUM_MISSING");
    fs::remove_file(bob).unwrap();
    room.approve(&agreement, "retailer.bob");
    room.is_unharmed(&agreement);
}

/// Where two people of a party must sign, one of them signs with two keys.
#[test]
fn a05_a_person_with_two_keys_counts_once() {
    let (room, agreement) = with_two_of_retailer();
    let holder = glovebox::Holder {
        principal: glovebox::Principal::new("retailer", "ana"),
        kind: glovebox::MemberKind::Person,
        scopes: vec![Scope::Approve],
    };
    let random = &mut glovebox::Random::from_os().unwrap();
    glovebox::new_key(&room.dir(), &holder, &room.path("keys/ana.second.pem"), now(), random).unwrap();
    for (party, person) in [("retailer", "ana"), ("retailer", "bob"), ("brand", "dan")] {
        room.sign_draft(4, party, person);
    }
    let second = seal(room.anas(&agreement).to_string().as_bytes(), &room.key("ana.second"));
    room.put_approval(&agreement, "retailer.bob", &second);
    let ran = room.denied(&agreement, "QUORUM_MISSING");
    assert!(ran.stderr.contains("retailer/bob"), "{}", ran.stderr);
    room.approve(&agreement, "retailer.bob");
    room.is_unharmed(&agreement);
}

/// Registers a person's key a second time, for the other party and in another format. All formats, and the registry
/// itself: `trust/tests/registry.rs`, a06.
#[test]
fn a06_a_key_in_two_formats_is_one_key() {
    let room = Fixture::new();
    for format in ["pem", "openssh", "minisign", "hex"] {
        let public = room.glovebox(&["key", "public", "keys/retailer.ana.pem", "--format", format]);
        room.write("keys/again.pub", public.stdout.as_bytes());
        let ran = room.glovebox(&["key", "add", "keys/again.pub", "--party", "brand", "--person", "eve", "--json"]);
        ran.failed("KEY_DUPLICATE", 3);
    }
    assert!(!room.path("registry/2").exists());
}

/// Signs for the other party with a key of their own, and names that party's key as the one that signed; or swaps the
/// key ids only. The key that verifies decides, and nothing that the file says.
#[test]
fn a07_a08_the_key_id_decides_nothing() {
    let (room, agreement) = Fixture::with_evil();
    let statement = room.anas(&agreement).to_string();
    let [ana, dan] = ["retailer.ana", "brand.dan"].map(|who| room.key(who));
    let keyid = |who: &str| {
        let envelope: Value = serde_json::from_slice(&room.read(&format!("{agreement}/{who}.dsse.json"))).unwrap();
        envelope["signatures"][0]["keyid"].clone()
    };
    let mut forged = seal(statement.as_bytes(), &dan);
    forged["signatures"][0]["keyid"] = keyid("retailer.ana");
    room.denied_with_approval(&agreement, forged.to_string().as_bytes(), "SIGNER_MISMATCH");

    let mut hinted = seal(statement.as_bytes(), &ana);
    hinted["signatures"][0]["keyid"] = keyid("brand.dan");
    room.put_approval(&agreement, "retailer.ana", &hinted);
    room.is_unharmed(&agreement);
}

/// Brings the key along with the signature, wherever a verifier might look for one.
#[test]
fn a09_a_key_that_comes_with_its_signature() {
    let (room, agreement) = Fixture::with_evil();
    let stranger = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    let key = HEXLOWER.encode(stranger.verifying_key().as_bytes());
    let mut forged = seal(room.anas(&agreement).to_string().as_bytes(), &stranger);
    for field in ["publicKey", "cert", "verificationMaterial", "key"] {
        forged[field] = json!(key);
        forged["signatures"][0][field] = json!(key);
    }
    forged["signatures"][0]["keyid"] = json!(key);
    room.denied_with_approval(&agreement, forged.to_string().as_bytes(), "SIGNATURE_INVALID");
    room.is_unharmed(&agreement);
}

/// Registers a key that verifies what nobody signed, is written in a second form, or is of mixed order. Every such
/// point: `trust/tests/keys.rs`; in a registry that all have signed: `trust/tests/registry.rs`, a10 to a12.
#[test]
fn a10_a11_a12_a_key_on_which_verifiers_disagree() {
    let (room, agreement) = Fixture::with_evil();
    let torsion = curve25519_dalek::constants::EIGHT_TORSION[1];
    let point = curve25519_dalek::edwards::CompressedEdwardsY(*room.key("brand.dan").verifying_key().as_bytes());
    let mixed = (point.decompress().unwrap() + torsion).compress().to_bytes();
    let mut identity = [0; 32];
    identity[0] = 1;
    // The y of the identity plus p: the same point in another spelling.
    let mut not_canonical = [0xff; 32];
    (not_canonical[0], not_canonical[31]) = (0xee, 0x7f);
    for (key, code) in [
        (identity, "KEY_WEAK"),
        (torsion.compress().to_bytes(), "KEY_WEAK"),
        (not_canonical, "KEY_NOT_CANONICAL"),
        (mixed, "KEY_NOT_TORSION_FREE"),
    ] {
        room.write("keys/weak.hex", HEXLOWER.encode(&key).as_bytes());
        let ran = room.glovebox(&["key", "add", "keys/weak.hex", "--party", "brand", "--person", "eve", "--json"]);
        ran.failed(code, 3);

        // In the place of a good one, in the registry's first version: then there is no registry at all.
        let honest = room.read("registry/1/registry.json");
        let good = HEXLOWER.encode(room.key("retailer.ana").verifying_key().as_bytes());
        room.edit("registry/1/registry.json", &good, &HEXLOWER.encode(&key));
        room.denied_unlogged(&agreement, code, || room.write("registry/1/registry.json", &honest));
    }
    room.is_unharmed(&agreement);
}

/// Makes a second signature from a good one, and from a longer or shorter one. All of Wycheproof's:
/// `trust/tests/keys.rs`.
#[test]
fn a13_a_signature_in_another_form() {
    let (room, agreement) = Fixture::with_evil();
    let honest = seal(room.anas(&agreement).to_string().as_bytes(), &room.key("retailer.ana"));
    let signature = BASE64.decode(honest["signatures"][0]["sig"].as_str().unwrap().as_bytes()).unwrap();
    let mut malleated = signature.clone();
    let mut carry = 0u16;
    for (byte, order) in malleated[32..].iter_mut().zip(GROUP_ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = ((sum & 0xff) as u8, sum >> 8);
    }
    assert_ne!(malleated, signature);
    for form in [malleated, signature[..63].to_vec(), [signature.as_slice(), &[0]].concat(), Vec::new()] {
        let mut forged = honest.clone();
        forged["signatures"][0]["sig"] = json!(BASE64.encode(&form));
        room.denied_with_approval(&agreement, forged.to_string().as_bytes(), "SIGNATURE_INVALID");
    }
    room.is_unharmed(&agreement);
}

/// Ana has signed the agreement's bytes for OpenSSH and for minisign as well. Moves those signatures into an envelope:
/// around the statement, around the agreement, and as they are. Namespaces of OpenSSH signatures:
/// `trust/tests/ssh_agent.rs`, and `namespaces_that_others_use_are_refused_even_with_a_valid_signature`.
#[test]
fn a14_a15_a_signature_that_was_made_for_another_tool() {
    let (room, agreement) = Fixture::with_evil();
    let foreign = |name: &str| room.read_text(&format!("{agreement}/foreign/retailer.ana/{name}"));
    let (ssh, minisign) = (foreign("agreement.json.sshsig"), foreign("agreement.json.minisig"));
    let armoured: String = ssh.lines().filter(|line| !line.starts_with("-----")).collect();
    let ssh_blob = BASE64.decode(armoured.as_bytes()).unwrap();
    let minisign_blob = BASE64.decode(minisign.lines().nth(1).unwrap().as_bytes()).unwrap();
    let bytes = room.read(&format!("{agreement}/agreement.json"));
    // The signature over the bytes as they are, without any wrapping, is the most that a key could have given.
    let plain = room.key("retailer.ana").sign(&bytes).to_bytes().to_vec();
    let statement = room.anas(&agreement).to_string().into_bytes();
    for signature in [&ssh_blob[ssh_blob.len() - 64..], &minisign_blob[10..74], &plain] {
        assert_eq!(signature.len(), 64);
        for payload in [&statement, &bytes] {
            let forged = json!({
                "payloadType": IN_TOTO,
                "payload": BASE64.encode(payload),
                "signatures": [{"sig": BASE64.encode(signature)}],
            });
            room.denied_with_approval(&agreement, forged.to_string().as_bytes(), "SIGNATURE_INVALID");
        }
    }
    for file in [ssh, minisign] {
        room.denied_with_approval(&agreement, file.as_bytes(), "MALFORMED");
    }
    room.is_unharmed(&agreement);
}

/// Takes an Ed25519ph signature, made with the right key over the right bytes, for an Ed25519 one.
#[test]
fn a14_a_signature_over_a_hash() {
    use sha2::Digest;

    let (room, agreement) = Fixture::with_evil();
    let statement = room.anas(&agreement).to_string();
    let message = crate::support::forge::pre_authentication_encoding(IN_TOTO, statement.as_bytes());
    let key = room.key("retailer.ana");
    let hashed = key.sign(&sha2::Sha512::digest(&message)).to_bytes();
    let mut forged = seal(statement.as_bytes(), &key);
    forged["signatures"][0]["sig"] = json!(BASE64.encode(&hashed));
    room.denied_with_approval(&agreement, forged.to_string().as_bytes(), "SIGNATURE_INVALID");
    room.is_unharmed(&agreement);
}

/// Approves with keys that are good for something else: an author's, one for withdrawals, one for the registry, a
/// runtime's.
#[test]
fn a16_c13_a_key_of_another_scope() {
    let (room, agreement) = Fixture::with_evil();
    for scope in [Scope::Author, Scope::Revoke, Scope::Root] {
        let name = format!("ana.{scope}");
        room.new_key_for("retailer", "ana", &name, &[scope]);
        let forged = seal(room.anas(&agreement).to_string().as_bytes(), &room.key(&name));
        room.denied_with_approval(&agreement, forged.to_string().as_bytes(), "KEY_SCOPE");
        let key = format!("keys/{name}.pem");
        room.glovebox(&["approve", &agreement, "--key", &key, "--json"]).failed("KEY_SCOPE", 3);
    }
    let statement = statement(&room.id_of(&agreement), "retailer", "host").to_string();
    let forged = seal(statement.as_bytes(), &room.key("runtime"));
    room.denied_with_approval(&agreement, forged.to_string().as_bytes(), "KEY_SCOPE");
    room.is_unharmed(&agreement);
}

/// Runs while the keys are not valid yet. (They end long after every registry that names them.)
#[test]
fn a16_a_key_before_its_window() {
    let (room, agreement) = Fixture::with_evil();
    room.denied_at(&agreement, now() - chrono::TimeDelta::hours(1), "KEY_EXPIRED");
    room.is_unharmed(&agreement);
}

/// Backdates an approval with a key that has been retired.
#[test]
fn a16_a_retired_key_approves_nothing_new() {
    let (room, agreement) = Fixture::with_evil();
    room.new_key_for("retailer", "ana", "ana.old", &[Scope::Approve]);
    let public = room.path(&room.public("ana.old"));
    glovebox::change_key(&room.dir(), &public, Change::Retire, now()).unwrap();
    room.sign_registry();
    let forged = seal(room.anas(&agreement).to_string().as_bytes(), &room.key("ana.old"));
    room.denied_with_approval(&agreement, forged.to_string().as_bytes(), "KEY_EXPIRED");
    room.is_unharmed(&agreement);
}

/// What a run has used before its key was retired still counts, for the log has it. Once the key counts as compromised,
/// nothing does.
#[test]
fn a16_retired_is_not_compromised() {
    let room = Fixture::new();
    room.new_key_for("retailer", "ana", "ana.old", &[Scope::Approve]);
    let agreement = room.agreed("evil", EVIL);
    let signed = seal(room.anas(&agreement).to_string().as_bytes(), &room.key("ana.old"));
    room.put_approval(&agreement, "retailer.ana", &signed);
    let first = room.released(&agreement);
    room.take_output(&first.output);

    let public = room.path(&room.public("ana.old"));
    glovebox::change_key(&room.dir(), &public, Change::Retire, now()).unwrap();
    room.sign_registry();
    room.renew_data();
    let second = room.released(&agreement);
    room.take_output(&second.output);
    // The same words, signed again: another file, which the log has not.
    let again = seal(room.anas(&agreement).to_string().as_bytes(), &room.key("ana.old"));
    room.denied_with_approval(&agreement, again.to_string().as_bytes(), "KEY_EXPIRED");

    glovebox::change_key(&room.dir(), &public, Change::Compromise, now()).unwrap();
    room.sign_registry();
    room.denied(&agreement, "REVOKED");
    room.approve(&agreement, "retailer.ana");
    room.is_unharmed(&agreement);
}

/// Keeps an approval of someone who has left.
#[test]
fn a17_a_person_who_left_the_registry() {
    let room = Fixture::new();
    room.new_key("retailer", "bob");
    let agreement = room.agree("evil", EVIL);
    room.approve(&agreement, "retailer.bob");
    room.approve(&agreement, "brand.dan");
    room.draft_registry(3, |registry| {
        let members = registry["parties"][0]["members"].as_array_mut().unwrap();
        members.retain(|member| member["id"] != "bob");
        assert_eq!(members.len(), 2);
        let lines = registry["quorum"].as_array_mut().unwrap();
        lines.iter_mut().for_each(|line| *line = json!(line.as_str().unwrap().replace(" retailer/bob", "")));
    });
    room.sign_registry();
    room.denied(&agreement, "SIGNATURE_INVALID");
    fs::remove_file(room.path(&format!("{agreement}/retailer.bob.dsse.json"))).unwrap();
    room.approve(&agreement, "retailer.ana");
    room.is_unharmed(&agreement);
}

/// A party that has left as a whole: nobody can approve for it, so nothing of its data runs.
#[test]
fn a17_a_party_that_left_the_registry() {
    let (room, agreement) = Fixture::with_evil();
    room.draft_registry(2, |registry| {
        registry["parties"][0]["members"].as_array_mut().unwrap().retain(|member| member["id"] == "host");
        registry["quorum"] = json!(["quorum root brand/dan", "quorum analytical brand/dan"]);
    });
    // To leave, the retailer has to sign that it does.
    room.sign_draft(2, "brand", "dan");
    let released = room.released(&agreement);
    room.take_output(&released.output);
    room.sign_draft(2, "retailer", "ana");
    room.denied(&agreement, "SIGNATURE_INVALID");
    fs::remove_file(room.path(&format!("{agreement}/retailer.ana.dsse.json"))).unwrap();
    room.denied(&agreement, "OWNER_MISSING");
}

/// Envelopes hold Ed25519 signatures alone, of which there is one for each key and message. There is no second curve, so
/// no twin of a signature (the catalogue's A18) can be counted: whatever is not 64 bytes of Ed25519 verifies with no key.
#[test]
fn a18_a_signature_of_another_curve() {
    let (room, agreement) = Fixture::with_evil();
    // The two integers of an ECDSA signature, as DER and as they are.
    let der = [&[0x30, 0x44, 0x02, 0x20][..], &[0x41; 32], &[0x02, 0x20], &[0x42; 32]].concat();
    for signature in [der, vec![0x41; 64]] {
        let mut forged = seal_as(IN_TOTO, room.anas(&agreement).to_string().as_bytes(), &room.key("retailer.ana"));
        forged["signatures"][0]["sig"] = json!(BASE64.encode(&signature));
        room.denied_with_approval(&agreement, forged.to_string().as_bytes(), "SIGNATURE_INVALID");
    }
    room.is_unharmed(&agreement);
}
