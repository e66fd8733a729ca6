//! The rules by which a view's owner says which spellings of a unit are one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Rules of one view.
const RULES_MAX: usize = 8;

/// A step from an identifier as it stands in a file to the one that units are joined by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum UnitRule {
    /// Takes white space off both ends.
    Trim,
    /// Lower case.
    Lowercase,
    /// The spelling of an e-mail address.
    Email,
    /// What a provider delivers to one mailbox.
    Gmail,
    /// A telephone number in E.164, of this country where the number does not say: its calling code.
    Phone(String),
    /// SHA-256 in hex.
    Sha256,
    /// A SHA-256 that someone else has made, in hex.
    Hex,
}

impl UnitRule {
    /// Why these rules, in this order, would say something else than they seem to.
    pub(crate) fn check(rules: &[Self]) -> Result<(), String> {
        if rules.len() > RULES_MAX {
            return Err(format!("has more than {RULES_MAX} `unit_rules`"));
        }
        if let Some(at) = rules.iter().position(|rule| matches!(rule, Self::Sha256 | Self::Hex))
            && at + 1 < rules.len()
        {
            return Err(format!("has `unit_rules` after `{}`, which leaves nothing to change", rules[at]));
        }
        let email = rules.iter().position(|rule| *rule == Self::Email);
        match rules.iter().position(|rule| *rule == Self::Gmail) {
            Some(gmail) if email.is_none_or(|email| gmail < email) => {
                Err("has the unit rule `gmail` without `email` before it".into())
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for UnitRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trim => f.write_str("trim"),
            Self::Lowercase => f.write_str("lowercase"),
            Self::Email => f.write_str("email"),
            Self::Gmail => f.write_str("gmail"),
            Self::Phone(country) => write!(f, "phone:+{country}"),
            Self::Sha256 => f.write_str("sha256"),
            Self::Hex => f.write_str("hex"),
        }
    }
}

impl FromStr for UnitRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "trim" => Ok(Self::Trim),
            "lowercase" => Ok(Self::Lowercase),
            "email" => Ok(Self::Email),
            "gmail" => Ok(Self::Gmail),
            "sha256" => Ok(Self::Sha256),
            "hex" => Ok(Self::Hex),
            _ => text.strip_prefix("phone:+").filter(|country| is_calling_code(country)).map_or_else(
                || {
                    let known = "trim, lowercase, email, gmail, phone:+CODE, sha256, hex";
                    Err(format!("unknown unit rule `{}`, there are: {known}", text.escape_debug()))
                },
                |country| Ok(Self::Phone(country.into())),
            ),
        }
    }
}

fn is_calling_code(text: &str) -> bool {
    (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0')
}

impl TryFrom<String> for UnitRule {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<UnitRule> for String {
    fn from(rule: UnitRule) -> Self {
        rule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[&str]) -> Result<Vec<UnitRule>, String> {
        texts.iter().map(|text| text.parse()).collect()
    }

    #[test]
    fn a_rule_has_one_spelling() {
        let all = ["trim", "lowercase", "email", "gmail", "phone:+1", "phone:+49", "phone:+423", "sha256", "hex"];
        let printed: Vec<String> = rules(&all).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(printed, all);
        for other in [
            "",
            "Trim",
            " trim",
            "phone",
            "phone:",
            "phone:+",
            "phone:49",
            "phone:+049",
            "phone:+1234",
            "phone:+4x",
            "md5",
        ] {
            assert!(rules(&[other]).is_err(), "{other}");
        }
    }

    #[test]
    fn rules_that_would_do_nothing_are_refused() {
        let check = |texts: &[&str]| UnitRule::check(&rules(texts).unwrap());
        for good in [[].as_slice(), &["trim", "email", "gmail", "sha256"], &["phone:+49", "sha256"], &["hex"]] {
            assert_eq!(check(good), Ok(()), "{good:?}");
        }
        for bad in [["sha256", "trim"].as_slice(), &["hex", "sha256"], &["gmail"], &["gmail", "email"], &["trim"; 9]] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
