//! Which logs, and how many of which witnesses, a reader relies on: the policy file of c2sp.org/tlog-policy.

use chrono::{DateTime, Utc};

use super::checkpoint::SignedCheckpoint;
use super::cosignature::{Cosignature, cosignatures};
use super::note::{Algorithm, VerifierKey};
use crate::denial::{Denial, Reason, Result};
use crate::groups::Groups;

const POLICY_BYTES_MAX: usize = 1 << 20;
const LOGS_MAX: usize = 64;

/// A policy: the logs, the witnesses, and the quorum of them that must have cosigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<VerifierKey>,
    witnesses: Vec<(String, VerifierKey)>,
    groups: Groups,
    /// A witness or a group; `None` if no cosignature is demanded.
    quorum: Option<String>,
}

/// A checkpoint that satisfied a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// The checkpoint, with all of its signatures.
    pub checkpoint: SignedCheckpoint,
    /// The cosignatures that verified, by the names that the policy gives the witnesses.
    pub cosignatures: Vec<Cosignature>,
}

impl Policy {
    /// Reads a policy file. Only ASCII is taken, so that no two names look alike.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::default();
        for line in lines(bytes)? {
            let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
            match words.as_slice() {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["log", key] | ["log", key, _] => reader.log(key)?,
                ["witness", name, key] | ["witness", name, key, _] => reader.witness(name, key)?,
                ["group", words @ ..] => reader.group(words)?,
                ["quorum", name] => reader.quorum(name)?,
                [first, ..] => {
                    return Err(invalid(format!("a line beginning with `{}` is malformed", first.escape_debug())));
                }
            }
        }
        let quorum = reader.quorum.ok_or_else(|| invalid("there is no quorum line"))?;
        Ok(Self { logs: reader.logs, witnesses: reader.witnesses, groups: reader.groups, quorum })
    }

    /// The policy of one log and no witnesses.
    #[must_use]
    pub fn of_log(log: VerifierKey) -> Self {
        Self { logs: vec![log], witnesses: Vec::new(), groups: Groups::default(), quorum: None }
    }

    /// The keys of the logs.
    #[must_use]
    pub fn logs(&self) -> &[VerifierKey] {
        &self.logs
    }

    /// The witnesses, by the names that the policy gives them.
    pub fn witnesses(&self) -> impl Iterator<Item = (&str, &VerifierKey)> {
        self.witnesses.iter().map(|(name, key)| (name.as_str(), key))
    }

    /// Whether it is enough that exactly these witnesses have cosigned.
    #[must_use]
    pub fn is_satisfied(&self, cosigned: &[&str]) -> bool {
        self.quorum.as_ref().is_none_or(|quorum| self.groups.holds(quorum, &|name| cosigned.contains(&name)))
    }

    /// Reads a checkpoint of one of the logs that enough witnesses have cosigned, none of them after `now`. How old a
    /// cosignature may be is for the caller to say.
    pub fn open(&self, bytes: &[u8], now: Option<DateTime<Utc>>) -> Result<Witnessed> {
        let checkpoint = SignedCheckpoint::open_any(bytes, &self.logs)?;
        let cosignatures = cosignatures(&checkpoint, self.witnesses(), now)?;
        let names: Vec<&str> = cosignatures.iter().map(|cosignature| cosignature.witness.as_str()).collect();
        if !self.is_satisfied(&names) {
            let quorum = self.quorum.as_deref().unwrap_or_default();
            let fact = self.groups.shortfall(quorum, &|name| names.contains(&name));
            return Err(Denial::new(Reason::WitnessMissing, fact));
        }
        Ok(Witnessed { checkpoint, cosignatures })
    }
}

/// What the lines so far have said.
#[derive(Default)]
struct Reader {
    logs: Vec<VerifierKey>,
    witnesses: Vec<(String, VerifierKey)>,
    groups: Groups,
    members: Vec<String>,
    quorum: Option<Option<String>>,
}

