//! The classes of attacks, and which tests mount those that `tests/it/catalogue` does not.

/// A class of attacks.
pub(super) struct Class {
    pub(super) letter: &'static str,
    pub(super) title: &'static str,
    /// In `tests/it/catalogue`; empty where there is none.
    pub(super) file: &'static str,
    pub(super) elsewhere: &'static [Elsewhere],
    pub(super) note: Option<&'static str>,
}

/// An attack that a test elsewhere mounts.
pub(super) struct Elsewhere {
    pub(super) id: &'static str,
    pub(super) what: &'static str,
    /// The end of the test's path.
    pub(super) test: &'static str,
}

const fn of(id: &'static str, what: &'static str, test: &'static str) -> Elsewhere {
    Elsewhere { id, what, test }
}

/// The folder of guests that attack the engine and its host, and what the paths of their tests have in common.
pub(super) const HOSTILE: (&str, &str) = ("sandbox/src/tests/hostile", "tests::hostile::");

/// What a component's bytes alone are refused for, and what workers do that are not what they should be.
pub(super) const BESIDE: [&str; 2] = ["tests::screen::", "worker::"];

/// What a tester that sees outputs alone says of the kernel, and of whole runs where there is such a test.
pub(super) const TESTERS: [&str; 2] = ["privacy::tests::", "epsilon::"];

