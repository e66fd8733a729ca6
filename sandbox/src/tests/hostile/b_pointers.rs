//! B. Pointers, lengths and bytes that the host must not believe.
//!
//! | the catalogue says                          | in this contract                                     |
//! |---------------------------------------------|------------------------------------------------------|
//! | where `cabi_realloc` says that room is      | as it says                                           |
//! | `cabi_realloc` that calls an import         | nothing can be imported: `h_channels`                |
//! | lengths, offsets, UTF-8                     | of the list that `measure` returns, and all in it    |
//! | discriminants                               | of the option that `select` returns                  |
//! | bool, char, flags                           | no answer holds one                                  |

use super::{Guest, HONEST, answers, comes_to, is_silent, store};
use crate::terms::Kind;

#[test]
fn b1_room_that_is_none() {
    for (what, place) in [
        ("misaligned by one", "4097"),
        ("misaligned by four", "4100"),
        ("at the last byte", "65535"),
        ("at the end", "65536"),
        ("eight bytes short of room", "65464"),
        ("far beyond", "0x7ffffff8"),
        ("at 0xfffffff8", "0xfffffff8"),
        ("at 0xfffffffc", "0xfffffffc"),
        ("at 0xffffffff", "0xffffffff"),
    ] {
        let guest = Guest::realloc(&format!("(return (i32.const {place}))"));
        is_silent("B1", &format!("room {what}"), &guest);
    }
}

/// It is the guest's own memory: where it has its rows put is its own affair.
#[test]
fn b2_room_that_is_something_else() {
    for (what, place) in [
        ("at address 0", "(i32.const 0)"),
        ("where its answer will stand", "(i32.const 512)"),
        ("exactly at the end", "(i32.const 65456)"),
    ] {
        comes_to("B2", &format!("room {what}"), &Guest::realloc(&format!("(return {place})")), HONEST);
    }
}

/// While it is asked for room, a guest may do what it may do whenever it runs.
#[test]
fn b3_room_that_moves() {
    let grows = Guest::realloc("(drop (memory.grow (i32.const 3)))");
    let asked = comes_to("B3", "room in a memory that grows meanwhile", &grows, HONEST);
    assert_eq!(asked.memory_bytes, (4 << 16) + 4 * 8);
    let in_new = Guest::realloc("(return (i32.mul (memory.grow (i32.const 1)) (i32.const 65536)))");
    comes_to("B3", "room in memory that was none before", &in_new, HONEST);
    let filled = Guest::realloc("(memory.fill (i32.const 0) (i32.const 0xa5) (i32.const 65536))");
    comes_to("B3", "room that is filled before it is used", &filled, HONEST);
}

#[test]
fn b4_lists_that_are_none() {
    for (what, pointer, length) in [
        ("whose length in bytes is 2^32", 2048, 1 << 28),
        ("whose length in bytes is 2^32 and one item", 2048, (1 << 28) + 1),
        ("of 2^32 - 1 items", 2048, u32::MAX),
        ("that ends beyond memory", 65520, 2),
        ("that begins at the end", 65536, 1),
        ("that begins beyond memory", 0xffff_fff0, 1),
        ("that begins beyond memory and is empty", 0xffff_fff0, 0),
        ("that is misaligned", 2050, 1),
    ] {
        let list = answers(&store(1024, &[pointer, length]));
        is_silent("B4", &format!("a list {what}"), &list);
        let groups = [store(1024, &[2048, 1]), store(2048, &[pointer, length.saturating_mul(2), 0, 0])].concat();
        is_silent("B4", &format!("a list of groups {what}"), &answers(&groups));
        let values = [store(1024, &[2048, 1]), store(2048, &[0, 0, pointer, length.saturating_mul(2)])].concat();
        is_silent("B4", &format!("a list of values {what}"), &answers(&values));
    }
}

#[test]
fn b5_answers_that_are_nowhere() {
    for place in ["1026", "65532", "65536", "0x7ffffff8", "0xfffffff8", "0xffffffff"] {
        is_silent("B5", &format!("an answer at {place}"), &Guest::evil(&format!("(return (i32.const {place}))")));
        let select = Guest { kind: Kind::List, ..Guest::evil(&format!("(return (i32.const {place}))")) };
        is_silent("B5", &format!("a selection at {place}"), &select);
    }
}

#[test]
fn b6_texts_that_are_none() {
    let text = |pointer: u32, length: u32, bytes: u32| {
        answers(&[store(1024, &[2048, 1]), store(2048, &[2064, 1, 0, 0, pointer, length, bytes])].concat())
    };
    comes_to("B6", "a text of four bytes, as a control", &text(2072, 4, 0xa4ad_a0f0), "𠭤=[]");
    for (what, length, bytes) in [
        ("a byte that never is UTF-8", 1, 0xff),
        ("a second byte first", 1, 0x80),
        ("a sequence that is cut off", 2, 0x82e2),
        ("zero in two bytes", 2, 0x80c0),
        ("half a pair of UTF-16", 3, 0x80_a0ed),
        ("beyond the last character", 4, 0x8080_90f4),
    ] {
        is_silent("B6", what, &text(2072, length, bytes));
    }
    for (what, pointer, length) in [
        ("a text beyond memory", 65536, 1),
        ("a text that ends beyond memory", 65535, 2),
        ("a text of 2^32 - 1 bytes", 2072, u32::MAX),
        ("a text at the very end of addresses", u32::MAX, u32::MAX),
        ("no text at an address that is none", u32::MAX, 0),
    ] {
        is_silent("B6", what, &text(pointer, length, 0x61));
    }
}

/// What lies over itself is read as often as it is pointed at, and no further than the answer may be long.
#[test]
fn b7_lists_that_lie_over_each_other() {
    let one = [store(1024, &[2048, 2]), store(2048, &[2048, 2, 0, 0, 2048, 2, 0, 0])].concat();
    comes_to("B7", "groups whose texts are the list itself", &answers(&one), "\0\u{8}/=[] \0\u{8}/=[]");
    let bomb: String = (0..1000).map(|at| store(8192 + 16 * at, &[2064, 1, 0, 0])).collect();
    let bomb = [store(1024, &[8192, 1000]), store(2064, &[30_000, 20_000]), bomb].concat();
    is_silent("B7", "one text of 20 kB, a thousand times", &answers(&bomb));
}

#[test]
fn b8_choices_that_are_none() {
    let select = |choice: u32, segment: u32| Guest {
        kind: Kind::List,
        ..Guest::evil(&format!("{} (return (i32.const 1024))", store(1024, &[choice, segment])))
    };
    comes_to("B8", "none", &select(0, 7), "None");
    comes_to("B8", "a segment of 2^32 - 1", &select(1, u32::MAX), "Some(4294967295)");
    comes_to("B8", "a choice with more in the bytes after it", &select(0xffff_ff01, 7), "Some(7)");
    for choice in [2, 3, 0x80, 0xff] {
        is_silent("B8", &format!("a choice of {choice}"), &select(choice, 7));
    }
}
