//! What is compiled of a component: its own code and, if it carries a kernel, that of the kernel's driver.
//!
//! Both lie in one piece, so that they are kept, authenticated and loaded together: the length of the component's code,
//! the code, the length of the kernel's plan, the plan, and the rest is the driver's code. Without a kernel, nothing
//! follows the component's code.

use crate::denial::{Denial, Reason, Result};
use crate::engine::{engine, engine_of_kernels, not_compiled};
use crate::kernel::{Plan, driven};
use crate::terms::Limits;

/// The parts of what was compiled.
pub(crate) struct Artifact<'a> {
    pub(crate) component: &'a [u8],
    pub(crate) kernel: Option<(Plan, &'a [u8])>,
}

/// Compiles a component, and the kernel that it carries. A kernel that is refused, or does not compile, is left out.
pub(crate) fn compile(component: &[u8], limits: &Limits) -> Result<Vec<u8>> {
    let code = engine(limits, 1)?.precompile_component(component).map_err(|error| not_compiled(&error))?;
    let mut artifact = Vec::new();
    put(&mut artifact, &code);
    if let Some((plan, driver)) = driver(component, limits) {
        put(&mut artifact, &plan);
        artifact.extend_from_slice(&driver);
    }
    Ok(artifact)
}

fn driver(component: &[u8], limits: &Limits) -> Option<(Vec<u8>, Vec<u8>)> {
    let (plan, module) = driven(component, limits)?;
    let code = engine_of_kernels(limits).ok()?.precompile_module(&module).ok()?;
    Some((postcard::to_stdvec(&plan).ok()?, code))
}

impl<'a> Artifact<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self> {
        let (component, rest) = part(bytes)?;
        if rest.is_empty() {
            return Ok(Self { component, kernel: None });
        }
        let (plan, driver) = part(rest)?;
        let plan = postcard::from_bytes(plan).map_err(|_| cut_off())?;
        Ok(Self { component, kernel: Some((plan, driver)) })
    }
}

fn put(artifact: &mut Vec<u8>, part: &[u8]) {
    artifact.extend_from_slice(&(part.len() as u64).to_le_bytes());
    artifact.extend_from_slice(part);
}

fn part(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk().ok_or_else(cut_off)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok();
    length.and_then(|length| rest.split_at_checked(length)).ok_or_else(cut_off)
}

fn cut_off() -> Denial {
    let remedy = "run again: the component is then compiled anew";
    Denial::new(Reason::CompileFailed, "what was compiled is not whole", remedy)
}
