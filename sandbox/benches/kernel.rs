//! `cargo bench -p glovebox-sandbox`: a register kernel against native code, without the rest of the runtime.
//!
//! It takes the components that `cargo xtask guests` has built.

use glovebox_sandbox::bench::KernelBench;

const ROUNDS: usize = 101;

#[expect(clippy::print_stdout, reason = "the figures are the program's output")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let component = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/questions/spend.wasm"))?;
    let bench = KernelBench::new(&component)?;
    let rounds: Vec<[f64; 2]> = (0..ROUNDS).map(|_| bench.rows_per_second()).collect::<Result<_, _>>()?;
    let of = |figure: fn(&[f64; 2]) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        values[ROUNDS / 2]
    };
    println!("kernel_rows_per_second_per_core {:>12.0}", of(|[kernel, _]| *kernel));
    println!("native_rows_per_second_per_core {:>12.0}", of(|[_, native]| *native));
    println!("kernel_vs_native {:>12.3}", of(|[kernel, native]| kernel / native));
    Ok(())
}
