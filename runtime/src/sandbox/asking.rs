//! How a question's units are asked, for people who sign and for its author. It decides nothing: workers look for themselves.

use std::fmt;

use glovebox_sandbox::{Spec, register_kernel};
use serde::Serialize;

/// Whether a question runs as a register kernel.
#[derive(Clone, Debug, Serialize)]
pub struct Asking {
    /// One instance asks about all units, in place of one for each.
    pub register_kernel: bool,
    /// Why the kernel that the component carries does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_refusal: Option<String>,
}

impl Asking {
    pub(crate) fn of(component: &[u8], spec: &Spec) -> Self {
        match register_kernel(component, spec) {
            Ok(register_kernel) => Self { register_kernel, kernel_refusal: None },
            Err(denial) => Self { register_kernel: false, kernel_refusal: Some(denial.fact().to_owned()) },
        }
    }
}

impl fmt::Display for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.register_kernel, &self.kernel_refusal) {
            (true, _) => write!(f, "runs as a register kernel: one instance that keeps nothing for all units"),
            (false, None) => write!(f, "runs in an instance per unit"),
            (false, Some(why)) => write!(f, "runs in an instance per unit: {why}"),
        }
    }
}
