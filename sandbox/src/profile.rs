//! Every setting of the engine, once: the table that configures it is the table that is printed and hashed.
//!
//! Two hosts with one profile and one version of the engine give a guest the same answers and the same limits. So
//! nothing of the machine may stand here: no number of threads, no processor, no path.

use std::num::NonZeroUsize;
use std::time::Duration;

use wasmparser::{WasmFeatures, WasmFeaturesInflated};
use wasmtime::{Config, Enabled, Inlining, OptLevel, PoolingAllocationConfig, RegallocAlgorithm, Strategy};

use crate::kernel::verify::{CALLS_DEEP_MAX, MODULE_BYTES_MAX, WORK_MAX, WORK_OF_LOOP};
use crate::kernel::{BATCH_BYTES_MAX, UNITS_PER_CALL};
use crate::screen::FEATURES;
use crate::terms::Limits;
use crate::{WASMTIME_VERSION, sha256_hex};

/// A component made by the standard tools has its own module and a few shims.
pub(crate) const CORE_INSTANCES_MAX: usize = 16;
pub(crate) const TABLES_MAX: usize = 4;
pub(crate) const MEMORIES_MAX: usize = 1;
pub(crate) const TABLE_ELEMENTS_MAX: usize = 20_000;
/// What an element of a table counts for in the allowance of bytes.
pub(crate) const TABLE_ELEMENT_BYTES: usize = 8;
/// The contract passes no resources, and nothing else has handles.
pub(crate) const COMPONENT_HANDLES_MAX: usize = 0;
pub(crate) const EPOCH_MILLISECONDS: u64 = 10;
pub(crate) const EPOCH: Duration = Duration::from_millis(EPOCH_MILLISECONDS);

/// Makes two functions of one table, in which every setting has the name that the engine gives it: one that sets them
/// all, and one that prints them all. `agreed` values come from the agreement and are printed by their names in it.
macro_rules! settings {
    (
        $prefix:literal, $owner:ty, $set:ident, $print:ident;
        fixed { $($name:ident = $value:expr,)* }
        agreed { $($agreed:ident = $limit:ident,)* }
    ) => {
        fn $set(owner: &mut $owner, _limits: &Limits) {
            $(owner.$name($value);)*
            $(owner.$agreed(usize::try_from(_limits.$limit).unwrap_or(usize::MAX));)*
        }

        fn $print() -> Vec<String> {
            vec![
                $(format!(concat!($prefix, ".", stringify!($name), " = {:?}"), $value),)*
                $(concat!($prefix, ".", stringify!($agreed), " = agreed ", stringify!($limit)).to_owned(),)*
            ]
        }
    };
}

// Of every engine: the one of instances, and the one that drives kernels.
settings! {
    "engine", Config, set_engine, print_engine;
    fixed {
        strategy = Strategy::Cranelift,
        cranelift_opt_level = OptLevel::Speed,
        cranelift_regalloc_algorithm = RegallocAlgorithm::Backtracking,
        // The bits of a NaN would otherwise be the processor's choice, and a guest can read them.
        cranelift_nan_canonicalization = true,
        relaxed_simd_deterministic = true,
        compiler_inlining = Inlining::No,
        epoch_interruption = true,
        concurrency_support = false,
        shared_memory = false,
        max_wasm_stack = 256usize << 10,
        memory_reservation = 4u64 << 30,
        memory_guard_size = 32u64 << 20,
        guard_before_linear_memory = true,
        memory_init_cow = true,
        generate_address_map = false,
        wasm_backtrace_max_frames = None::<NonZeroUsize>,
    }
    agreed {}
}

settings! {
    "pool", PoolingAllocationConfig, set_pool, print_pool;
    fixed {
        max_core_instances_per_component = CORE_INSTANCES_MAX as u32,
        max_memories_per_component = MEMORIES_MAX as u32,
        max_tables_per_component = TABLES_MAX as u32,
        max_memories_per_module = 1,
        max_tables_per_module = 1,
        max_core_instance_size = 1 << 20,
        max_component_instance_size = 1 << 20,
        table_elements = TABLE_ELEMENTS_MAX,
        // The part of memory and of each table that is reset by copying, never more of it than there is; a system call
        // returns the rest. A question of the SDK starts with 128 KiB and a page of table, so it costs no system call.
        linear_memory_keep_resident = 256 << 10,
        table_keep_resident = 16 << 10,
        pagemap_scan = Enabled::No,
    }
    agreed {
        max_memory_size = memory_bytes_per_unit,
    }
}

settings! {
    "instances", Config, set_instances, print_instances;
    fixed {
        consume_fuel = true,
    }
    agreed {}
}

settings! {
    "kernel", Config, set_kernels, print_kernels;
    fixed {
        // The work of a row is bounded by what is written, and loops are paid in rounds that the kernel's driver counts.
        consume_fuel = false,
    }
    agreed {}
}

/// What the driver of a kernel uses: numbers, one memory, and blocks of several values.
const KERNEL_FEATURES: WasmFeatures = WasmFeatures::MULTI_VALUE
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::FLOATS);

