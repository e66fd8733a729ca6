//! H. Other ways in and out. There are none: what a component imports is refused by its bytes, so nothing that could
//! answer is ever linked. And J, what is offered in place of a component.
//!
//! | the catalogue says                          | in this contract                                                 |
//! |---------------------------------------------|------------------------------------------------------------------|
//! | clock, random, files, sockets, threads      | refused as an import                                             |
//! | texts of errors                             | none: whatever goes wrong is the same silence                    |
//! | trap or none, and how long it took          | silence counts for nothing; fuel is for the auditor's eyes alone |
//! | compiled code, ELF, another file (J)        | refused: `what_is_no_component_is_refused_by_what_it_is`         |

use super::{Guest, report, said};
use crate::screen::screen;

const INTERFACES: [&str; 22] = [
    "wasi:cli/environment@0.2.0",
    "wasi:cli/exit@0.2.0",
    "wasi:cli/stdin@0.2.0",
    "wasi:cli/stdout@0.2.0",
    "wasi:cli/stderr@0.2.0",
    "wasi:cli/terminal-input@0.2.0",
    "wasi:clocks/monotonic-clock@0.2.0",
    "wasi:clocks/wall-clock@0.2.0",
    "wasi:filesystem/preopens@0.2.0",
    "wasi:filesystem/types@0.2.0",
    "wasi:http/outgoing-handler@0.2.0",
    "wasi:io/poll@0.2.0",
    "wasi:io/streams@0.2.0",
    "wasi:random/random@0.2.0",
    "wasi:random/insecure-seed@0.2.0",
    "wasi:sockets/tcp@0.2.0",
    "wasi:sockets/udp@0.2.0",
    "wasi:sockets/ip-name-lookup@0.2.0",
    "wasi:sockets/network@0.2.0",
    "wasi:keyvalue/store@0.2.0-draft",
    "wasi:logging/logging",
    "glovebox:question/data@0.2.0",
];

fn refused(text: &str) -> String {
    let denial = screen(&wat::parse_str(text).unwrap()).unwrap_err();
    format!("{}: {}", denial.reason().as_str(), denial.fact())
}

#[test]
fn h1_interfaces() {
    for interface in INTERFACES {
        let expected = format!("COMPONENT_IMPORTS: the component imports `{interface}`");
        assert_eq!(refused(&format!("(component (import \"{interface}\" (instance)))")), expected);
        // However deep the rest of it is, and whether it is used or not.
        let last = format!("(component (component (component)) (core module) (import \"{interface}\" (instance)))");
        assert_eq!(refused(&last), expected);
        report("H1", interface, "refused: COMPONENT_IMPORTS");
    }
}

#[test]
fn h2_everything_else_that_can_be_imported() {
    for (what, import) in [
        ("a function", "(func)"),
        ("a component", "(component)"),
        ("a core module", "(core module)"),
        ("a type", "(type (eq $t))"),
        ("a resource", "(type (sub resource))"),
    ] {
        let text = format!("(component (type $t (list u8)) (import \"x\" {import}))");
        assert_eq!(refused(&text), "COMPONENT_IMPORTS: the component imports `x`", "{what}");
        report("H2", what, "refused: COMPONENT_IMPORTS");
    }
}

/// What a module imports, another part of the component has to be.
#[test]
fn h3_imports_of_an_inner_module() {
    for (module, name) in [
        ("wasi_snapshot_preview1", "clock_time_get"),
        ("wasi_snapshot_preview1", "random_get"),
        ("wasi_snapshot_preview1", "fd_write"),
        ("env", "abort"),
    ] {
        let text = format!(
            "(component (core module $m (import \"{module}\" \"{name}\" (func))) (core instance (instantiate $m)))"
        );
        let said = refused(&text);
        assert!(
            said.starts_with("COMPONENT_INVALID: ") && said.contains("missing module instantiation argument"),
            "{said}"
        );
        report("H3", &format!("{module}#{name}"), "refused: COMPONENT_INVALID");
    }
}

/// Why there is no answer is said to nobody: but for what it took, it is the same.
#[test]
fn h4_every_failure_is_the_same() {
    for body in ["unreachable", "(loop $on (br $on))", "(return (i32.const -1))", "(drop (call $deep (i32.const 0)))"] {
        assert_eq!(said(&Guest::evil(body).asked()), "nothing", "{body}");
    }
    report("H4", "how it fails, as a channel", "nothing, however it fails");
}