impl Reader {
    fn log(&mut self, key: &str) -> Result<()> {
        let key = self.key(key, Algorithm::Ed25519)?;
        if self.logs.len() >= LOGS_MAX {
            return Err(invalid(format!("more than {LOGS_MAX} logs")));
        }
        self.logs.push(key);
        Ok(())
    }

    fn witness(&mut self, name: &str, key: &str) -> Result<()> {
        let key = self.key(key, Algorithm::Cosignature)?;
        self.groups.add_leaf(name)?;
        self.witnesses.push((name.to_owned(), key));
        Ok(())
    }

    /// One key under two names would count twice, and one of a log would let it witness itself.
    fn key(&self, text: &str, algorithm: Algorithm) -> Result<VerifierKey> {
        let key = VerifierKey::parse(text)?;
        if key.algorithm() != algorithm {
            return Err(invalid(format!("the key of {} is of the wrong algorithm", key.name())));
        }
        let mut known = self.logs.iter().chain(self.witnesses.iter().map(|(_, key)| key));
        match known.find(|known| known.public() == key.public()) {
            None => Ok(key),
            Some(known) => Err(invalid(format!("{} has the key of {}", key.name(), known.name()))),
        }
    }

    fn group(&mut self, words: &[&str]) -> Result<()> {
        self.groups.add_group(words)?;
        for member in words.iter().skip(2) {
            if self.members.iter().any(|known| known == member) {
                return Err(invalid(format!("`{}` is a member twice", member.escape_debug())));
            }
            self.members.push((*member).to_owned());
        }
        Ok(())
    }

    fn quorum(&mut self, name: &str) -> Result<()> {
        if self.quorum.is_some() {
            return Err(invalid("there are two quorum lines"));
        }
        if name != "none" && !self.groups.contains(name) {
            return Err(invalid(format!("the quorum `{}` is not defined on an earlier line", name.escape_debug())));
        }
        self.quorum = Some((name != "none").then(|| name.to_owned()));
        Ok(())
    }
}

/// Lines of printable ASCII and tabs, each of which ends in a newline.
fn lines(bytes: &[u8]) -> Result<impl Iterator<Item = &str>> {
    if bytes.len() > POLICY_BYTES_MAX {
        return Err(Denial::new(Reason::TooLarge, format!("a policy is longer than {POLICY_BYTES_MAX} bytes")));
    }
    let is_allowed = |byte: &u8| matches!(byte, b'\t' | b'\n' | b' '..=b'~');
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.as_bytes().iter().all(is_allowed));
    let text = text.ok_or_else(|| invalid("a policy has characters other than printable ASCII"))?;
    let lines = text.strip_suffix('\n').ok_or_else(|| invalid("a policy does not end in a newline"))?;
    Ok(lines.split('\n'))
}

fn invalid(fact: impl Into<String>) -> Denial {
    Denial::new(Reason::PolicyInvalid, fact)
}

#[cfg(test)]
mod tests {
    use super::super::cosignature::cosign;
    use super::*;
    use crate::keys::{Signer, SigningKey};

    const NOW: DateTime<Utc> = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    const LONG_AGO: DateTime<Utc> = DateTime::from_timestamp(1_800_000_000 - 301, 0).unwrap();
    const ORIGIN: &str = "log.example";

