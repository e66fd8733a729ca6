//! How much of everything a component may have. Compiling takes time and memory by what is counted here, and none of it
//! is metered; what an honest question has is far below.
//!
//! Numbers are of the whole component with all that is nested in it. They are read where sections announce them, so a
//! component is refused before its items are.

use wasmparser::{BinaryReaderError, Encoding, Parser, Payload, SectionLimited};

use super::{FEATURES, invalid, malformed};
use crate::denial::Result;
use crate::profile::{MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};

/// So much of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) what: &'static str,
    pub(crate) most: usize,
}

const fn bound(what: &'static str, most: usize) -> Bound {
    Bound { what, most }
}

/// The longest component that is accepted: a host need not read more of one.
pub const COMPONENT_BYTES_MAX: usize = 8 << 20;

pub(crate) const BYTES: Bound = bound("bytes", COMPONENT_BYTES_MAX);
/// The component itself is the first.
pub(crate) const LEVELS: Bound = bound("levels", 4);
pub(crate) const COMPONENTS: Bound = bound("components", 16);
pub(crate) const COMPONENT_INSTANCES: Bound = bound("component instances", 16);
pub(crate) const MODULES: Bound = bound("core modules", 16);
/// More than can run: exports that are passed on count as an instance here.
pub(crate) const CORE_INSTANCES: Bound = bound("core instances", 64);
pub(crate) const MEMORIES: Bound = bound("memories", MEMORIES_MAX);
pub(crate) const TABLES: Bound = bound("tables", TABLES_MAX);
pub(crate) const TABLE_ELEMENTS: Bound = bound("elements in a table", TABLE_ELEMENTS_MAX);
pub(crate) const TYPES: Bound = bound("types", 4_096);
pub(crate) const TYPE_BYTES: Bound = bound("bytes of types", 64 << 10);
pub(crate) const FUNCTIONS: Bound = bound("functions", 10_000);
pub(crate) const GLOBALS: Bound = bound("globals", 1_024);
pub(crate) const IMPORTS: Bound = bound("imports between its parts", 1_024);
pub(crate) const EXPORTS: Bound = bound("exports", 1_024);
pub(crate) const ALIASES: Bound = bound("aliases", 1_024);
pub(crate) const CANONICAL_FUNCTIONS: Bound = bound("canonical functions", 1_024);
pub(crate) const DATA_SEGMENTS: Bound = bound("data segments", 4_096);
pub(crate) const DATA_BYTES: Bound = bound("bytes of data", 4 << 20);
pub(crate) const ELEMENT_SEGMENTS: Bound = bound("element segments", 1_024);
pub(crate) const ELEMENT_BYTES: Bound = bound("bytes of elements", 1 << 20);
pub(crate) const NAME_BYTES: Bound = bound("bytes in a name", 256);
pub(crate) const CUSTOM_SECTIONS: Bound = bound("custom sections", 64);
pub(crate) const CUSTOM_BYTES: Bound = bound("bytes of custom sections", 1 << 20);

/// What has been counted so far.
#[derive(Default)]
struct Tally(Vec<(Bound, usize)>);

impl Tally {
    fn add(&mut self, bound: Bound, more: usize) -> Result<()> {
        let at = self.0.iter().position(|(counted, _)| *counted == bound).unwrap_or_else(|| {
            self.0.push((bound, 0));
            self.0.len() - 1
        });
        let count = &mut self.0[at].1;
        *count = count.saturating_add(more);
        within(bound, *count)
    }
}

/// Refuses more than a bound.
pub(super) fn within(Bound { what, most }: Bound, count: usize) -> Result<()> {
    if count <= most {
        return Ok(());
    }
    Err(invalid(format!("the component has {count} {what}, and at most {most} are accepted")))
}

/// Counts everything in a component.
pub(super) fn require(bytes: &[u8]) -> Result<()> {
    let mut parser = Parser::new(0);
    parser.set_features(FEATURES);
    let (mut tally, mut levels) = (Tally::default(), 0);
    for payload in parser.parse_all(bytes) {
        let payload = payload.map_err(|error| malformed(&error))?;
        match &payload {
            Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => {
                levels += 1;
                within(LEVELS, levels)?;
            }
            Payload::End(_) => levels -= 1,
            payload => count(&mut tally, payload)?,
        }
        sizes(&payload)?;
        names(&payload)
            .map_err(|error| malformed(&error))?
            .into_iter()
            .try_for_each(|name| within(NAME_BYTES, name))?;
    }
    Ok(())
}

