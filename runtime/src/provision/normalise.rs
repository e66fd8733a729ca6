//! The identifiers of a view's units, after the rules that its owner has set.
//!
//! Each rule is a pure function of one text: what becomes of a key depends on no other key, no locale and no clock, so
//! that two hosts, and a replay, join alike. What a rule makes no key of is null, and null is nobody's. A rule that is
//! applied twice changes nothing more.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::DataFusionError;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use unicode_normalization::UnicodeNormalization;

use crate::room::{UnitRule, sha256_hex};

/// Octets of an e-mail address: RFC 5321, 4.5.3.1.3, has 256 for it between angle brackets.
const EMAIL_BYTES_MAX: usize = 254;

/// The domains of one provider, of which the first stands for both.
const GMAIL: [&str; 2] = ["gmail.com", "googlemail.com"];

/// Digits of a telephone number with its country: E.164 has 15 at most; the shortest in use have 7.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// The key that the rules make of a text, applied in order.
pub(super) fn normalised(rules: &[UnitRule], key: Expr) -> Expr {
    let signature = Signature::exact(vec![DataType::Utf8], Volatility::Immutable);
    ScalarUDF::new_from_impl(Normalise { rules: rules.to_vec(), signature }).call(vec![key])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Normalise {
    rules: Vec<UnitRule>,
    signature: Signature,
}

impl ScalarUDFImpl for Normalise {
    fn name(&self) -> &'static str {
        "unit_rules"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let keys = ColumnarValue::values_to_arrays(&arguments.args)?;
        let keys = keys.first().and_then(|keys| keys.as_string_opt::<i32>());
        let keys = keys.ok_or_else(|| DataFusionError::Internal("a key is no text".into()))?;
        let found: StringArray = keys.iter().map(|key| apply(&self.rules, key?)).collect();
        Ok(ColumnarValue::Array(Arc::new(found) as ArrayRef))
    }
}

/// What the rules make of a key; none where that is no key.
fn apply(rules: &[UnitRule], key: &str) -> Option<String> {
    let some = |key: String| (!key.is_empty()).then_some(key);
    rules.iter().try_fold(some(key.to_owned())?, |key, rule| step(rule, &key).and_then(some))
}

fn step(rule: &UnitRule, key: &str) -> Option<String> {
    match rule {
        // White space and lower case are those of Unicode, without any language's own rules.
        UnitRule::Trim => Some(key.trim().to_owned()),
        UnitRule::Lowercase => Some(key.to_lowercase()),
        UnitRule::Email => email(key),
        UnitRule::Gmail => gmail(key),
        UnitRule::Phone(country) => phone(country, key),
        UnitRule::Sha256 => Some(sha256_hex(key.as_bytes())),
        UnitRule::Hex => {
            (key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| key.to_ascii_lowercase())
        }
    }
}

/// One `@` with something on both sides, and nothing that cannot be seen.
fn email(key: &str) -> Option<String> {
    let address: String = key.trim().to_lowercase().nfc().collect();
    let (local, domain) = address.split_once('@')?;
    let is_address = !local.is_empty() && !domain.is_empty() && !domain.contains('@');
    (is_address && address.len() <= EMAIL_BYTES_MAX && !address.contains(is_invisible)).then_some(address)
}

/// White space, controls, and characters without a form of their own: two addresses must not differ by these alone.
fn is_invisible(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
}

/// Dots in the mailbox, and all from a plus on, make no difference there; elsewhere they may.
fn gmail(key: &str) -> Option<String> {
    let (local, domain) = key.split_once('@')?;
    if !GMAIL.contains(&domain) {
        return Some(key.to_owned());
    }
    let mailbox = local.split('+').next().unwrap_or_default().replace('.', "");
    (!mailbox.is_empty()).then(|| format!("{mailbox}@{}", GMAIL[0]))
}

