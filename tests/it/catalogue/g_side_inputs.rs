//! G. What no mode protects, and says so: tables that every unit is shown, the code, and what parameters can name.

use super::{Market, NOISY, SUM, TARGET, exact_host, households, number, report};
use crate::support::data::floats;
use crate::support::{CONTROLS, Fixture, text};

/// All units vote for the same bits of a price list.
#[test]
fn atk_g1_unanimous_vote_on_a_price_list() {
    const PRICE: f64 = 37.25;
    let mut people = households(Market::KNOWN);
    people.iter_mut().for_each(|row| row.amount = 0.0);
    let market = Market::new(&NOISY.replace("epsilon = 1.0", "epsilon = 10.0"), &people);
    market.write_table("retailer/prices", &[("price", floats([PRICE].into_iter()))]);
    market.question("votes", &["-1"], SUM);
    let terms = Market::terms("people", 1);
    let terms: Vec<&str> = terms.iter().map(String::as_str).collect();
    let shown = market.room.glovebox(&[&["agree", "questions/votes.wasm"], &terms[..]].concat());
    let told =
        "Not protected, for the code sees it whole: the component's code, parameter values, retailer's view prices.";
    assert!(shown.stdout.contains(told), "{shown:?}");
    let released = market.asked("votes", "people");
    let unprotected = &released.record["predicate"]["released"]["unprotected"];
    assert!(unprotected.as_array().unwrap().contains(&"retailer's view prices".into()), "{unprotected}");
    // Prices are quarters, and the noise is for one unit's contribution.
    let voted = (number(&released, "amount") / Market::KNOWN as f64 * 4.0).round() / 4.0;
    assert_eq!(voted, PRICE, "the vote does not tell the price: is the warning still needed?");

    // So only whoever may learn the list may get such results.
    market.room.edit("room.toml", "learnable_by = [\"brand\"]", "learnable_by = [\"retailer\"]");
    market.room.not_agreed("votes", &terms, "CONTROL_UNMET", 3);
    report(
        "G1",
        "a price list, by the vote of all units",
        format!("the price of {PRICE} exactly, and a text that promises privacy for everything"),
        format!("{voted} as well: named as unprotected, and CONTROL_UNMET unless the recipient may learn it"),
    );
}

/// A parameter that can name anybody.
#[test]
fn atk_g3_parameters_that_name_a_person() {
    let people = households(100);
    let asked = exact_host(people.iter().filter(|row| row.household == TARGET), 1).unwrap();
    assert_eq!(asked, (1, super::SECRET), "the attack is dead");
    let room = Fixture::with_controls(CONTROLS);
    let strict = room.read_text("room.toml").replace("max_param_domain = 10_000_000", "max_param_domain = 1_000");
    room.write("room.toml", strict.as_bytes());
    let terms = ["--set", "attack=none", "--set", "only_unit_with=7", "--destination", "sheets"];
    let refused = room.glovebox(&[&["agree", "questions/evil.wasm", "--json"], &terms[..]].concat());
    refused.failed("CONTROL_UNMET", 3);
    assert!(text(&refused.json()["fact"]).contains("only_unit_with"), "{refused:?}");
    // A number without steps has no end of values.
    let manifest = room.read_text("questions/evil.toml");
    let endless = manifest.replace("type = \"int64\"\nrange = [-1, 1000000]", "type = \"float64\"\nrange = [-1, 100]");
    assert_ne!(endless, manifest);
    room.write("questions/evil.toml", endless.as_bytes());
    room.not_agreed("evil", &terms, "CONTROL_UNMET", 3);
    // With few values it is a question like any other.
    let coarse = manifest.replace("range = [-1, 1000000]", "range = [-1, 900]");
    room.write("questions/evil.toml", coarse.as_bytes());
    room.agree("evil", &terms);
    report(
        "G3",
        "a parameter that names the target",
        format!("any value: {} person's {} exactly", asked.0, asked.1),
        "1000002 values, or uncountably many, are CONTROL_UNMET where 1000 are allowed",
    );
}