    fn signing(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn log_key(seed: u8, name: &str) -> VerifierKey {
        VerifierKey::new(name, Algorithm::Ed25519, signing(seed).public()).unwrap()
    }

    fn witness_key(seed: u8, name: &str) -> VerifierKey {
        VerifierKey::new(name, Algorithm::Cosignature, signing(seed).public()).unwrap()
    }

    /// The witnesses `w1`, `w2` and so on, with the keys of the seeds 1, 2 and so on; the log has that of seed 99.
    fn text(witnesses: u8, rest: &str) -> String {
        let witnesses: String =
            (1..=witnesses).map(|i| format!("witness w{i} {}\n", witness_key(i, &format!("w{i}.example")))).collect();
        format!("log {}\n{witnesses}{rest}", log_key(99, ORIGIN))
    }

    fn policy(witnesses: u8, rest: &str) -> Policy {
        Policy::parse(text(witnesses, rest).as_bytes()).unwrap()
    }

    fn checkpoint(size: u64) -> SignedCheckpoint {
        SignedCheckpoint::sign(size, [7; 32], &log_key(99, ORIGIN), &signing(99)).unwrap()
    }

    fn cosigned(checkpoint: &SignedCheckpoint, witnesses: &[u8]) -> Vec<u8> {
        let mut bytes = checkpoint.to_bytes();
        for i in witnesses {
            let key = witness_key(*i, &format!("w{i}.example"));
            bytes.extend(cosign(checkpoint, &key, &signing(*i), NOW).unwrap().bytes());
        }
        bytes
    }

    const TWO_GROUPS: &str = "group X 2 w1 w2 w3\ngroup Y any w4 w5 w6\ngroup X-and-Y all X Y\nquorum X-and-Y\n";

    #[test]
    fn the_example_of_the_specification_demands_what_it_says() {
        let policy = policy(6, TWO_GROUPS);
        for set in 0u8..64 {
            let witnesses: Vec<u8> = (1..=6).filter(|i| set >> (i - 1) & 1 == 1).collect();
            let expected = (set & 7).count_ones() >= 2 && set >> 3 != 0;
            let names: Vec<String> = witnesses.iter().map(|i| format!("w{i}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            assert_eq!(policy.is_satisfied(&names), expected);
            let opened = policy.open(&cosigned(&checkpoint(7), &witnesses), Some(NOW));
            match opened {
                Ok(opened) => {
                    assert!(expected, "{names:?}");
                    let by: Vec<&str> = opened.cosignatures.iter().map(|by| by.witness.as_str()).collect();
                    assert_eq!(by, names);
                }
                Err(denial) => {
                    assert!(!expected, "{names:?}");
                    assert_eq!(denial.reason(), Reason::WitnessMissing);
                }
            }
        }
        assert!(!policy.is_satisfied(&["w1", "w1", "w4"]));
        assert!(!policy.is_satisfied(&["X", "Y", "X-and-Y"]));
    }

    #[test]
    fn no_witness_is_demanded_only_by_saying_so() {
        let none = policy(1, "quorum none\n");
        assert!(none.is_satisfied(&[]));
        none.open(&checkpoint(7).to_bytes(), Some(NOW)).unwrap();
        // One that is there must verify all the same.
        let stray = cosigned(&checkpoint(6), &[1]);
        let line = stray[checkpoint(6).to_bytes().len()..].to_vec();
        assert!(none.open(&[checkpoint(7).to_bytes(), line].concat(), Some(NOW)).is_err());
        let of_log = Policy::of_log(log_key(99, ORIGIN));
        of_log.open(&checkpoint(7).to_bytes(), None).unwrap();
        assert!(Policy::of_log(log_key(98, ORIGIN)).open(&checkpoint(7).to_bytes(), None).is_err());
        let without_logs = text(1, "quorum none\n").split_once('\n').unwrap().1.to_owned();
        let without_logs = Policy::parse(without_logs.as_bytes()).unwrap();
        assert!(without_logs.open(&checkpoint(7).to_bytes(), None).is_err());
        assert_eq!((without_logs.logs().len(), without_logs.witnesses().count()), (0, 1));
    }

    #[test]
    fn a_cosignature_counts_for_its_witness_and_checkpoint_only() {
        let policy = policy(2, "group both all w1 w2\nquorum both\n");
        let ours = checkpoint(7);
        policy.open(&cosigned(&ours, &[1, 2]), Some(NOW)).unwrap();
        policy.open(&cosigned(&ours, &[3, 2, 1]), Some(NOW)).unwrap();
        // The key of one witness under the name of the other.
        let renamed = cosign(&ours, &witness_key(1, "w2.example"), &signing(1), NOW).unwrap();
        let bytes = [cosigned(&ours, &[1]), renamed.into_bytes()].concat();
        assert_eq!(policy.open(&bytes, Some(NOW)).unwrap_err().reason(), Reason::WitnessMissing);
        // The same with the other's key id: now it is a signature of that witness, and wrong.
        let id = |seed: u8| witness_key(seed, "w2.example").to_string().split('+').nth(1).unwrap().to_owned();
        let line = cosign(&ours, &witness_key(1, "w2.example"), &signing(1), NOW).unwrap();
        let mut signature =
            data_encoding::BASE64.decode(line.trim_end().rsplit_once(' ').unwrap().1.as_bytes()).unwrap();
        assert_eq!(data_encoding::HEXLOWER.encode(&signature[..4]), id(1));
        signature[..4].copy_from_slice(&data_encoding::HEXLOWER.decode(id(2).as_bytes()).unwrap());
        let line = format!("— w2.example {}\n", data_encoding::BASE64.encode(&signature));
        let bytes = [cosigned(&ours, &[1]), line.into_bytes()].concat();
        assert_eq!(policy.open(&bytes, Some(NOW)).unwrap_err().reason(), Reason::LogInvalid);
        // Twice the same witness.
        assert!(policy.open(&cosigned(&ours, &[1, 1]), Some(NOW)).is_err());
        assert!(policy.open(&cosigned(&ours, &[1, 2, 2]), Some(NOW)).is_err());
        // Of the future.
        assert!(policy.open(&cosigned(&ours, &[1, 2]), Some(LONG_AGO)).is_err());
        // Of an older checkpoint.
        let old = cosigned(&checkpoint(6), &[2]);
        let line = old[checkpoint(6).to_bytes().len()..].to_vec();
        assert!(policy.open(&[cosigned(&ours, &[1]), line].concat(), Some(NOW)).is_err());
    }

    #[test]
    fn every_changed_byte_of_a_cosigned_checkpoint_is_refused() {
        let policy = policy(2, "group both all w1 w2\nquorum both\n");
        let bytes = cosigned(&checkpoint(7), &[1, 2]);
        policy.open(&bytes, Some(NOW)).unwrap();
        for at in 0..bytes.len() {
            for change in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                assert!(policy.open(&changed, Some(NOW)).is_err(), "byte {at} can be changed by {change}");
            }
            assert!(policy.open(&bytes[..at], Some(NOW)).is_err());
        }
    }

    #[test]
    fn white_space_comments_and_addresses_mean_nothing() {
        let (log, witness) = (log_key(99, ORIGIN), witness_key(1, "w1.example"));
        let text = format!(
            "# comment\n\n \t # comment ~\n\tlog  {log} \t https://log.example/# \n  witness\tw1 {witness} https://w1\n\n\
             group g 1 w1\nquorum  g\t\n# end\n"
        );
        assert_eq!(
            Policy::parse(text.as_bytes()).unwrap(),
            Policy::parse(format!("log {log}\nwitness w1 {witness}\ngroup g 1 w1\nquorum g\n").as_bytes()).unwrap()
        );
        // What comes after the quorum still counts, but not for it.
        let after = Policy::parse(format!("quorum none\nwitness w1 {witness}\nlog {log}\n").as_bytes()).unwrap();
        assert_eq!((after.logs().len(), after.witnesses().count()), (1, 1));
    }

    #[test]
    fn malformed_and_meaningless_policies_are_refused() {
        let refused = |witnesses: u8, rest: &str, fact: &str| {
            let denial = Policy::parse(text(witnesses, rest).as_bytes()).unwrap_err();
            assert!(denial.fact().contains(fact), "{rest:?}: {denial}");
        };
        refused(1, "", "no quorum");
        refused(1, "quorum none\nquorum none\n", "two quorum");
        refused(1, "quorum w1\nquorum w1\n", "two quorum");
        refused(1, "quorum w2\n", "not defined");
        refused(1, "quorum g\ngroup g all w1\n", "not defined");
        refused(1, "quorum\n", "malformed");
        refused(1, "quorum w1 w1\n", "malformed");
        refused(1, "quorum w1", "newline");
        refused(1, "quorum w1\r\n", "ASCII");
        refused(1, "quorum w1\n# \u{212a}\n", "ASCII");
        refused(1, "quorum w1\n\u{7f}\n", "ASCII");
        refused(1, "quorum w1\n\0\n", "ASCII");
        refused(1, "quorum w1\n\u{b}\n", "ASCII");
        refused(1, "Quorum w1\n", "malformed");
        refused(1, "quorum w1\nparty x\n", "malformed");
        refused(1, "log\nquorum w1\n", "malformed");
        refused(1, "witness w2\nquorum w1\n", "malformed");
        refused(1, "group\nquorum w1\n", "group line");
        refused(2, "group g 0 w1 w2\nquorum g\n", "at least one");
        refused(2, "group g 3 w1 w2\nquorum g\n", "at least one");
        refused(2, "group g 01 w1 w2\nquorum g\n", "at least one");
        refused(2, "group g any\nquorum g\n", "at least one");
        refused(2, "group g all none\nquorum g\n", "not defined");
        refused(2, "group g all g\nquorum g\n", "not defined");
        refused(2, "group none all w1\nquorum none\n", "cannot be defined");
        refused(2, "group w1 all w2\nquorum w1\n", "defined twice");
        refused(2, "group g all w1 w1\nquorum g\n", "twice a member");
        refused(2, "group g all w1\ngroup h all w1 w2\nquorum h\n", "a member twice");
        refused(3, "group g all w1\ngroup h all g w2\ngroup i all g w3\nquorum i\n", "a member twice");
        let denial = Policy::parse(b"").unwrap_err();
        assert_eq!(denial.reason(), Reason::PolicyInvalid);
        let long = format!("{}quorum none\n", "#\n".repeat(POLICY_BYTES_MAX / 2));
        assert_eq!(Policy::parse(long.as_bytes()).unwrap_err().reason(), Reason::TooLarge);
    }

    #[test]
    fn a_key_stands_once_whatever_it_is_called() {
        let refused = |line: String, fact: &str| {
            let denial = Policy::parse(text(1, &format!("{line}\nquorum none\n")).as_bytes()).unwrap_err();
            assert!(denial.fact().contains(fact), "{line:?}: {denial}");
        };
        refused(format!("witness w2 {}", witness_key(1, "w1.example")), "has the key of");
        refused(format!("witness w2 {}", witness_key(1, "another.example")), "has the key of");
        refused(format!("witness w2 {}", witness_key(99, ORIGIN)), "has the key of");
        refused(format!("log {}", log_key(99, "another.example")), "has the key of");
        refused(format!("log {}", log_key(1, "w1.example")), "has the key of");
        refused(format!("witness w1 {}", witness_key(2, "w2.example")), "defined twice");
        refused(format!("witness none {}", witness_key(2, "w2.example")), "cannot be defined");
        refused(format!("witness w2 {}", log_key(2, "w2.example")), "wrong algorithm");
        refused(format!("log {}", witness_key(2, "w2.example")), "wrong algorithm");
        refused(format!("log {}A", log_key(2, "w2.example")), "base64");
    }

    #[test]
    fn there_are_at_most_64_logs_and_witnesses() {
        let logs = |count: u8| -> String {
            (100..100 + count).map(|seed| format!("log {}\n", log_key(seed, "other.example"))).collect()
        };
        policy(64, &format!("{}quorum w64\n", logs(63)));
        assert!(Policy::parse(text(65, "quorum none\n").as_bytes()).is_err());
        assert!(Policy::parse(text(1, &format!("{}quorum none\n", logs(64))).as_bytes()).is_err());
    }
}
