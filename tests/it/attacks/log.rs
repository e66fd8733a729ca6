//! Attacks on the log and on receipts: another history, another record in a proof's place, a witness that is none.
//!
//! Proofs, tiles, notes and cosignatures by themselves, byte by byte: the tests in `trust/src/log`. There is no time in
//! a receipt or a proof that nobody has signed (the catalogue's F4), so none can decide anything.

use std::fs;

use glovebox::{Change, load_key};
use glovebox_trust::log::checkpoint::SignedCheckpoint;
use glovebox_trust::log::cosignature::cosign;
use glovebox_trust::log::note::{Algorithm, Note, VerifierKey};
use serde_json::{Value, json};

use super::forge::Asked;
use crate::support::forge::{EVIL, payload, seal, sha256};
use crate::support::{Fixture, Released, now, text};

const REACH: &[&str] = &["--destination", "reports"];

fn released() -> (Fixture, String, Released) {
    let (room, agreement) = Fixture::with_evil();
    let released = room.released(&agreement);
    (room, agreement, released)
}

fn proof_of(receipt: &str) -> String {
    receipt.replace(".dsse.json", ".tlog-proof")
}

/// The log's key, by the name that checkpoints have.
fn log_key(room: &Fixture) -> VerifierKey {
    let status = room.glovebox(&["log", "verify", "--json"]).succeeded();
    VerifierKey::parse(status["vkeys"][0].as_str().unwrap()).unwrap()
}

/// Changes a proof: another index, a hash more or less, another one, hashes in another order, another size of the tree.
#[test]
fn f01_a_proof_that_was_changed() {
    let (room, agreement, released) = released();
    room.refused(&agreement, "DESTINATION_EXISTS", 6);
    let path = proof_of(&released.receipt);
    room.glovebox(&["log", "prove", &released.receipt, "--json"]).succeeded();
    let honest = room.read_text(&path);
    let index = honest.lines().nth(1).unwrap();
    let hashes: Vec<&str> = honest.lines().skip(2).take_while(|line| !line.is_empty()).collect();
    assert!(hashes.len() > 1, "{honest}");
    let zero = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let swapped = honest.replacen(&hashes.join("\n"), &hashes.iter().rev().copied().collect::<Vec<_>>().join("\n"), 1);
    let other_size = {
        let checkpoint = room.read_text("log/checkpoint");
        let size = checkpoint.lines().nth(1).unwrap();
        honest.replacen(&format!("\n{size}\n"), &format!("\n{}\n", size.parse::<u64>().unwrap() + 1), 1)
    };
    for (changed, code) in [
        (honest.replacen(index, "index 0", 1), "LOG_INVALID"),
        (honest.replacen(index, "index 2", 1), "LOG_INVALID"),
        (honest.replacen(&format!("{}\n", hashes[0]), "", 1), "LOG_INVALID"),
        (honest.replacen(hashes[0], &format!("{}\n{zero}", hashes[0]), 1), "LOG_INVALID"),
        (honest.replacen(hashes[0], zero, 1), "LOG_INVALID"),
        (swapped, "LOG_INVALID"),
        (other_size, "LOG_INVALID"),
        (honest.replacen("tlog-proof@v1", "tlog-proof@v2", 1), "MALFORMED"),
        (honest.trim_end().to_owned(), "MALFORMED"),
        (String::new(), "MALFORMED"),
    ] {
        assert_ne!(changed, honest);
        room.write(&path, changed.as_bytes());
        room.glovebox(&["verify", &released.receipt, "--json"]).failed(code, 3);
    }
    // Without a proof a release does not verify at all.
    fs::remove_file(room.path(&path)).unwrap();
    room.glovebox(&["verify", &released.receipt, "--json"]).failed("RECEIPT_INVALID", 3);
    room.glovebox(&["log", "prove", &released.receipt, "--json"]).succeeded();
    room.glovebox(&["verify", &released.receipt, "--json"]).succeeded();
}

