//! Names, groups of them, and how many of a group it takes: the grammar that quorums of people and of witnesses share.
//!
//! It is that of c2sp.org/tlog-policy: a group names only what stands before it, so there are no cycles, and whether
//! it holds can be said by going through the list once.

use crate::denial::{Denial, Reason, Result};

/// As many names that are not groups, and as many groups, may stand in one file.
const EACH_MAX: usize = 64;

/// Names that hold or do not hold by themselves, and groups of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Groups {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    name: String,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    /// Holds by itself.
    Leaf,
    /// Holds if so many of these earlier nodes hold.
    AtLeast(usize, Vec<usize>),
}

impl Groups {
    /// Adds a name that holds or does not hold by itself.
    pub(crate) fn add_leaf(&mut self, name: &str) -> Result<()> {
        self.add(name, Rule::Leaf)
    }

    /// Adds a group from the words of its line: its name, `all`, `any` or a number, and its members.
    pub(crate) fn add_group(&mut self, words: &[&str]) -> Result<()> {
        let [name, threshold, members @ ..] = words else {
            return Err(invalid("a group line is not `group NAME all|any|NUMBER MEMBER...`"));
        };
        let mut indices = Vec::new();
        for member in members {
            let index = self.find(member).ok_or_else(|| not_defined(member))?;
            if indices.contains(&index) {
                return Err(invalid(format!("`{member}` is twice a member of one group")));
            }
            indices.push(index);
        }
        let threshold = match *threshold {
            "all" => Some(indices.len()),
            "any" => Some(1),
            number => number.parse().ok().filter(|k: &usize| k.to_string() == number),
        };
        match threshold {
            Some(k) if (1..=indices.len()).contains(&k) => self.add(name, Rule::AtLeast(k, indices)),
            _ => Err(invalid(format!("group `{name}` does not ask for at least one and at most all of its members"))),
        }
    }

    fn add(&mut self, name: &str, rule: Rule) -> Result<()> {
        if name.is_empty() || name == "none" {
            return Err(invalid(format!("`{name}` cannot be defined")));
        }
        if self.contains(name) {
            return Err(invalid(format!("`{name}` is defined twice")));
        }
        let same = |node: &&Node| (node.rule == Rule::Leaf) == (rule == Rule::Leaf);
        if self.nodes.iter().filter(same).count() >= EACH_MAX {
            return Err(invalid(format!("more than {EACH_MAX} names or groups")));
        }
        self.nodes.push(Node { name: name.to_owned(), rule });
        Ok(())
    }

    /// Whether the name stands for something.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Refuses a name below which another stands more than once: each may contribute in one way only.
    pub(crate) fn check_tree(&self, name: &str) -> Result<()> {
        let mut seen = Vec::new();
        let mut open = vec![self.find(name).ok_or_else(|| not_defined(name))?];
        // Ends at the first name that comes again, so that a file cannot make this take long.
        while let Some(index) = open.pop() {
            let Some(node) = self.nodes.get(index) else { continue };
            if seen.contains(&index) {
                return Err(invalid(format!("`{}` counts more than once", node.name)));
            }
            seen.push(index);
            if let Rule::AtLeast(_, members) = &node.rule {
                open.extend(members);
            }
        }
        Ok(())
    }

    /// The names below a name that are not groups.
    pub(crate) fn leaves_below(&self, name: &str) -> Vec<&str> {
        let mut below = vec![false; self.nodes.len()];
        if let Some(below) = self.find(name).and_then(|index| below.get_mut(index)) {
            *below = true;
        }
        // Members stand before their group.
        for (index, node) in self.nodes.iter().enumerate().rev() {
            if let (Some(true), Rule::AtLeast(_, members)) = (below.get(index).copied(), &node.rule) {
                for member in members {
                    if let Some(below) = below.get_mut(*member) {
                        *below = true;
                    }
                }
            }
        }
        let leaves = self.nodes.iter().zip(below).filter(|(node, below)| *below && node.rule == Rule::Leaf);
        leaves.map(|(node, _)| node.name.as_str()).collect()
    }

    /// Whether a name holds, if exactly those leaves hold of which `leaf_holds` says so.
    pub(crate) fn holds(&self, name: &str, leaf_holds: &dyn Fn(&str) -> bool) -> bool {
        self.find(name).is_some_and(|index| is_set(&self.held(leaf_holds), index))
    }

    fn held(&self, leaf_holds: &dyn Fn(&str) -> bool) -> Vec<bool> {
        let mut held: Vec<bool> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            held.push(match &node.rule {
                Rule::Leaf => leaf_holds(&node.name),
                Rule::AtLeast(k, members) => members.iter().filter(|index| is_set(&held, **index)).count() >= *k,
            });
        }
        held
    }

    /// What keeps a name from holding, in words: the groups that do not hold, with the members that they lack.
    pub(crate) fn shortfall(&self, name: &str, leaf_holds: &dyn Fn(&str) -> bool) -> String {
        let held = self.held(leaf_holds);
        let mut facts = Vec::new();
        let mut open: Vec<usize> = self.find(name).filter(|index| !is_set(&held, *index)).into_iter().collect();
        // Every name counts once below the first, or else the policy was refused.
        while let Some(node) = open.pop().and_then(|index| self.nodes.get(index)) {
            let Rule::AtLeast(k, members) = &node.rule else {
                facts.push(format!("{} is missing", node.name));
                continue;
            };
            let lacking: Vec<usize> = members.iter().copied().filter(|index| !is_set(&held, *index)).collect();
            let (groups, leaves): (Vec<usize>, Vec<usize>) =
                lacking.iter().partition(|index| self.nodes.get(**index).is_some_and(|node| node.rule != Rule::Leaf));
            // Where all groups are needed, what those lack says it all.
            if *k < members.len() || !leaves.is_empty() {
                let names = lacking.iter().filter_map(|index| Some(self.nodes.get(*index)?.name.as_str()));
                let names = names.collect::<Vec<_>>().join(" ");
                facts.push(format!("group {} has {} of {k}: {names}", node.name, members.len() - lacking.len()));
            }
            open.extend(groups.into_iter().rev());
        }
        facts.join("; ")
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == name)
    }
}