/// The configuration of the engine that drives kernels.
pub(crate) fn config_of_kernels(limits: &Limits) -> Config {
    let mut config = Config::new();
    set_engine(&mut config, limits);
    set_kernels(&mut config, limits);
    config.wasm_features(KERNEL_FEATURES, true).wasm_features(WasmFeatures::all().difference(KERNEL_FEATURES), false);
    config
}

/// The engine's configuration. How many instances there are at a time is this host's matter, and no guest can tell.
pub(crate) fn config(limits: &Limits, at_a_time: u32) -> Config {
    let slots = at_a_time.max(1);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(CORE_INSTANCES_MAX as u32))
        .total_memories(slots.saturating_mul(MEMORIES_MAX as u32))
        .total_tables(slots.saturating_mul(TABLES_MAX as u32));
    set_pool(&mut pool, limits);
    let mut config = Config::new();
    set_engine(&mut config, limits);
    set_instances(&mut config, limits);
    config
        .allocation_strategy(pool)
        .wasm_features(FEATURES, true)
        .wasm_features(WasmFeatures::all().difference(FEATURES), false);
    config
}

/// Every setting that can change what a guest computes or what it may use, one per line.
pub fn profile() -> String {
    let of_kernels = features(KERNEL_FEATURES).filter(|(_, is_on)| *is_on);
    let of_kernels = of_kernels.map(|(name, is_on)| format!("kernel.wasm.{name} = {is_on}"));
    let features = features(FEATURES).map(|(name, is_on)| format!("wasm.{name} = {is_on}"));
    let lines = [
        vec![format!("wasmtime = {WASMTIME_VERSION}")],
        print_engine(),
        print_instances(),
        print_pool(),
        print_store(),
    ];
    let kernels = [print_kernels(), print_kernels_bounds()].into_iter().flatten().chain(of_kernels);
    lines.into_iter().flatten().chain(features).chain(kernels).map(|line| line + "\n").collect()
}

/// SHA-256 of the [`profile`], in hex.
pub fn profile_sha256() -> String {
    sha256_hex(profile().as_bytes())
}

/// What each store is given: the limiter's constants, and what the agreement says.
fn print_store() -> Vec<String> {
    let fixed = [
        ("core_instances_max", CORE_INSTANCES_MAX as u64),
        ("tables_max", TABLES_MAX as u64),
        ("memories_max", MEMORIES_MAX as u64),
        ("table_elements_max", TABLE_ELEMENTS_MAX as u64),
        ("table_element_bytes", TABLE_ELEMENT_BYTES as u64),
        ("component_handles_max", COMPONENT_HANDLES_MAX as u64),
        ("epoch_milliseconds", EPOCH_MILLISECONDS),
    ];
    let agreed = [
        ("memory_and_table_bytes", "memory_bytes_per_unit"),
        ("fuel", "fuel_per_unit"),
        ("hostcall_fuel", "answer_bytes_per_unit"),
        ("epoch_deadline", "milliseconds_per_unit"),
    ];
    let fixed = fixed.map(|(name, value)| format!("store.{name} = {value}"));
    fixed.into_iter().chain(agreed.map(|(name, limit)| format!("store.{name} = agreed {limit}"))).collect()
}

/// What a kernel may come to, and what the agreement says of it.
fn print_kernels_bounds() -> Vec<String> {
    let fixed = [
        ("module_bytes_max", MODULE_BYTES_MAX as u64),
        ("work_max", WORK_MAX),
        ("work_of_loop", WORK_OF_LOOP),
        ("calls_deep_max", CALLS_DEEP_MAX as u64),
        ("batch_bytes_max", BATCH_BYTES_MAX),
        ("units_per_call", u64::from(UNITS_PER_CALL)),
    ];
    let agreed = [
        ("work_per_unit", "fuel_per_unit"),
        ("rounds_per_unit", "fuel_per_unit by the work of a phase"),
        ("answer_bytes", "answer_bytes_per_unit"),
        ("epoch_deadline", "milliseconds_per_unit"),
    ];
    let fixed = fixed.map(|(name, value)| format!("kernel.{name} = {value}"));
    fixed.into_iter().chain(agreed.map(|(name, limit)| format!("kernel.{name} = agreed {limit}"))).collect()
}

/// Every feature that the parser knows, by name: one that a newer parser adds does not compile until it stands here.
macro_rules! named {
    ($features:expr; $($name:ident)*) => {{
        let WasmFeaturesInflated { $($name),* } = $features.inflate();
        [$((stringify!($name), $name)),*]
    }};
}

pub(crate) fn features(features: WasmFeatures) -> impl Iterator<Item = (&'static str, bool)> {
    let named = named! { features;
        mutable_global saturating_float_to_int sign_extension reference_types multi_value bulk_memory simd relaxed_simd
        threads shared_everything_threads tail_call floats multi_memory exceptions memory64 extended_const
        component_model function_references memory_control gc custom_page_sizes legacy_exceptions gc_types
        stack_switching wide_arithmetic cm_values cm_nested_names cm_async cm_async_stackful cm_more_async_builtins
        cm_threading cm_error_context cm_fixed_length_lists cm_gc call_indirect_overlong bulk_memory_opt
        custom_descriptors compact_imports cm_map cm64 cm_implements cm_canon_names
    };
    named.into_iter()
}
