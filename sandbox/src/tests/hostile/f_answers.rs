//! F. Answers that are well formed and not what was asked for.
//!
//! What arrives here is what the guest said, bit by bit; the tally, which alone knows the agreed bounds, drops it or
//! bounds it: `tests/it/sandbox.rs` and `tests/it/encodings.rs` see whole runs do so.
//!
//! | the catalogue says                               | in this contract                                        |
//! |--------------------------------------------------|---------------------------------------------------------|
//! | rows, widths, keys, numbers, long texts          | as it says                                              |
//! | offsets, validity, dictionaries, nulls           | no answer holds any                                     |
//! | after the end, twice, never                      | one call, one answer                                    |
//! | more bytes than agreed                           | as it says                                              |

use super::{Guest, answers, comes_to, is_silent, report, says, store};
use crate::contract::Answer;
use crate::terms::Kind;

#[test]
fn f1_contributions_of_other_widths() {
    let one = |groups: u32, values: u32| {
        // Groups are `x`, at 3072; values are zeros, at 8192.
        let group: String = (0..4).map(|at| store(2560 + 8 * at, &[3072, 1])).collect();
        let text = "(i32.store8 (i32.const 3072) (i32.const 120))";
        answers(&[store(1024, &[2048, 1]), store(2048, &[2560, groups, 8192, values]), group, text.into()].concat())
    };
    comes_to("F1", "no contribution", &answers(&store(1024, &[0, 0])), "");
    comes_to("F1", "no group and no value", &one(0, 0), "=[]");
    comes_to("F1", "three groups", &one(3, 1), "x/x/x=[0.0]");
    comes_to("F1", "three values", &one(1, 3), "x=[0.0, 0.0, 0.0]");
    let twice = [store(1024, &[2048, 2]), store(2048, &[0, 0, 8192, 1, 0, 0, 8192, 1])].concat();
    comes_to("F1", "one contribution twice", &answers(&twice), "=[0.0] =[0.0]");
}

#[test]
fn f2_numbers() {
    for (what, bits) in [
        ("a quiet NaN", 0x7ff8_0000_0000_0000_u64),
        ("a NaN with a payload", 0xfff8_dead_beef_cafe),
        ("a signalling NaN", 0x7ff0_dead_beef_cafe),
        ("infinity", 0x7ff0_0000_0000_0000),
        ("minus infinity", 0xfff0_0000_0000_0000),
        ("negative zero", 0x8000_0000_0000_0000),
        ("the least denormal", 1),
        ("the largest number", 0x7fef_ffff_ffff_ffff),
        ("one and its last bit", 0x3ff0_0000_0000_0001),
    ] {
        let asked = says(&format!("(f64.reinterpret_i64 (i64.const {bits:#x}))")).asked();
        let Answer::Contributions(list) = asked.answer else { panic!("{what}") };
        assert_eq!(list[0].values[0].to_bits(), bits, "{what}");
        report("F2", what, format!("arrives as {bits:#018x}"));
    }
}

#[test]
fn f3_segments_that_are_not_declared() {
    let select = |number: u32| Guest { kind: Kind::List, ..says(&format!("(f64.const {number})")) };
    comes_to("F3", "segment 1,000,000", &select(1_000_000), "Some(1000000)");
}

/// A text of so many bytes.
fn text(bytes: u32) -> Guest {
    let fill = format!("(memory.fill (i32.const 8192) (i32.const 97) (i32.const {bytes}))");
    let list = [store(1024, &[2048, 1]), store(2048, &[2064, 1, 0, 0, 8192, bytes])].concat();
    answers(&format!("(drop (memory.grow (i32.const 20))) {fill} {list}"))
}

#[test]
fn f4_long_texts() {
    comes_to("F4", "a text of 10,000 bytes", &text(10_000), &format!("{}=[]", "a".repeat(10_000)));
    // Beside the text the host needs room for the contribution, its one group and none of its values.
    let most = (64 << 10) - 72;
    comes_to("F4", "the longest text", &text(most), &format!("{}=[]", "a".repeat(most as usize)));
    is_silent("F4", "the longest text and a byte", &text(most + 1));
    is_silent("F4", "a text of a million bytes", &text(1 << 20));
}

#[test]
fn f5_more_than_an_answer_may_have() {
    let empty = |count: u32| answers(&format!("(drop (memory.grow (i32.const 20))) {}", store(1024, &[8192, count])));
    comes_to("F5", "a hundred empty contributions", &empty(100), ["=[]"; 100].join(" ").as_str());
    is_silent("F5", "10,000 empty contributions", &empty(10_000));
    let values = |count: u32| {
        answers(&format!(
            "(drop (memory.grow (i32.const 20))) {} {}",
            store(1024, &[2048, 1]),
            store(2048, &[0, 0, 8192, count])
        ))
    };
    is_silent("F5", "10,000 values", &values(10_000));
}
