//! How the SDK gives up on a question that reads its rows wrongly.
//!
//! Natively it panics with a message for the author. In the sandbox nobody could read one, so it aborts at once and
//! the component carries no formatting code. It never returns a made-up value instead.

/// Panics natively, aborts in the sandbox. A macro, so that in the sandbox the message is never even compiled.
macro_rules! fault {
    ($($message:tt)*) => {
        if cfg!(target_family = "wasm") {
            std::process::abort()
        } else {
            panic!($($message)*)
        }
    };
}

pub(crate) use fault;
