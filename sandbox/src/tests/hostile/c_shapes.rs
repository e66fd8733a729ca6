//! C. Shapes that are not the contract's.
//!
//! | the catalogue says                                     | in this contract                                        |
//! |--------------------------------------------------------|---------------------------------------------------------|
//! | use after drop, double drop, forged handles, borrows   | neither function takes or returns a handle: a shape     |
//! |                                                        | that does is refused                                    |
//! | 100,000 handles that leak                              | nobody has one, of resources beside the contract's      |
//! |                                                        | function neither                                        |
//! | reentrancy                                             | there is nothing to call: `h_channels`                  |
//! | pull: never, after the end, half way (I)               | everything is pushed at once; streams are refused       |
//! | merge of made-up parts, in any order (K)               | there are no parts: each unit is asked once             |

use super::{Guest, ask, report, said};
use crate::engine::Question;
use crate::terms::Spec;
use crate::testing::{MEMORY, WIT, encode};
use crate::world::world;

const MEASURED: &str = "measure: func(unit: list<u64>) -> list<contribution>;";

fn spec() -> Spec {
    Guest::default().spec()
}

/// A component of a contract in which `measure` is something else.
fn instead(measure: &str, exports: &str) -> Vec<u8> {
    assert!(WIT.contains(MEASURED));
    let module = wat::parse_str(format!("(module {MEMORY} {exports})")).unwrap();
    encode(&WIT.replace(MEASURED, measure), "analytical-question", module)
}

#[test]
fn c1_functions_of_another_shape() {
    let function = |signature: &str| {
        format!("(func (export \"glovebox:question/analytical@0.2.0#measure\") {signature} unreachable)")
    };
    let two = "(param i32 i32) (result i32)";
    for (what, measure, signature) in [
        ("a handle as the answer", "resource r; measure: func() -> r;", "(result i32)"),
        ("a list of handles as the answer", "resource r; measure: func(unit: list<u64>) -> list<r>;", two),
        ("a borrowed handle to take", "resource r; measure: func(r: borrow<r>);", "(param i32)"),
        ("an answer of integers", "measure: func(unit: list<u64>) -> list<s64>;", two),
        ("words of another size", "measure: func(unit: list<u32>) -> list<contribution>;", two),
        (
            "another list besides",
            "measure: func(unit: list<u64>, more: list<u64>) -> list<contribution>;",
            "(param i32 i32 i32 i32) (result i32)",
        ),
        ("no answer", "measure: func(unit: list<u64>);", "(param i32 i32)"),
        (
            "a result that may be an error's text",
            "measure: func(unit: list<u64>) -> result<list<contribution>, string>;",
            two,
        ),
    ] {
        let denial = Question::new(&instead(measure, &function(signature)), spec(), 1).unwrap_err();
        assert_eq!(denial.reason().as_str(), "CONTRACT_MISMATCH", "{what}");
        report("C1", what, "refused: CONTRACT_MISMATCH");
    }
}

/// What a component has besides stands in its world, and so in what the parties agree on; nobody calls it.
#[test]
fn c2_functions_beside_the_contracts() {
    let measure = "(func (export \"glovebox:question/analytical@0.2.0#measure\") (param i32 i32) (result i32)
                    (i32.const 0))";
    let beside = "(func (export \"glovebox:question/analytical@0.2.0#more\") unreachable)";
    let more = instead(&format!("{MEASURED} more: func();"), &format!("{measure} {beside}"));
    let plain = instead(MEASURED, measure);
    let (world_of_more, world_of_plain) = (world(&more).unwrap(), world(&plain).unwrap());
    assert_ne!(world_of_more.sha256, world_of_plain.sha256);
    let asked = ask(&Question::new(&more, spec(), 1).unwrap(), &[1]);
    assert_eq!(said(&asked[0]), "");
    report("C2", "a function beside the contract's", "is never called, and changes the world's digest");
}

/// Handles are the host's memory, and the contract passes none: nobody has a single one.
#[test]
fn c3_a_handle_beside_the_contract() {
    let component = |body: &str| {
        let import = "(import \"[export]glovebox:question/analytical@0.2.0\" \"[resource-new]r\" (func $new (param i32) (result i32)))";
        let measure = format!(
            "(func (export \"glovebox:question/analytical@0.2.0#measure\") (param i32 i32) (result i32) {body} (i32.const 0))"
        );
        let wit = WIT.replace(MEASURED, &format!("resource r; {MEASURED}"));
        encode(&wit, "analytical-question", wat::parse_str(format!("(module {import} {MEMORY} {measure})")).unwrap())
    };
    let outcome = |body: &str| said(&ask(&Question::new(&component(body), spec(), 1).unwrap(), &[1])[0]);
    assert_eq!((outcome("").as_str(), outcome("(drop (call $new (i32.const 1)))").as_str()), ("", "nothing"));
    report("C3", "a handle of a resource beside the contract's function", "nothing");
}
