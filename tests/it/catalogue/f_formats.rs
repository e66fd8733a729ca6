//! F. Bytes that a stranger makes up for the host to read. The component's own formats: `runtime/src/sandbox/tests.rs`;
//! components and what comes out of them: the fuzz targets of `sandbox/fuzz`; what partners send: those of `trust/fuzz`.

use super::report;
use crate::support::Fixture;

/// Components that would take the compiler's or the engine's memory: many types, a large memory, a large data segment,
/// and a start function that never ends.
#[test]
fn atk_f5_components_that_are_bombs() {
    let room = Fixture::new();
    let terms = ["--set", "attack=none", "--set", "only_unit_with=-1", "--destination", "sheets"];
    let manifest = room.read("questions/evil.toml");
    let many_types: String = (0..100_000).map(|_| "(type (func (param i64) (result i64)))").collect();
    let data = "a".repeat(1 << 20);
    let bombs = [
        ("types", format!("(component (core module {many_types}))")),
        ("memory", "(component (core module (memory 65536 65536)))".to_owned()),
        ("data", format!("(component (core module (memory 65536 65536) (data (i32.const 0) \"{data}\")))")),
        (
            "start",
            "(component (core module $m (func $spin (loop (br 0))) (start $spin)) (core instance (instantiate $m)))"
                .to_owned(),
        ),
    ];
    let mut refused = 0;
    for (name, text) in &bombs {
        let bytes = wat::parse_str(text).expect("a component");
        room.write(&format!("questions/{name}.wasm"), &bytes);
        room.write(&format!("questions/{name}.toml"), &manifest);
        let component = format!("questions/{name}.wasm");
        let ran = room.glovebox(&[&["agree", &component, "--json"], &terms[..]].concat());
        assert_eq!(ran.exit_code, 3, "{name}: {ran:?}");
        refused += 1;
    }
    assert!(!room.path("agreements").exists(), "something was agreed on");
    report(
        "F5",
        "components that are bombs",
        "a host that instantiates first: 4 GiB of memory, or a start function that never ends",
        format!("{refused} of {} are refused before they are compiled", bombs.len()),
    );
}
