//! Cosignatures from a witness made here, which answers as the protocol says.

use std::fs;

use crate::server::serve;
use crate::tool::{Ran, exchange, text};

const HASH: &str = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=";
const COSIGNATURE: &str =
    "\u{2014} witness.example/w1 CMp+6LWBU0anHGH5aNDTJkH/gj79sG+T6+iP2ThYN5krrDJbR1HDnucjL39QsZTS\n";

fn request(old: u64, size: u64) -> String {
    let checkpoint =
        format!("glovebox.example/grocery\n{size}\n{HASH}\n\n\u{2014} glovebox.example/grocery AAAAAAAAAAAA\n");
    let proof = if old == 0 { String::new() } else { format!("{HASH}\n") };
    format!("old {old}\n{proof}\n{checkpoint}")
}

/// Asks a witness that answers so, going on from size 5 to size 9.
fn ask(status: u16, body: &'static str) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("request");
    fs::write(&file, request(5, 9)).unwrap();
    let address = serve(move |request| {
        let expected = self::request(5, 9).into_bytes();
        match (request.method.as_str(), request.path.as_str(), request.body == expected) {
            ("POST", "/w1/add-checkpoint", true) => (status, String::new(), body.as_bytes().to_vec()),
            _ => (400, String::new(), format!("{request:?}").into_bytes()),
        }
    });
    let out = folder.path().join("out");
    let url = format!("http://{address}/w1/");
    let ran = exchange(&["witness", "--url", &url, "--request", text(&file), "--out", text(&out), "--json"]);
    assert_eq!(ran.code == 0, out.exists());
    if ran.code == 0 {
        assert_eq!(fs::read_to_string(&out).unwrap(), body);
        exchange(&["witness", "--url", &url, "--request", text(&file), "--out", text(&out)]).refused(2, "FILE_EXISTS");
        let plain = exchange(&["witness", "--url", &url, "--request", text(&file)]);
        assert_eq!((plain.code, plain.stdout.as_str()), (0, body));
    }
    ran
}

#[test]
fn cosignatures_are_printed_and_written_as_they_came() {
    let cosigned = ask(200, COSIGNATURE).json();
    assert_eq!(cosigned["origin"], "glovebox.example/grocery");
    assert_eq!(cosigned["size"], 9);
    assert_eq!(cosigned["cosignatures"], COSIGNATURE);
}

#[test]
fn a_conflict_is_told_with_the_size_and_what_it_means() {
    let told = |body, words: &[&str]| {
        let ran = ask(409, body);
        ran.refused(3, "WITNESS_CONFLICT");
        assert!(words.iter().all(|word| ran.stderr.contains(word)), "{ran:?}");
    };
    told("12\n", &["has cosigned 12", "rolled back"]);
    told("7\n", &["has cosigned 7", "stale", "old size 7"]);
    told("9\n", &["has cosigned 9", "stale", "old size 9"]);
    told("0\n", &["has cosigned 0", "never cosigned", "old size 0"]);
    for wrong in ["", "7", "07\n", "-1\n", "x\n"] {
        ask(409, wrong).refused(3, "WITNESS_INVALID");
    }
}

#[test]
fn refusals_are_told_in_words() {
    for (status, word) in
        [(404, "does not know the log"), (403, "trusts no key"), (422, "not consistent"), (400, "cannot read")]
    {
        let ran = ask(status, "because");
        assert!(ran.refused(3, "WITNESS_REFUSED").stderr.contains(word), "{ran:?}");
    }
    ask(500, "sorry").refused(6, "SERVER_FAILED");
    ask(307, "").refused(6, "SERVER_FAILED");
}

#[test]
fn answers_that_are_no_cosignatures() {
    for wrong in ["", "\n", "<html>\n", "\u{2014} w AAAA\n", COSIGNATURE.trim_end()] {
        ask(200, wrong).refused(3, "WITNESS_INVALID");
    }
}

#[test]
fn files_that_are_no_requests_are_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("request");
    // The discard port: had it been sent, the network would have failed.
    let send = |text_of: &str| {
        fs::write(&file, text_of).unwrap();
        exchange(&["witness", "--url", "http://127.0.0.1:9", "--request", text(&file), "--json"])
    };
    for wrong in ["", "old 1\n", "{}", &request(5, 9).replace("old", "new"), "-----BEGIN PRIVATE KEY-----\n\n"] {
        send(wrong).refused(3, "REQUEST_INVALID");
    }
    send(&request(0, 9)).refused(6, "NETWORK_FAILED");
    exchange(&["witness", "--url", "witness", "--request", text(&file)]).refused(2, "USAGE");
}