/// Changes a record, or a hash, or takes a file of the log away. Nothing runs on a log that does not verify.
#[test]
fn f01_a_log_that_was_changed() {
    let (room, agreement, released) = released();
    room.take_output(&released.output);
    let log = room.backup("log");
    let mut files = Vec::new();
    collect(&room.path("log/tile"), &mut files);
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        let honest = fs::read(&file).unwrap();
        // Files of smaller trees stay where they are, and nothing depends on them.
        fs::remove_file(&file).unwrap();
        let is_needed = room.glovebox(&["log", "verify", "--json"]).exit_code != 0;
        fs::write(&file, &honest).unwrap();
        if !is_needed {
            continue;
        }
        for at in [2, honest.len() / 2, honest.len() - 1] {
            let mut changed = honest.clone();
            changed[at] ^= 1;
            fs::write(&file, &changed).unwrap();
            room.denied_unlogged(&agreement, "LOG_INVALID", || log.restore());
        }
        fs::remove_file(&file).unwrap();
        room.denied_unlogged(&agreement, "LOG_INVALID", || log.restore());
    }
    room.is_unharmed(&agreement);
}

fn collect(folder: &std::path::Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), files);
        } else {
            files.push(entry.path());
        }
    }
}

/// Writes a checkpoint in another form, of another log, or without the right signature. What the log's own key has signed
/// in another form is refused as well.
#[test]
fn f02_a_checkpoint_of_another_form() {
    let (room, agreement, released) = released();
    room.take_output(&released.output);
    let honest = room.read_text("log/checkpoint");
    let (body, signature) = honest.split_once("\n\n").unwrap();
    let lines: Vec<&str> = body.lines().collect();
    let [origin, size, root] = lines[..] else { panic!("{honest}") };
    let (key, log) = (load_key(&room.path("keys/runtime.pem")).unwrap(), log_key(&room));
    let signed = |text: String, log: &VerifierKey| Note::sign(&text, log, &key).unwrap().to_bytes();
    let other = VerifierKey::new("glovebox.dev/other", Algorithm::Ed25519, log.public()).unwrap();
    let rows: [(&str, Vec<u8>); 11] = [
        ("an extension", signed(format!("{origin}\n{size}\n{root}\nextension\n"), &log)),
        ("a leading zero", signed(format!("{origin}\n0{size}\n{root}\n"), &log)),
        ("no root", signed(format!("{origin}\n{size}\n"), &log)),
        ("another origin, another key name", signed(format!("glovebox.dev/other\n{size}\n{root}\n"), &other)),
        ("another origin, same key name", signed(format!("glovebox.dev/other\n{size}\n{root}\n"), &log)),
        ("another size, not signed", honest.replacen(&format!("\n{size}\n"), "\n1\n", 1).into()),
        ("carriage returns", honest.replace('\n', "\r\n").into()),
        ("no last line break", honest.trim_end().into()),
        ("two signatures of one key", format!("{honest}{}", signature.trim_start()).into()),
        ("no signature", format!("{body}\n\n").into()),
        ("nothing", Vec::new()),
    ];
    for (what, bytes) in rows {
        assert_ne!(bytes, honest.as_bytes());
        room.write("log/checkpoint", &bytes);
        println!("{what}");
        room.denied_unlogged(&agreement, "LOG_INVALID", || room.write("log/checkpoint", honest.as_bytes()));
    }
    // By a key that is registered for something else.
    let dan = load_key(&room.path("keys/brand.dan.pem")).unwrap();
    let dans = VerifierKey::new(origin, Algorithm::Ed25519, glovebox::Signer::public(&dan)).unwrap();
    let forged = Note::sign(&format!("{origin}\n{size}\n{root}\n"), &dans, &dan).unwrap().to_bytes();
    room.write("log/checkpoint", &forged);
    room.denied_unlogged(&agreement, "LOG_INVALID", || room.write("log/checkpoint", honest.as_bytes()));
    // A smaller log that the key did sign is not what the host has seen.
    let empty = SignedCheckpoint::sign(0, glovebox_trust::log::tree::empty_root(), &log, &key).unwrap();
    room.write("log/checkpoint", &empty.to_bytes());
    room.denied_unlogged(&agreement, "STATE_ROLLBACK", || room.write("log/checkpoint", honest.as_bytes()));
    room.is_unharmed(&agreement);
}

