//! `cargo bench -p glovebox-sandbox`: a register kernel against native code, and loops of guests in blocks against plain
//! ones, without the rest of the runtime.
//!
//! It takes the components that `cargo xtask guests` has built.

use glovebox_sandbox::bench::{KernelBench, LoopBench, LoopSeconds};

const ROUNDS: usize = 101;

#[expect(clippy::print_stdout, reason = "the figures are the program's output")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kernel = KernelBench::new(&component("spend")?)?;
    let rounds: Vec<[f64; 2]> = (0..ROUNDS).map(|_| kernel.rows_per_second()).collect::<Result<_, _>>()?;
    println!("kernel_rows_per_second_per_core {:>12.0}", median(&rounds, |[kernel, _]| *kernel));
    println!("native_rows_per_second_per_core {:>12.0}", median(&rounds, |[_, native]| *native));
    println!("kernel_vs_native {:>12.3}", median(&rounds, |[kernel, native]| kernel / native));
    let loops = LoopBench::new(&component("sums")?)?;
    let rounds: Vec<LoopSeconds> = (0..ROUNDS).map(|_| loops.seconds()).collect::<Result<_, _>>()?;
    println!("blocked_vs_plain {:>12.3}", median(&rounds, LoopSeconds::blocked_vs_plain));
    println!("blocked_metering {:>12.3}", median(&rounds, LoopSeconds::blocked_metering));
    println!("plain_metering {:>12.3}", median(&rounds, LoopSeconds::plain_metering));
    Ok(())
}

fn component(name: &str) -> std::io::Result<Vec<u8>> {
    std::fs::read(format!("{}/../target/questions/{name}.wasm", env!("CARGO_MANIFEST_DIR")))
}

fn median<T>(rounds: &[T], figure: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    values[ROUNDS / 2]
}
