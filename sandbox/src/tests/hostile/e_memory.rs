//! E. Memory and tables, up to what is agreed and one more. The counts of everything else: `tests::screen`.
//!
//! | the catalogue says                         | in this contract                                                    |
//! |--------------------------------------------|---------------------------------------------------------------------|
//! | grow to the cap, one more, in a loop       | as it says; memory and tables draw on one allowance                 |
//! | many memories, each under the cap          | refused                                                             |
//! | `table.grow` by 2^32 - 1                   | as it says                                                          |
//! | memory64, shared memory, page sizes        | refused: `every_feature_that_is_off_is_refused`                     |
//! | 100,000 of anything, long names, nesting   | refused: `of_everything_there_may_be_so_much_and_no_more`           |

use super::{Guest, comes_to, is_refused, is_silent, report, says};
use crate::engine::Question;
use crate::terms::Limits;

/// What the table of the hostile guest counts for.
const TABLE_BYTES: u64 = 4 * 8;

/// A guest whose memory may have so many pages by its own word, and so many bytes by agreement.
fn within(pages: u32, memory_bytes_per_unit: u64, guest: Guest) -> Guest {
    let limits = Limits { memory_bytes_per_unit, ..guest.limits };
    Guest { limits, pages: (1, pages), ..guest }
}

fn grows(pages: u32) -> Guest {
    says(&format!("(f64.convert_i32_s (memory.grow (i32.const {pages})))"))
}

#[test]
fn e1_memory_up_to_what_is_agreed() {
    let ten = (10 << 16) + TABLE_BYTES;
    let by = |pages: u32| within(65_536, ten, grows(pages));
    let asked = comes_to("E1", "all memory that is agreed", &by(9), "a=[1.0, 1.0]");
    assert_eq!(asked.memory_bytes, ten);
    for (what, pages) in [("a page more", 10), ("2^16 pages", 65_536), ("2^32 - 1 pages", u32::MAX)] {
        let asked = comes_to("E1", what, &by(pages), "a=[-1.0, 1.0]");
        assert_eq!(asked.memory_bytes, (1 << 16) + TABLE_BYTES, "{what}");
    }
    let byte_less = within(65_536, ten - 1, grows(9));
    comes_to("E1", "all memory, where a byte of it is a table's", &byte_less, "a=[-1.0, 1.0]");
}

/// Its own word binds as well.
#[test]
fn e2_memory_up_to_its_maximum() {
    comes_to("E2", "all memory that it declares", &within(10, 16 << 20, grows(9)), "a=[1.0, 1.0]");
    comes_to("E2", "a page more than it declares", &within(10, 16 << 20, grows(10)), "a=[-1.0, 1.0]");
}

#[test]
fn e3_memory_page_by_page() {
    let looping = "(local.set 2 (i32.const 0))
        (block $out (loop $on
            (br_if $out (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))
            (local.set 2 (i32.add (local.get 2) (i32.const 1))) (br $on)))
        (return (call $say (f64.convert_i32_s (local.get 2))))";
    let asked = comes_to("E3", "a page at a time", &within(65_536, 16 << 20, Guest::evil(looping)), "a=[254.0, 1.0]");
    assert_eq!(asked.memory_bytes, (255 << 16) + TABLE_BYTES);
}

#[test]
fn e4_tables() {
    let grows = |by: u32| says(&format!("(f64.convert_i32_s (table.grow $table (ref.null func) (i32.const {by})))"));
    comes_to("E4", "all elements that its table declares", &grows(996), "a=[4.0, 1.0]");
    comes_to("E4", "an element more", &grows(997), "a=[-1.0, 1.0]");
    // Each element takes fuel, whether it is granted or not.
    for (what, by) in [("2^32 - 1 elements", u32::MAX), ("2^31 elements", 1 << 31)] {
        is_silent("E4", what, &grows(by));
        let limits = Limits { fuel_per_unit: 1 << 40, ..Limits::default() };
        comes_to("E4", &format!("{what}, with fuel for them"), &Guest { limits, ..grows(by) }, "a=[-1.0, 1.0]");
    }
    // Eight bytes for each, from what memory leaves.
    let left = (1 << 16) + TABLE_BYTES + 80;
    comes_to("E4", "elements for all bytes that are left", &within(100, left, grows(10)), "a=[4.0, 1.0]");
    comes_to("E4", "an element more than bytes are left", &within(100, left, grows(11)), "a=[-1.0, 1.0]");
}

/// What is there from the start is granted like growth.
#[test]
fn e5_memory_from_the_start() {
    let start = |pages: u32| Guest { pages: (pages, 300), ..Guest::default() };
    assert!(start(255).question().is_ok());
    for pages in [256, 257] {
        let denial = start(pages).question().unwrap_err();
        assert_eq!(denial.reason().as_str(), "COMPILE_FAILED", "{denial}");
    }
    report("E5", "a memory of all that is agreed, beside a table", "refused: COMPILE_FAILED");
    let data = Guest { fields: "(data (i32.const 65535) \"ab\")".into(), ..Guest::default() };
    let out = "COMPILE_FAILED: the component does not start within its limits: wasm trap: out of bounds memory access";
    is_refused("E5", "data beyond its memory", &data, out);
}

/// A limit of each memory would be none of all: there is one memory, and one allowance for it and for all tables.
#[test]
fn e6_many_instances() {
    let component = |module: &str, instances: usize| {
        let each = "(core instance (instantiate $m))".repeat(instances);
        wat::parse_str(format!("(component (core module $m {module}) {each})")).unwrap()
    };
    for (what, module, most) in
        [("memories", "(memory 1 1)", 1), ("tables", "(table 1 1 funcref)", 4), ("instances", "", 16)]
    {
        let refused = |count: usize| {
            let denial = Question::new(&component(module, count), Guest::default().spec(), 1).unwrap_err();
            denial.reason().as_str()
        };
        // At the bound it is compiled, and found not to be a question.
        assert_eq!((refused(most), refused(most + 1)), ("CONTRACT_MISMATCH", "COMPILE_FAILED"), "{what}");
        report("E6", &format!("{} {what} of one module", most + 1), "refused: COMPILE_FAILED");
    }
}