/// Shows the proof of another receipt, which is in the log.
#[test]
fn f03_a_proof_of_another_receipt() {
    let (room, agreement, first) = released();
    room.take_output(&first.output);
    room.renew_data();
    let second = room.released(&agreement);
    let [one, two] = [&first, &second].map(|released| proof_of(&released.receipt));
    let (own, others) = (room.read(&two), room.read(&one));
    room.write(&two, &others);
    room.glovebox(&["verify", &second.receipt, "--json"]).failed("LOG_INVALID", 3);
    room.write(&two, &own);
    room.glovebox(&["verify", &second.receipt, "--json"]).succeeded();
}

/// Passes a checkpoint for witnessed: by a stranger, in another log's name, with an old cosignature, or with one that
/// is still to come. One witness under two names: `a_key_stands_once_whatever_it_is_called` in `trust/src/log/policy.rs`.
#[test]
fn f05_a_witness_that_has_not_seen_it() {
    let room = Fixture::new();
    let [witness, stranger] = [3, 4].map(|seed| glovebox::SigningKey::from_bytes(&[seed; 32]));
    let vkey = |name: &str, key: &glovebox::SigningKey| {
        VerifierKey::new(name, Algorithm::Cosignature, glovebox::Signer::public(key)).unwrap()
    };
    let (known, unknown) = (vkey("witness.example", &witness), vkey("witness.example", &stranger));
    room.write("witnesses", format!("witness w1 {known}\nquorum w1\n").as_bytes());
    room.glovebox(&["registry", "witnesses", "witnesses", "--json"]).succeeded();
    room.sign_registry();
    let agreement = room.agreed("evil", EVIL);
    let ran = room.run(&agreement).succeeded();
    let receipt = text(&ran["receipt"]);
    let verify = || room.glovebox(&["verify", &receipt, "--json"]);
    verify().failed("WITNESS_MISSING", 3);
    room.glovebox(&["log", "verify", "--json"]).failed("WITNESS_MISSING", 3);

    let key = load_key(&room.path("keys/runtime.pem")).unwrap();
    let checkpoint = room.read("log/checkpoint");
    let origin = String::from_utf8(checkpoint.clone()).unwrap().lines().next().unwrap().to_owned();
    let named = |name: &str| VerifierKey::new(name, Algorithm::Ed25519, glovebox::Signer::public(&key)).unwrap();
    let signed = SignedCheckpoint::open(&checkpoint, &named(&origin)).unwrap();
    let other_log =
        SignedCheckpoint::sign(signed.checkpoint().size, signed.checkpoint().root, &named("other.example"), &key)
            .unwrap();
    let earlier = SignedCheckpoint::sign(1, signed.checkpoint().root, &named(&origin), &key).unwrap();
    for (what, line, code) in [
        ("a stranger", cosign(&signed, &unknown, &stranger, now()).unwrap(), "WITNESS_MISSING"),
        ("another log", cosign(&other_log, &known, &witness, now()).unwrap(), "LOG_INVALID"),
        ("an old cosignature", cosign(&earlier, &known, &witness, now()).unwrap(), "LOG_INVALID"),
        (
            "from the future",
            cosign(&signed, &known, &witness, now() + chrono::TimeDelta::hours(1)).unwrap(),
            "LOG_INVALID",
        ),
    ] {
        room.write("answer", line.as_bytes());
        println!("{what}");
        room.glovebox(&["log", "cosign", "answer", "--json"]).failed(code, 3);
        assert_eq!(room.read("log/checkpoint"), checkpoint);
        // Put there by hand, it does not help either.
        room.write("log/checkpoint", &[checkpoint.as_slice(), line.as_bytes()].concat());
        room.glovebox(&["log", "verify", "--json"]).failed(code, 3);
        room.write("log/checkpoint", &checkpoint);
    }
    room.write("answer", cosign(&signed, &known, &witness, now()).unwrap().as_bytes());
    room.glovebox(&["log", "cosign", "answer", "--json"]).succeeded();
    room.glovebox(&["log", "verify", "--json"]).succeeded();
    verify().failed("WITNESS_MISSING", 3);
    room.glovebox(&["log", "prove", &receipt, "--json"]).succeeded();
    verify().succeeded();
}