fn is_set(held: &[bool], index: usize) -> bool {
    held.get(index) == Some(&true)
}

fn not_defined(name: &str) -> Denial {
    invalid(format!("`{name}` is not defined on an earlier line"))
}

fn invalid(fact: impl Into<String>) -> Denial {
    Denial::new(Reason::PolicyInvalid, fact)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(leaves: &[&str], lines: &[&str]) -> Result<Groups> {
        let mut groups = Groups::default();
        leaves.iter().try_for_each(|leaf| groups.add_leaf(leaf))?;
        lines.iter().try_for_each(|line| groups.add_group(&line.split(' ').collect::<Vec<_>>()))?;
        Ok(groups)
    }

    #[test]
    fn a_group_of_groups_holds_as_its_thresholds_say() {
        let groups = groups(&["x1", "x2", "x3", "y1", "y2"], &["x 2 x1 x2 x3", "y any y1 y2", "both all x y"]).unwrap();
        let leaves = ["x1", "x2", "x3", "y1", "y2"];
        for set in 0u32..32 {
            let present = |name: &str| leaves.iter().position(|leaf| *leaf == name).is_some_and(|i| set >> i & 1 == 1);
            let (x, y) = ((set & 7).count_ones() >= 2, set >> 3 != 0);
            assert_eq!(groups.holds("x", &present), x);
            assert_eq!(groups.holds("y", &present), y);
            assert_eq!(groups.holds("both", &present), x && y);
            assert!(!groups.holds("unknown", &present));
            assert!(!groups.holds("none", &present));
        }
        assert_eq!(groups.leaves_below("both"), leaves);
        assert_eq!(groups.leaves_below("y"), ["y1", "y2"]);
        assert_eq!(groups.leaves_below("x2"), ["x2"]);
        assert!(groups.leaves_below("unknown").is_empty());
    }

    #[test]
    fn what_could_never_hold_or_holds_by_itself_is_refused() {
        let refused = |leaves: &[&str], lines: &[&str], fact: &str| {
            let denial = groups(leaves, lines).unwrap_err();
            assert_eq!(denial.reason(), Reason::PolicyInvalid);
            assert!(denial.fact().contains(fact), "{denial}");
        };
        for threshold in ["0", "3", "00", "01", "+1", "-1", "1.0", "", "ALL", "٢"] {
            refused(&["a", "b"], &[&format!("g {threshold} a b")], "at least one and at most all");
        }
        refused(&["a"], &["g all"], "at least one and at most all");
        refused(&["a"], &["g any"], "at least one and at most all");
        refused(&["a"], &["g 0"], "at least one and at most all");
        refused(&["a"], &["g"], "is not `group");
        refused(&["a"], &["g all a a"], "twice a member");
        refused(&["a"], &["g all b"], "not defined");
        refused(&["a"], &["g all g"], "not defined");
        refused(&["a"], &["g all a none"], "not defined");
        refused(&["a"], &["g all h", "h all a"], "not defined");
        refused(&["a"], &["a all a"], "defined twice");
        refused(&["a", "a"], &[], "defined twice");
        refused(&["a", "none"], &[], "cannot be defined");
        refused(&["a"], &["none all a"], "cannot be defined");
    }

    #[test]
    fn a_name_counts_once_below_another() {
        let groups = groups(&["a", "b", "c"], &["g any a b", "h any b c", "i all g h", "j all g c"]).unwrap();
        assert!(groups.check_tree("i").unwrap_err().fact().contains("`b` counts more than once"));
        for fine in ["g", "h", "j", "a"] {
            groups.check_tree(fine).unwrap();
        }
        assert!(groups.check_tree("k").is_err());
    }

    #[test]
    fn a_tree_of_exponential_size_is_refused_at_once() {
        let mut lines = vec!["g0 any a b".to_owned(), "h0 any a b".to_owned()];
        for i in 1..30 {
            lines.push(format!("g{i} all g{} h{}", i - 1, i - 1));
            lines.push(format!("h{i} all g{} h{}", i - 1, i - 1));
        }
        let groups = groups(&["a", "b"], &lines.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        assert!(groups.check_tree("g29").is_err());
        assert_eq!(groups.leaves_below("g29"), ["a", "b"]);
        assert!(groups.holds("g29", &|_| true));
    }

    #[test]
    fn there_are_at_most_64_of_each() {
        let names: Vec<String> = (0..65).map(|i| format!("n{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let lines: Vec<String> = (0..65).map(|i| format!("g{i} all n0")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        groups(&names[..64], &lines[..64]).unwrap();
        assert!(groups(&names, &[]).is_err());
        assert!(groups(&names[..64], &lines).is_err());
    }
}
