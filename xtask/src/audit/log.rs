//! What the tests have printed.

use std::io::BufRead;

/// How much of a line about a panic is told again at the end.
const PANIC_CHARS: usize = 300;

/// What one attack came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attack {
    pub(super) id: String,
    pub(super) what: String,
    pub(super) reference: String,
    pub(super) glovebox: String,
}

/// What became of one hostile guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hostile {
    pub(super) id: String,
    pub(super) what: String,
    pub(super) outcome: String,
}

/// The output of a run of tests.
#[derive(Debug, Default)]
pub(super) struct Log {
    attacks: Vec<Attack>,
    hostile: Vec<Hostile>,
    epsilons: Vec<Vec<String>>,
    certified: Vec<[String; 4]>,
    passed: Vec<String>,
    failed: Vec<String>,
    panics: Vec<String>,
}

/// Hands on what the tests say on stderr, and returns where they panicked and why: what they are meant to survive, too.
pub(super) fn panics(told: impl BufRead) -> Vec<String> {
    let (mut panics, mut why_follows) = (Vec::new(), false);
    // A test may print what is no text.
    for line in told.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        eprintln!("{line}");
        if why_follows || line.contains(" panicked at ") {
            panics.push(line.chars().take(PANIC_CHARS).collect());
        }
        why_follows = line.contains(" panicked at ");
    }
    panics
}

impl Log {
    /// A line of ours may stand behind the name of a test on one line.
    pub(super) fn read(output: &str, panics: Vec<String>) -> Self {
        let mut log = Self { panics, ..Self::default() };
        for line in output.lines() {
            if let Some(cells) = cells_after(line, "ATTACK | ") {
                if let [id, what, reference, glovebox] = &cells[..] {
                    let [id, what, reference, glovebox] = [id, what, reference, glovebox].map(Clone::clone);
                    log.attacks.push(Attack { id, what, reference, glovebox });
                }
            } else if let Some(cells) = cells_after(line, "HOSTILE | ") {
                if let [id, what, outcome] = &cells[..] {
                    let [id, what, outcome] = [id, what, outcome].map(Clone::clone);
                    log.hostile.push(Hostile { id, what, outcome });
                }
            } else if let Some(cells) = cells_after(line, "EPSILON | ") {
                log.epsilons.push(cells);
            } else if let Some(row) = certified(line) {
                log.certified.push(row);
            } else if let Some((test, verdict)) = verdict(line) {
                if verdict == "ok" { log.passed.push(test) } else { log.failed.push(test) }
            }
        }
        // By number: A2 before A10.
        log.attacks
            .sort_by_key(|attack| (attack.id.get(..1).map(str::to_owned), number(&attack.id), attack.what.clone()));
        log.hostile.sort_by_key(|guest| (guest.id.get(..1).map(str::to_owned), number(&guest.id)));
        log
    }

    pub(super) fn hostile(&self) -> &[Hostile] {
        &self.hostile
    }

    pub(super) fn attacks_of(&self, class: &str) -> Vec<Attack> {
        self.attacks.iter().filter(|attack| attack.id.starts_with(class)).cloned().collect()
    }

    pub(super) fn epsilons(&self) -> &[Vec<String>] {
        &self.epsilons
    }

    pub(super) fn certified(&self) -> &[[String; 4]] {
        &self.certified
    }

    pub(super) fn failed(&self) -> &[String] {
        &self.failed
    }

    /// What tests panicked with, if one failed that should not have.
    pub(super) fn panics(&self) -> &[String] {
        if self.failed.is_empty() { &[] } else { &self.panics }
    }

    /// How many tests were run.
    pub(super) const fn tests(&self) -> usize {
        self.passed.len() + self.failed.len()
    }

    /// Whether a test of that name, or of a path that ends with it, passed.
    pub(super) fn has_passed(&self, test: &str) -> bool {
        self.passed.iter().any(|passed| passed.ends_with(test))
    }

    pub(super) fn has_failed(&self, test: &str) -> bool {
        self.failed.iter().any(|failed| failed.ends_with(test))
    }
}

fn cells_after(line: &str, label: &str) -> Option<Vec<String>> {
    let (_, cells) = line.split_once(label)?;
    Some(cells.split(" | ").map(|cell| cell.trim().to_owned()).collect())
}

/// `NAME: certified epsilon >= BOUND (claimed EPSILON) by `EVENT``, with a delta or without.
fn certified(line: &str) -> Option<[String; 4]> {
    let (name, rest) = line.split_once(": certified epsilon >= ")?;
    let name = name.rsplit(" ... ").next().unwrap_or(name);
    let (bound, rest) = rest.split_once(" (claimed ")?;
    let (claimed, event) = rest.split_once(") by ")?;
    Some([name, bound, claimed, event.trim_matches('`')].map(str::to_owned))
}

/// `test PATH ... ok`, or the other verdict.
fn verdict(line: &str) -> Option<(String, &str)> {
    let (test, verdict) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let test = test.trim_end_matches(" - should panic");
    ["ok", "FAILED"].into_iter().find(|known| verdict.trim() == *known).map(|verdict| (test.to_owned(), verdict))
}

fn number(id: &str) -> u32 {
    id.get(1..).and_then(|digits| digits.parse().ok()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tests_print_is_read_between_their_names() {
        let log = Log::read(
            "running 3 tests\n\
             test a::atk_d10_x ... \nATTACK | D10 | a join | 2 leak | 0 leak\n\
             ATTACK | D2 | a tracker | 77 | refused\n\
             HOSTILE | B3 | room that moves | nothing\nHOSTILE | A5 | start spins | refused: X: it, y\n\
             test b ... added, laplace: certified epsilon >= 0.975 at delta 0.01 (claimed 1.000) by `here count >= 3`\n\
             EPSILON | sealed-dp | 0.5 | 1\n\
             test a::atk_d2_x ... ok\ntest c - should panic ... ok\ntest d ... FAILED\n",
            panics(&b"thread 'd' (7) panicked at src/d.rs:1:2:\nassertion failed: 1 > 2\nstack backtrace:\n"[..]),
        );
        assert_eq!(log.panics(), ["thread 'd' (7) panicked at src/d.rs:1:2:", "assertion failed: 1 > 2"]);
        assert_eq!(log.tests(), 3);
        assert_eq!(log.attacks_of("D").iter().map(|attack| attack.id.as_str()).collect::<Vec<_>>(), ["D2", "D10"]);
        assert_eq!(log.attacks_of("D")[0].glovebox, "refused");
        assert_eq!(log.hostile().iter().map(|guest| guest.id.as_str()).collect::<Vec<_>>(), ["A5", "B3"]);
        assert_eq!(log.hostile()[0].outcome, "refused: X: it, y");
        assert_eq!(log.certified(), [["added, laplace", "0.975 at delta 0.01", "1.000", "here count >= 3"]]);
        assert_eq!(log.epsilons(), [["sealed-dp", "0.5", "1"]]);
        assert!(log.has_passed("atk_d2_x") && log.has_passed("c") && log.has_failed("d") && !log.has_passed("d"));
    }
}
