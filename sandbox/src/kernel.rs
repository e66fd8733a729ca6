//! Register kernels: questions that are proved to keep no state, so that one instance serves every unit.
//!
//! A component may carry, in one custom section, a core module that says the same as its exported function, as three
//! functions over values: what a unit begins with, what a row makes of it, and what becomes of it at the end. Where the
//! module is proved to keep nothing ([`verify`]), the host writes one loop around copies of its functions ([`splice`]),
//! and asks whole batches at a time ([`drive`]). Where it is not, or says something of another question, the component's
//! own function is asked as ever.

mod drive;
mod layout;
mod splice;
pub(crate) mod verify;

use wasmparser::{Encoding, Parser, Payload};

use crate::denial::{Denial, Result};
use crate::screen::{invalid, malformed};
use crate::terms::{Limits, Spec};
pub(crate) use drive::{Driver, Plan};
pub(crate) use layout::{BATCH_BYTES_MAX, UNITS_PER_CALL};
use verify::{Kernel, Refusal, verify};

/// The custom section of a component that holds its kernel.
pub const KERNEL_SECTION: &str = "glovebox:kernel";

/// Whether a question is asked by the register kernel that its component carries, or why by none that it carries: then it
/// is asked as a component all the same.
pub fn register_kernel(component: &[u8], spec: &Spec) -> Result<bool> {
    let Some(module) = section(component)? else { return Ok(false) };
    let (plan, _) = proved(module, &spec.limits)?;
    if plan.fits(spec) { Ok(true) } else { Err(refused("it was written for other columns, parameters or limits")) }
}

/// The plan of a kernel and the module that drives it, or why it is none.
pub(crate) fn proved(module: &[u8], limits: &Limits) -> Result<(Plan, Vec<u8>)> {
    let proved = verify(module).and_then(|kernel| written(&kernel, limits).ok_or(Refusal::NotWritten));
    proved.map_err(|refusal| refused(&plain(&refusal)))
}

fn refused(why: &str) -> Denial {
    invalid(format!("the question's kernel is refused: {why}"))
}

/// The plan of a component's kernel and the module that drives it, if it carries one that can be driven.
pub(crate) fn driven(component: &[u8], limits: &Limits) -> Option<(Plan, Vec<u8>)> {
    proved(section(component).ok()??, limits).ok()
}

fn written(kernel: &Kernel<'_>, limits: &Limits) -> Option<(Plan, Vec<u8>)> {
    let plan = Plan::of(kernel)?;
    let module = splice::splice(kernel, plan.layout()?, plan.rounds(limits))?;
    Some((plan, module))
}

/// It may quote names from the module, so it is cut and cannot move a terminal's cursor.
fn plain(refusal: &Refusal) -> String {
    refusal.to_string().escape_debug().take(200).collect()
}

/// The outermost component's section; it must be the only one.
fn section(component: &[u8]) -> Result<Option<&[u8]>> {
    let (mut depth, mut found) = (0u32, Vec::new());
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(|error| malformed(&error))? {
            Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section) if depth == 1 && section.name() == KERNEL_SECTION => {
                found.push(section.data());
            }
            _ => {}
        }
    }
    match found[..] {
        [] => Ok(None),
        [module] => Ok(Some(module)),
        [..] => Err(invalid(format!("the component has several sections `{KERNEL_SECTION}`"))),
    }
}

#[cfg(test)]
mod tests;
