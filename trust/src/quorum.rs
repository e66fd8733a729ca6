//! Who has to sign: groups of people, and one quorum for every kind of document.
//!
//! The lines are those of c2sp.org/tlog-policy with people in the place of witnesses:
//!
//! ```text
//! group retailer any retailer/ana retailer/ben
//! group brand    all brand/dan brand/dpo
//! group everyone all retailer brand
//! quorum root       everyone
//! quorum analytical everyone
//! ```
//!
//! People are counted, whatever number of keys or files they have. A kind without a quorum is denied.

use std::collections::BTreeSet;

use crate::denial::{Denial, Reason, Result};
use crate::groups::Groups;
use crate::is_id;
use crate::principal::Principal;
use crate::words::words;

const LINES_MAX: usize = 256;

words! {
    /// What a quorum decides on.
    Kind {
        Root = "root" "The registry itself.",
        Analytical = "analytical" "Questions that answer with noisy groups.",
        List = "list" "Questions that answer with identifiers.",
        Cleanml = "cleanml" "Questions that answer with a model.",
    }
}

/// Groups of people, and which of them it takes for what.
#[derive(Clone, Debug)]
pub struct Policy {
    groups: Groups,
    quorums: Vec<(Kind, String)>,
}

impl Policy {
    /// Reads the lines; only these people may stand in them. There must be a quorum for the registry.
    pub fn parse<L: AsRef<str>>(lines: &[L], people: &BTreeSet<Principal>) -> Result<Self> {
        if lines.len() > LINES_MAX {
            return Err(invalid(format!("a quorum has more than {LINES_MAX} lines")));
        }
        let mut policy = Self { groups: Groups::default(), quorums: Vec::new() };
        for line in lines {
            policy.add_line(line.as_ref(), people)?;
        }
        match policy.target(Kind::Root) {
            Some(_) => Ok(policy),
            None => Err(invalid("there is no line `quorum root NAME`: the registry could never change")),
        }
    }

    fn add_line(&mut self, line: &str, people: &BTreeSet<Principal>) -> Result<()> {
        if !line.bytes().all(|byte| byte == b'\t' || (0x20..0x7f).contains(&byte)) {
            return Err(invalid("a quorum line has other characters than printable ASCII"));
        }
        let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["group", group @ ..] => self.add_group(group, people),
            ["quorum", kind, target] => self.add_quorum(kind, target, people),
            [first, ..] => Err(invalid(format!("`{first}` does not begin a line `group ...` or `quorum KIND NAME`"))),
        }
    }

    fn add_group(&mut self, words: &[&str], people: &BTreeSet<Principal>) -> Result<()> {
        if let Some(name) = words.first().filter(|name| !is_id(name)) {
            return Err(invalid(format!("a group cannot be called `{name}`")));
        }
        words.iter().skip(2).try_for_each(|member| self.add_person(member, people))?;
        self.groups.add_group(words)
    }

    fn add_quorum(&mut self, kind: &str, target: &str, people: &BTreeSet<Principal>) -> Result<()> {
        let kind = kind.parse().map_err(invalid)?;
        if self.target(kind).is_some() {
            return Err(invalid(format!("there are two lines `quorum {kind}`")));
        }
        self.add_person(target, people)?;
        self.groups.check_tree(target)?;
        self.quorums.push((kind, target.to_owned()));
        Ok(())
    }

    /// People are known without a line of their own; they are told from groups by the stroke in their name.
    fn add_person(&mut self, name: &str, people: &BTreeSet<Principal>) -> Result<()> {
        if !name.contains('/') || self.groups.contains(name) {
            return Ok(());
        }
        if !name.parse().is_ok_and(|principal| people.contains(&principal)) {
            return Err(invalid(format!("`{name}` is not a person of the registry")));
        }
        self.groups.add_leaf(name)
    }

    fn target(&self, kind: Kind) -> Option<&str> {
        self.quorums.iter().find(|(known, _)| *known == kind).map(|(_, target)| target.as_str())
    }

    /// Whether the people who signed are a quorum. The fact of a denial says whom it lacks.
    pub fn check(&self, kind: Kind, signed: &BTreeSet<Principal>) -> Result<()> {
        let missing = |fact| Err(Denial::new(Reason::QuorumMissing, fact));
        let Some(target) = self.target(kind) else {
            return missing(format!("the registry has no quorum for {kind}"));
        };
        let signed: BTreeSet<String> = signed.iter().map(ToString::to_string).collect();
        let has_signed = |name: &str| signed.contains(name);
        if self.groups.holds(target, &has_signed) {
            return Ok(());
        }
        missing(self.groups.shortfall(target, &has_signed))
    }

    /// The people who can count in a quorum.
    #[must_use]
    pub fn people(&self, kind: Kind) -> BTreeSet<Principal> {
        let names = self.target(kind).map(|target| self.groups.leaves_below(target)).unwrap_or_default();
        names.into_iter().filter_map(|name| name.parse().ok()).collect()
    }
}

fn invalid(fact: impl Into<String>) -> Denial {
    Denial::new(Reason::PolicyInvalid, fact)
}
