//! Evil keys: every attack that a question can try through open group keys, one per run.
//!
//! A key is text that the guest makes up, and each further key is a further contribution. The tests of the runtime name
//! what each must meet. An honest question never does any of this.

use glovebox_sdk::analytical::{Contribution, Parameters, Views, question};

question!(measure);

/// Keys that an honest unit may use: as many as the manifest allows.
const SHOPS: [&str; 4] = ["east", "north", "south", "west"];

fn measure(parameters: &Parameters, views: &Views) -> Vec<Contribution> {
    let [rows] = views.slots();
    let own = rows.float64(0).value(0);
    let only_unit_with = parameters.int64(1);
    if only_unit_with >= 0 && own != only_unit_with as f64 {
        return keys(SHOPS);
    }
    match parameters.utf8(0) {
        "many" => keys((0..1_000).map(|key| key.to_string())),
        "repeat" => (0..1_000).map(|value| Contribution::new(["east"], [f64::from(value)])).collect(),
        "order" => keys(permuted(own as usize)),
        "case" => keys(["shop", "Shop", "SHOP", "sHOP", "shoP", "SHop"]),
        "whitespace" => keys(["shop", " shop", "shop ", "sh op", "shop\u{a0}", "shop\u{2003}"]),
        "zero_width" => keys(["shop", "sh\u{200b}op", "sh\u{200d}op", "\u{feff}shop", "shop\u{2060}", "\u{202e}shop"]),
        "combining" => keys(["caf\u{e9}", "cafe\u{301}", "cafe\u{300}\u{301}", "cafe\u{301}\u{300}", "cafe"]),
        "homoglyph" => keys(["shop", "sh\u{43e}p", "\u{455}hop", "sho\u{440}", "\u{455}h\u{43e}\u{440}"]),
        "control" => keys(["shop", "shop\u{7}"]),
        "long" => keys(["x".repeat(64), "x".repeat(65)]),
        "secret" => keys([format!("{:016x}", own.to_bits())]),
        _ => keys(SHOPS),
    }
}

/// Contributes 1 to each key, in this order.
fn keys<K: Into<String>>(keys: impl IntoIterator<Item = K>) -> Vec<Contribution> {
    keys.into_iter().map(|key| Contribution::new([key], [1.0])).collect()
}

/// The shops in one of 24 orders: more than four bits, if order told anything.
fn permuted(mut choice: usize) -> Vec<&'static str> {
    let mut left = SHOPS.to_vec();
    (1..=SHOPS.len())
        .rev()
        .map(|count| {
            let next = left.remove(choice % count);
            choice /= count;
            next
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use glovebox_sdk::Rows;

    fn attack(name: &str, own: f64) -> Vec<String> {
        let views = Views::from([Rows::builder().float64([own]).build()]);
        let answer = measure(&Parameters::from([name.into(), (-1).into()]), &views);
        answer.into_iter().map(|contribution| contribution.group[0].clone()).collect()
    }

    #[test]
    fn only_the_named_unit_attacks() {
        let views = |own| Views::from([Rows::builder().float64([own]).build()]);
        let answer = |own| measure(&Parameters::from(["many".into(), 5.into()]), &views(own)).len();
        assert_eq!((answer(5.0), answer(6.0)), (1_000, 4));
    }

    #[test]
    fn every_order_stands_for_a_number() {
        let orders: BTreeSet<Vec<String>> = (0..24).map(|own| attack("order", f64::from(own))).collect();
        assert_eq!(orders.len(), 24);
    }

    #[test]
    fn keys_that_look_alike_are_different_texts() {
        for name in ["case", "whitespace", "zero_width", "combining", "homoglyph"] {
            let keys = attack(name, 0.0);
            assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len(), "{name}");
            assert!(keys.len() > SHOPS.len(), "{name}");
        }
    }

    #[test]
    fn a_secret_makes_a_key_of_its_own() {
        assert_ne!(attack("secret", 1.0), attack("secret", 1.5));
        assert_eq!(attack("repeat", 1.0).len(), 1_000);
        assert_eq!(attack("long", 1.0)[1].len(), 65);
    }
}
