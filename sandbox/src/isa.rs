//! The processor, as far as compiled code depends on it.

/// The architecture and those of its features that the compiler may use, sorted: `x86_64 avx avx2 …`.
///
/// The engine's answers do not depend on them: NaN payloads are canonical and nothing is fused. It stands in receipts so
/// that, were that found to be wrong, one could tell which runs it touches.
#[must_use]
pub fn isa() -> String {
    let features = features();
    std::iter::once(std::env::consts::ARCH).chain(features).collect::<Vec<_>>().join(" ")
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    macro_rules! detected {
        ($($name:tt)*) => { [$(($name, std::is_x86_feature_detected!($name))),*] };
    }
    let features = detected!("avx" "avx2" "avx512bitalg" "avx512dq" "avx512f" "avx512vbmi" "avx512vl" "bmi1" "bmi2"
        "cmpxchg16b" "fma" "lzcnt" "popcnt" "sse3" "sse4.1" "sse4.2" "ssse3");
    features.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<&'static str> {
    Vec::new()
}