/// Other witnesses than those that were agreed would see another log.
#[test]
fn f05_other_witnesses_than_were_agreed() {
    let (room, agreement) = Fixture::with_evil();
    let witness = glovebox::SigningKey::from_bytes(&[3; 32]);
    let key = VerifierKey::new("witness.example", Algorithm::Cosignature, glovebox::Signer::public(&witness)).unwrap();
    room.write("witnesses", format!("witness w1 {key}\nquorum none\n").as_bytes());
    room.glovebox(&["registry", "witnesses", "witnesses", "--json"]).succeeded();
    room.sign_registry();
    room.denied(&agreement, "LOG_INVALID");
    let again = room.agreed("evil", EVIL);
    room.is_unharmed(&again);
}

/// Keeps two histories of one room, and shows each to whom it suits. Both are of one length, both signed by the log.
/// Witnesses refuse the second: `a_second_view_of_the_log_is_refused` in `trust/src/log/witness.rs`; here a partner does,
/// who holds a checkpoint of the first.
#[test]
fn f06_two_histories_of_one_room() {
    let (room, agreement) = Fixture::with_evil();
    let reach = room.agreed("reach", REACH);
    let before = room.backup("");
    let partner = tempfile::tempdir().unwrap();
    let checkpoint = partner.path().join("checkpoint");
    room.is_unharmed(&agreement);
    let state = room.backup_of_state();
    fs::copy(room.path("log/checkpoint"), &checkpoint).unwrap();
    let first = room.read_text("log/checkpoint");

    // The host takes part: it forgets as well.
    before.restore();
    fs::remove_dir_all(room.state()).unwrap();
    room.trust();
    room.is_unharmed(&reach);
    let second = room.read_text("log/checkpoint");
    let size = |checkpoint: &str| checkpoint.lines().nth(1).unwrap().to_owned();
    assert_eq!(size(&first), size(&second));
    assert_ne!(first, second);
    room.adopt(&checkpoint).failed("STATE_ROLLBACK", 3);
    // Nor does the first history's state fit the second's log.
    state.restore();
    room.glovebox(&["state", "show", "--json"]).failed("STATE_ROLLBACK", 3);
}