fn count(tally: &mut Tally, payload: &Payload<'_>) -> Result<()> {
    let (bound, more) = match payload {
        Payload::ComponentSection { .. } => (COMPONENTS, 1),
        Payload::ComponentInstanceSection(items) => (COMPONENT_INSTANCES, items.count()),
        Payload::ModuleSection { .. } => (MODULES, 1),
        Payload::InstanceSection(items) => (CORE_INSTANCES, items.count()),
        Payload::MemorySection(items) => (MEMORIES, items.count()),
        Payload::TableSection(items) => (TABLES, items.count()),
        Payload::TypeSection(items) => types(tally, items)?,
        Payload::CoreTypeSection(items) => types(tally, items)?,
        Payload::ComponentTypeSection(items) => types(tally, items)?,
        Payload::FunctionSection(items) => (FUNCTIONS, items.count()),
        Payload::GlobalSection(items) => (GLOBALS, items.count()),
        Payload::ImportSection(items) => (IMPORTS, items.count()),
        Payload::ComponentImportSection(items) => (IMPORTS, items.count()),
        Payload::ExportSection(items) => (EXPORTS, items.count()),
        Payload::ComponentExportSection(items) => (EXPORTS, items.count()),
        Payload::ComponentAliasSection(items) => (ALIASES, items.count()),
        Payload::ComponentCanonicalSection(items) => (CANONICAL_FUNCTIONS, items.count()),
        Payload::DataSection(items) => {
            tally.add(DATA_BYTES, items.range().len())?;
            (DATA_SEGMENTS, items.count())
        }
        Payload::ElementSection(items) => {
            tally.add(ELEMENT_BYTES, items.range().len())?;
            (ELEMENT_SEGMENTS, items.count())
        }
        Payload::CustomSection(section) => {
            tally.add(CUSTOM_BYTES, section.range().len())?;
            (CUSTOM_SECTIONS, 1)
        }
        _ => return Ok(()),
    };
    tally.add(bound, usize::try_from(more).unwrap_or(usize::MAX))
}

/// By their bytes as well: a type may hold any number of names, and of types.
fn types<T>(tally: &mut Tally, items: &SectionLimited<'_, T>) -> Result<(Bound, u32)> {
    tally.add(TYPE_BYTES, items.range().len())?;
    Ok((TYPES, items.count()))
}

/// What can grow says how far.
fn sizes(payload: &Payload<'_>) -> Result<()> {
    match payload {
        Payload::MemorySection(memories) => memories.clone().into_iter().try_for_each(|memory| {
            let maximum = memory.map_err(|error| malformed(&error))?.maximum;
            maximum.map(|_| ()).ok_or_else(|| invalid("the component has a memory without a maximum"))
        }),
        Payload::TableSection(tables) => tables.clone().into_iter().try_for_each(|table| {
            let maximum = table.map_err(|error| malformed(&error))?.ty.maximum;
            let maximum = maximum.ok_or_else(|| invalid("the component has a table without a maximum"))?;
            within(TABLE_ELEMENTS, usize::try_from(maximum).unwrap_or(usize::MAX))
        }),
        _ => Ok(()),
    }
}

/// How long the names are by which its parts know each other, and those of custom sections.
fn names(payload: &Payload<'_>) -> Result<Vec<usize>, BinaryReaderError> {
    match payload {
        Payload::ImportSection(imports) => {
            imports.clone().into_imports().map(|import| import.map(|i| i.module.len().max(i.name.len()))).collect()
        }
        Payload::ExportSection(exports) => {
            exports.clone().into_iter().map(|export| export.map(|export| export.name.len())).collect()
        }
        Payload::ComponentImportSection(imports) => {
            imports.clone().into_iter().map(|import| import.map(|import| import.name.name.len())).collect()
        }
        Payload::ComponentExportSection(exports) => {
            exports.clone().into_iter().map(|export| export.map(|export| export.name.name.len())).collect()
        }
        Payload::CustomSection(section) => Ok(vec![section.name().len()]),
        _ => Ok(Vec::new()),
    }
}
