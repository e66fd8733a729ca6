//! A. A guest that fails or never ends, at every moment at which the engine calls it.
//!
//! | the catalogue says            | in this contract                          |
//! |-------------------------------|-------------------------------------------|
//! | start, constructor, `open`    | the start function; there is no other     |
//! | `update`, `merge`, `finish`   | `measure` and `select`, once per instance |
//! | `cabi_realloc`, post-return   | as it says                                |
//! | drop of a resource            | none: see `c_resources`                   |

use super::{Guest, is_refused, is_silent};
use crate::terms::Kind;

/// The ways to fail, and what the engine calls them.
const WAYS: [(&str, &str, &str); 9] = [
    ("spins", "(loop $on (br $on))", "all fuel consumed by WebAssembly"),
    ("is unreachable", "unreachable", "wasm `unreachable` instruction executed"),
    ("divides by zero", "(drop (i32.div_s (i32.const 1) (i32.const 0)))", "integer divide by zero"),
    ("overflows", "(drop (i32.trunc_f64_s (f64.const 1e300)))", "integer overflow"),
    ("recurses", "(drop (call $deep (i32.const 0)))", "call stack exhausted"),
    (
        "takes all memory, and then one byte more",
        "(loop $on (br_if $on (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (drop (i32.load (i32.const 6553597)))",
        "out of bounds memory access",
    ),
    ("reads beyond its memory", "(drop (i64.load offset=4294967295 (i32.const -1)))", "out of bounds memory access"),
    ("calls nothing", "(call_indirect (type $plain) (i32.const 0))", "uninitialized element"),
    (
        "calls beyond its table",
        "(call_indirect (type $plain) (i32.const -1))",
        "undefined element: out of bounds table access",
    ),
];

fn each_way(id: &str, place: &str, guest: impl Fn(&str) -> Guest) {
    for (way, code, _) in WAYS {
        is_silent(id, &format!("{place} {way}"), &guest(code));
    }
}

#[test]
fn a1_measure_that_fails() {
    each_way("A1", "measure", Guest::evil);
}

#[test]
fn a2_select_that_fails() {
    each_way("A2", "select", |code| Guest { kind: Kind::List, ..Guest::evil(code) });
}

#[test]
fn a3_realloc_that_fails() {
    each_way("A3", "cabi_realloc", Guest::realloc);
}

/// The answer has been read by then; that of a call that did not end well is none all the same.
#[test]
fn a4_post_return_that_fails() {
    each_way("A4", "post-return", |code| Guest { post: code.into(), ..Guest::default() });
}

/// It runs before anything of a unit is there, for every unit alike: so it is found out on no data at all.
#[test]
fn a5_start_that_fails() {
    for (way, code, trap) in WAYS {
        let guest = Guest { fields: format!("(func $start {code}) (start $start)"), ..Guest::default() };
        let expected = format!("COMPILE_FAILED: the component does not start within its limits: wasm trap: {trap}");
        is_refused("A5", &format!("start {way}"), &guest, &expected);
    }
}

/// What the standard tools call at start in its stead.
#[test]
fn a6_initialize_that_fails() {
    let guest = Guest { fields: "(func (export \"_initialize\") unreachable)".into(), ..Guest::default() };
    let trap = "wasm trap: wasm `unreachable` instruction executed";
    let expected = format!("COMPILE_FAILED: the component does not start within its limits: {trap}");
    is_refused("A6", "_initialize is unreachable", &guest, &expected);
}