pub(super) const CLASSES: [Class; 9] = [
    Class {
        letter: "A",
        title: "Isolation: what one unit can hear of another",
        file: "a_isolation.rs",
        elsewhere: &[
            of(
                "A1",
                "counters, marks and grown memory, in every company, order and number of threads",
                "isolation::no_attack_on_sums_tells_of_another_unit",
            ),
            of(
                "A1",
                "the reference: a host that keeps its instance fails that check",
                "isolation::a_host_that_keeps_its_instance_fails_the_check",
            ),
            of(
                "A3",
                "what others drew or were asked before",
                "isolation::a_question_that_was_never_asked_before_answers_alike",
            ),
            of("A4", "a neighbour that takes all memory", "sandbox::tests::growth_that_is_refused_takes_nothing"),
            of("A5", "a unit of more rows than were agreed, among its views", "provision::tests::a_giant_unit_is_cut"),
            of("A7", "what another unit left in memory", "sandbox::attack_residue"),
        ],
        note: None,
    },
    Class {
        letter: "B",
        title: "Termination, timing, resources",
        file: "b_termination.rs",
        elsewhere: &[
            of("B1", "a call that traps", "sandbox::attack_unreachable"),
            of("B1", "a call that divides by zero", "sandbox::attack_divide"),
            of("B1", "a call that takes all memory", "sandbox::attack_allocate"),
            of("B2", "a call that never ends", "sandbox::attack_spin"),
            of("B6", "a stack that never ends", "sandbox::attack_recurse"),
            of("B8", "the wall clock as a channel", "sandbox::attack_spin_against_the_clock"),
        ],
        note: None,
    },
    Class {
        letter: "C",
        title: "Encodings: what an answer holds besides its numbers",
        file: "c_encodings.rs",
        elsewhere: &[
            of("C1", "the order of contributions", "isolation::the_order_of_contributions_is_lost"),
            of("C1", "the order of keys", "encodings::attack_order_of_keys"),
            of("C2", "payloads of NaN", "sandbox::attack_nan_payload"),
            of("C2", "negative zero", "sandbox::attack_negative_zero"),
            of("C2", "low bits of floats", "sandbox::attack_low_bits"),
            of("C3", "keys that look alike", "encodings::attack_keys_that_look_alike"),
            of("C3", "a key that spells a value", "encodings::attack_secret_key"),
            of("C6", "an answer of a million rows", "sandbox::attack_flood"),
            of(
                "C9",
                "a result or a part of it from a run that is killed",
                "crash::a_killed_run_releases_nothing_that_is_not_charged",
            ),
        ],
        note: None,
    },
    Class {
        letter: "D",
        title: "Statistics of many that tell of one",
        file: "d_statistics.rs",
        elsewhere: &[
            of(
                "D4",
                "cells that follow from totals along two columns",
                "suppress::tests::a_cell_that_connects_two_cycles_is_protected_too",
            ),
            of("D8", "a thousand keys, and one key a thousand times", "encodings::attack_many_keys"),
            of(
                "D8",
                "the reference: a tally that bounds nothing fails the check of sensitivities",
                "isolation::a_tally_that_bounds_nothing_fails_the_check",
            ),
            of("D9", "infinity", "sandbox::attack_infinity"),
            of("D9", "numbers beyond their range", "sandbox::attack_numbers_out_of_range"),
            of(
                "D9",
                "one unit's largest step in every example and attack",
                "isolation::one_unit_moves_the_exact_sums_by_no_more_than_was_agreed",
            ),
            of(
                "D10",
                "noise of an inner join on an outer one is caught",
                "privacy::tests::noise_for_adding_where_units_are_replaced_is_caught",
            ),
            of("D11", "a threshold of one less is caught", "privacy::tests::a_threshold_off_by_one_is_caught"),
            of(
                "D11",
                "how often a group of one unit above k is shown",
                "groups::tests::a_single_unit_above_k_is_shown_with_probability_at_most_delta",
            ),
        ],
        note: None,
    },
    Class {
        letter: "E",
        title: "Lists",
        file: "e_lists.rs",
        elsewhere: &[
            of(
                "E1",
                "one unit's value in the membership of others",
                "isolation::no_attack_through_a_list_tells_of_another_unit",
            ),
            of("E3", "membership by turns", "encodings::attack_list_by_turns"),
            of("E6", "segments that are not declared", "encodings::attack_segments"),
        ],
        note: None,
    },
    Class {
        letter: "F",
        title: "Formats that strangers make up",
        file: "f_formats.rs",
        elsewhere: &[
            of(
                "F2",
                "components on which the decoder stops",
                "tests::a_component_on_which_the_decoder_stops_is_refused",
            ),
            of("F3", "a world that would fill memory", "tests::a_world_that_would_fill_memory_is_refused"),
            of("F4", "a schema that was changed", "provision::tests::a_changed_schema_is_refused"),
            of(
                "F6",
                "computations that differ between machines",
                "tests::every_nan_that_is_computed_has_the_same_bits",
            ),
            of("F6", "an engine of another profile", "tests::the_engine_has_its_profile"),
        ],
        note: Some(
            "no guest's bytes are parsed as Arrow, CSV or JSON; components and what partners send are fuzzed: cargo xtask fuzz",
        ),
    },
    Class {
        letter: "G",
        title: "Side inputs",
        file: "g_side_inputs.rs",
        elsewhere: &[],
        note: Some("the code itself is unprotected (G2), and every agreement says so"),
    },
    Class {
        letter: "H",
        title: "Trained models",
        file: "",
        elsewhere: &[],
        note: Some("no question trains a model yet: these attacks begin with the first that does"),
    },
    Class {
        letter: "I",
        title: "Ledger, receipts, repeats",
        file: "i_ledger.rs",
        elsewhere: &[
            of("I1", "four writers at once", "ledger::tests::in_a_file::many_writers_at_once_never_overspend"),
            of(
                "I1",
                "four writers at once, on a server",
                "ledger::tests::on_a_server::many_writers_at_once_never_overspend",
            ),
            of("I1", "eight processes of two hosts", "stores::processes_of_two_hosts_never_overspend"),
            of("I2", "a database from a backup", "stores::a_database_from_a_backup_is_noticed"),
            of("I4", "the same data asked on two hosts", "stores::hosts_of_one_lineage_have_one_budget"),
            of(
                "I1",
                "a process that is killed at every step of its first run",
                "crash::a_killed_first_run_releases_nothing_that_is_not_charged",
            ),
            of(
                "I6",
                "how long the sealed part is",
                "receipt::sealed::tests::a_sealed_part_is_as_long_for_few_units_as_for_many",
            ),
            of(
                "I9",
                "controls that are no finite decimals in range",
                "controls::tests::what_is_no_finite_decimal_in_range_is_refused",
            ),
        ],
        note: None,
    },
];