/// A number as E.164 writes it: `+`, country, number.
fn phone(country: &str, key: &str) -> Option<String> {
    let text: String = key.nfkc().filter(|c| !is_separator(*c)).collect();
    // A national 0 beside a country code stands in brackets.
    let text = text.replacen("(0)", "", 1).replace(['(', ')'], "");
    let own = |number: &str| format!("{country}{}", number.strip_prefix('0').unwrap_or(number));
    let number = match text.strip_prefix('+').or_else(|| text.strip_prefix("00")) {
        Some(number) => number.strip_prefix(country).map_or_else(|| number.to_owned(), own),
        None => own(&text),
    };
    let digits = number.bytes().all(|byte| byte.is_ascii_digit()) && PHONE_DIGITS.contains(&number.len());
    let second_zero = number.starts_with('0') || number.strip_prefix(country).is_some_and(|rest| rest.starts_with('0'));
    (digits && !second_zero).then(|| format!("+{number}"))
}

fn is_separator(c: char) -> bool {
    c.is_whitespace() || matches!(c, '-' | '.' | '/' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(rule: &str, key: &str) -> Option<String> {
        apply(&[rule.parse().unwrap()], key)
    }

    #[track_caller]
    fn check(rule: &str, cases: &[(&str, Option<&str>)]) {
        for (key, expected) in cases {
            assert_eq!(one(rule, key).as_deref(), *expected, "{rule} of {key:?}");
        }
    }

    #[test]
    fn trim_takes_white_space_off_and_nothing_else() {
        check(
            "trim",
            &[
                ("a", Some("a")),
                ("\t a b\u{a0}\u{3000}\r\n", Some("a b")),
                ("", None),
                (" \u{2003}\n", None),
                // Neither is white space to Unicode.
                ("\0a", Some("\0a")),
                ("a\u{200b}", Some("a\u{200b}")),
                ("A", Some("A")),
            ],
        );
    }

    #[test]
    fn lower_case_is_that_of_no_language() {
        check(
            "lowercase",
            &[
                ("AbC", Some("abc")),
                ("ISTANBUL", Some("istanbul")),
                // Turkish letters stay apart from `i`: a dot above is a character of its own, no dot is another letter.
                ("\u{130}STANBUL", Some("i\u{307}stanbul")),
                ("\u{131}stanbul", Some("\u{131}stanbul")),
                ("STRASSE", Some("strasse")),
                ("stra\u{df}e", Some("stra\u{df}e")),
                ("\u{3a3}\u{391}\u{3a3}", Some("\u{3c3}\u{3b1}\u{3c2}")),
                // Full width letters have a lower case of their own.
                ("\u{ff21}", Some("\u{ff41}")),
                ("", None),
            ],
        );
    }

    #[test]
    fn an_address_has_one_spelling_or_is_none() {
        check(
            "email",
            &[
                ("  Anna.M@Example.ORG\n", Some("anna.m@example.org")),
                // Composed and combining are one; what is merely alike is not.
                ("JOSE\u{301}@x.org", Some("jos\u{e9}@x.org")),
                ("jos\u{e9}@x.org", Some("jos\u{e9}@x.org")),
                ("\u{ff41}nna@x.org", Some("\u{ff41}nna@x.org")),
                ("\u{131}@x.org", Some("\u{131}@x.org")),
                ("\u{130}@x.org", Some("i\u{307}@x.org")),
                // Dots and what follows a plus may name another mailbox.
                ("a.b+shop@gmail.com", Some("a.b+shop@gmail.com")),
                ("anna", None),
                ("anna\u{ff20}x.org", None),
                ("@x.org", None),
                ("anna@", None),
                ("a@b@c", None),
                ("an na@x.org", None),
                ("anna@x.org\0", None),
                ("an\u{200b}na@x.org", None),
                ("\u{feff}anna@x.org", None),
                ("anna@x\u{ad}.org", None),
                ("", None),
                ("   ", None),
            ],
        );
        let address = |length: usize| format!("{}@x.org", "a".repeat(length - 6));
        assert_eq!(one("email", &address(254)), Some(address(254)));
        assert_eq!(one("email", &address(255)), None);
        assert_eq!(one("email", &address(1 << 20)), None);
    }

    #[test]
    fn a_provider_has_rules_of_its_own() {
        let both = ["email", "gmail"].map(|rule| rule.parse().unwrap());
        for (key, expected) in [
            ("A.n.n.a+Shop@GoogleMail.com", Some("anna@gmail.com")),
            ("anna@gmail.com", Some("anna@gmail.com")),
            ("a.n.n.a+shop@example.org", Some("a.n.n.a+shop@example.org")),
            ("a.b@mail.gmail.com", Some("a.b@mail.gmail.com")),
            ("+shop@gmail.com", None),
            ("...@gmail.com", None),
            ("anna", None),
        ] {
            assert_eq!(apply(&both, key).as_deref(), expected, "{key}");
        }
    }

    #[test]
    fn a_telephone_number_has_one_spelling_or_is_none() {
        let anna = Some("+491701234567");
        check(
            "phone:+49",
            &[
                ("+491701234567", anna),
                ("00491701234567", anna),
                ("0170 1234567", anna),
                ("0170/123-45.67", anna),
                ("(0170) 1234567", anna),
                ("(0)170 1234567", anna),
                ("+49 (0) 170 1234567", anna),
                ("0049 (0)170\u{a0}1234567", anna),
                ("+49 0170 1234567", anna),
                ("+49\u{2011}170\u{2013}1234567", anna),
                ("\u{ff0b}\u{ff14}\u{ff19} \u{ff11}\u{ff17}\u{ff10} 1234567", anna),
                ("170 1234567", anna),
                (" +44 (0)20 7946 0000 ", Some("+442079460000")),
                ("+39 06 6982 0000", Some("+390669820000")),
                ("00683 4000", Some("+6834000")),
                ("110", None),
                ("0", None),
                ("", None),
                ("  ", None),
                ("+49 170 1234567 ext. 5", None),
                ("+49 170 12\x00345", None),
                ("+49 170\u{200b}1234567", None),
                ("++491701234567", None),
                ("+49 00 170 1234567", None),
                ("+0170 1234567", None),
                ("0000170 1234567", None),
                ("+49 1234567890123", Some("+491234567890123")),
                ("+49 12345678901234", None),
                ("anna@example.org", None),
                // Digits of another script are not read.
                ("+\u{664}\u{669}1701234567", None),
            ],
        );
        check("phone:+1", &[("(415) 555-0100", Some("+14155550100")), ("+1 415 555 0100", Some("+14155550100"))]);
        assert_eq!(one("phone:+49", &"1".repeat(1 << 20)), None);
    }

    #[test]
    fn digests_are_of_the_text_as_it_is_by_then() {
        // Of `anna@example.org`, by sha256sum.
        let anna = "a3bf86238a1c59bd2f0a648af9293620f90d18dad133d8fe2341cf9664a5d6d0";
        let rules = ["email", "sha256"].map(|rule| rule.parse().unwrap());
        assert_eq!(apply(&rules, " Anna@Example.org").as_deref(), Some(anna));
        assert_eq!(one("hex", &anna.to_uppercase()).as_deref(), Some(anna));
        assert_eq!(one("hex", &anna[1..]), None);
        assert_eq!(one("hex", &anna.replace('3', "g")), None);
        assert_eq!(one("hex", ""), None);
        assert_eq!(one("sha256", ""), None);
        assert_eq!(one("hex", &"\u{ff11}".repeat(64)), None);
    }

    proptest! {
        /// So that a file that has been through the rules already may go through them again.
        #[test]
        fn a_rule_applied_twice_is_applied_once(key in "\\PC{0,40}|[+0 ()\\-]{0,3}[0-9()+ ]{0,16}|[A-Z.+\u{130}]{1,9}@[a-z.]{1,9}") {
            for rule in ["trim", "lowercase", "email", "phone:+49", "phone:+1", "hex"] {
                let once = one(rule, &key);
                prop_assert_eq!(once.as_deref().and_then(|once| one(rule, once)), once, "{} of {:?}", rule, key);
            }
        }
    }
}
