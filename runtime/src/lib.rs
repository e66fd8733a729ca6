//! Glovebox runs signed questions over partner data, one privacy unit at a time.
mod clock;
mod error;
mod provision;
mod random;
mod room;

mod sandbox {
    pub(crate) const WASMTIME_VERSION: &str = "48.0.8";
}