/// Forges receipts with a runtime's key that has been retired: of a refusal, of a release, of one that really was. What
/// it signed before stands, because the log has it.
#[test]
fn f07_a_receipt_that_a_retired_key_signs() {
    let room = Fixture::new();
    room.new_service("retailer", "spare", "spare");
    let agreement = room.agreed("evil", EVIL);
    let refused = text(&room.denied("agreements/nothing-r9", "AGREEMENT_INVALID").json()["receipt"]);
    let released = room.released(&agreement);
    let public = room.path(&room.public("runtime"));
    glovebox::change_key(&room.dir(), &public, Change::Retire, now()).unwrap();
    room.sign_registry();

    for receipt in [&refused, &released.receipt] {
        room.glovebox(&["verify", receipt, "--json"]).succeeded();
    }
    let retired = room.key("runtime");
    let run_id = "ab".repeat(16);
    let forged = format!("receipts/{run_id}.dsse.json");
    for receipt in [&refused, &released.receipt] {
        let mut record: Value = serde_json::from_slice(&payload(&room.read(receipt))).unwrap();
        record["predicate"]["run_id"] = json!(run_id);
        record["predicate"]["certificate_sha256"] = Value::Null;
        room.write(&forged, seal(record.to_string().as_bytes(), &retired).to_string().as_bytes());
        room.glovebox(&["verify", &forged, "--json"]).failed("RECEIPT_INVALID", 3);
        // With the proof of the one that it was made from.
        room.write(&proof_of(&forged), &room.read(&proof_of(receipt)));
        room.glovebox(&["verify", &forged, "--json"]).failed("LOG_INVALID", 3);
        fs::remove_file(room.path(&proof_of(&forged))).unwrap();
    }
    let honest = room.read(&released.receipt);
    room.write(&released.receipt, seal(&payload(&honest), &retired).to_string().as_bytes());
    room.glovebox(&["verify", &released.receipt, "--json"]).failed("LOG_INVALID", 3);
    room.write(&released.receipt, &honest);
    room.glovebox(&["verify", &released.receipt, "--json"]).succeeded();
    // It runs nothing any more; the other one does.
    room.run(&agreement).failed("KEY_UNKNOWN", 2);
    room.take_output(&released.output);
    assert!(room.ask(&agreement, &Asked { key: "spare", ..Asked::default() }, &|_| {}).result.is_ok());

    // Had someone else signed with it, even what the log has would be worth nothing.
    glovebox::change_key(&room.dir(), &public, Change::Compromise, now()).unwrap();
    room.sign_registry();
    for receipt in [&refused, &released.receipt] {
        room.glovebox(&["verify", receipt, "--json"]).failed("LOG_INVALID", 3);
        room.glovebox(&["log", "prove", receipt, "--json"]).succeeded();
        room.glovebox(&["verify", receipt, "--json"]).failed("RECEIPT_INVALID", 3);
    }
}

/// Guesses a small result, and looks for its digest in all that is public. Only the recipient holds the salt.
#[test]
fn f08_a_result_that_could_be_guessed() {
    let room = Fixture::new();
    let agreement =
        room.agreed("evil", &["--set", "attack=none", "--set", "only_unit_with=-1", "--destination", "sheets"]);
    let released = room.released(&agreement);
    // The best guess there is: the result itself.
    let guess = room.read(&released.output);
    let opening = format!("{}.opening.json", released.output);
    let salt = text(&serde_json::from_slice::<Value>(&room.read(&opening)).unwrap()["salt"]);
    assert_eq!(salt.len(), 64);
    let commitment = text(&released.record["predicate"]["released"]["output_commitment"]);
    let mut public = Vec::new();
    for folder in ["agreements", "log", "receipts", "registry", "revocations"] {
        collect(&room.path(folder), &mut public);
    }
    let mut texts: Vec<String> =
        public.iter().map(|path| String::from_utf8_lossy(&fs::read(path).unwrap()).into()).collect();
    let envelopes = public.iter().filter(|path| path.to_string_lossy().ends_with(".dsse.json"));
    texts.extend(envelopes.map(|path| String::from_utf8(payload(&fs::read(path).unwrap())).unwrap()));
    let stands = |word: &str| texts.iter().any(|text| text.contains(word));
    assert!(stands(&commitment), "the search finds what is there");
    let trimmed = guess.strip_suffix(b"\n").unwrap();
    for guessed in [guess.as_slice(), trimmed, sha256(&guess).as_bytes()] {
        let digest = sha256(guessed);
        assert_ne!(digest, commitment);
        assert!(!stands(&digest), "a guess can be confirmed");
    }
    assert!(!stands(&salt) && !stands(&String::from_utf8(guess.clone()).unwrap()));
    // Whoever has the salt can confirm it, and the next run has another.
    assert_eq!(sha256(&[salt.as_bytes(), &guess].concat()), commitment);
    room.take_output(&released.output);
    room.released(&agreement);
    assert_ne!(text(&serde_json::from_slice::<Value>(&room.read(&opening)).unwrap()["salt"]), salt);
}
