//! L. Faults of the host's own, and that a question is answered alike by any host: whoever asks, on however many slots.
//!
//! A worker that is killed, and one that is not of this program: `runtime/src/sandbox` and `tests/it`.

use std::sync::atomic::Ordering;

use super::{COMPANY, EVIL, Guest, HONEST, ask, batch, bits, report, said, turns};
use crate::denial::Reason;
use crate::engine::{Question, Ticker};
use crate::terms::Limits;

/// Growth is refused at every point there is, one after the other, and each time the guest is told and goes on.
#[test]
fn l1_every_growth_refused_in_turn() {
    let counts = "(local.set 2 (i32.const 0))
        (block $out (loop $on
            (br_if $out (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))
            (local.set 2 (i32.add (local.get 2) (i32.const 1))) (br $on)))
        (return (call $say (f64.convert_i32_s (local.get 2))))";
    for granted in 0..12 {
        let limits = Limits { memory_bytes_per_unit: ((1 + granted) << 16) + 4 * 8, ..Limits::default() };
        let asked = Guest { limits: limits.clone(), ..Guest::evil(counts) }.asked();
        assert_eq!(said(&asked), format!("a=[{granted}.0, 1.0]"));
        assert_eq!(asked.memory_bytes, limits.memory_bytes_per_unit);
    }
    report("L1", "the n-th growth is refused, for each n", "an answer, of n pages");
}

/// A host that gives up ends the call at hand and every later one; that is its own failure, and no unit's answer. The
/// loop is so long that the clock ticks in it, and would end by itself.
#[test]
fn l2_a_call_that_is_cancelled() {
    let limits = Limits { fuel_per_unit: 1 << 50, ..Limits::default() };
    let question = Guest { limits, ..Guest::evil(&turns(200_000_000)) }.question().unwrap();
    let cancelled = question.cancelled();
    let _ticker = Ticker::of(&question);
    let ended = std::thread::scope(|scope| {
        let asking = scope.spawn(|| question.ask_all(bytemuck::cast_slice(&batch(&[1, EVIL])), 2));
        cancelled.store(true, Ordering::Relaxed);
        asking.join().unwrap().err().unwrap().reason()
    });
    assert_eq!(ended, Reason::TimedOut);
    let again = question.ask_all(bytemuck::cast_slice(&batch(&[EVIL])), 1).err().unwrap();
    assert_eq!(again.reason(), Reason::TimedOut);
    cancelled.store(false, Ordering::Relaxed);
    assert_eq!(said(&ask(&question, &[1])[0]), HONEST);
    report("L2", "a call that the host gives up", "the run ends; a later one is answered");
}

/// What was written for other units than are asked about is the host's own fault, and no guest is called.
#[test]
fn l3_a_batch_that_is_not_of_its_form() {
    let question = Guest::default().question().unwrap();
    let whole = batch(&[1, 2]);
    let bytes: &[u8] = bytemuck::cast_slice(&whole);
    for (units, part) in [(1, bytes), (3, bytes), (2, &bytes[..bytes.len() - 8]), (2, &bytes[8..]), (1, &[])] {
        let denial = question.ask_all(part, units).err().unwrap();
        assert_eq!(denial.reason(), Reason::SandboxFailed);
    }
    report("L3", "units that were not written as agreed", "SANDBOX_FAILED");
}

/// A host that asks more at a time than it has slots for fails; no unit is silent for it.
#[test]
fn l5_no_slot_left() {
    let question = Guest::default().question().unwrap();
    let mut kept = None;
    drop(question.ask_in_kept(&mut kept, bytemuck::cast_slice(&batch(&[1]))).unwrap());
    let denial = question.ask_all(bytemuck::cast_slice(&batch(&[1])), 1).err().unwrap();
    assert_eq!(denial.reason(), Reason::SandboxFailed);
    drop(kept);
    assert_eq!(said(&ask(&question, &[1])[0]), HONEST);
    report("L5", "more calls at a time than slots", "SANDBOX_FAILED, and nobody is silent");
}

/// Two engines, one slot or many, one thread or two: the same answers, for the same fuel.
#[test]
fn l4_any_host_is_answered_alike() {
    let spin = turns(5_000) + "(drop (memory.grow (i32.const 7)))";
    for (what, body) in [("an answer", spin.clone()), ("a trap", format!("{spin} unreachable"))] {
        let guest = Guest::evil(&body);
        let expected: Vec<_> = ask(&guest.question().unwrap(), &COMPANY).iter().map(bits).collect();
        for slots in [1, 2, 16] {
            let question = Question::new(&guest.component(), guest.spec(), slots).unwrap();
            std::thread::scope(|scope| {
                let threads = (0..slots.min(2)).map(|_| scope.spawn(|| ask(&question, &COMPANY)));
                for thread in threads.collect::<Vec<_>>() {
                    let answers: Vec<_> = thread.join().unwrap().iter().map(bits).collect();
                    assert!(answers == expected, "{slots} slots");
                }
            });
        }
        report("L4", &format!("{what} on other engines, slots and threads"), "the same, bit by bit");
    }
}
