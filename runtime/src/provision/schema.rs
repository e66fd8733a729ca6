//! Names and types of a view's columns, and what a slot may make of them.
//!
//! Types are only ever widened without loss; the one exception is a timestamp, which is cut to microseconds. Whatever
//! is not listed here is refused.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::logical_expr::LogicalPlan;

use super::across::computes_across_units;
use crate::error::{Code, Fault, Result};
use crate::room::{Column, ColumnType, Slot, UnitRule, View, sha256_hex};

/// The type of a unit column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyType {
    Int64,
    Utf8,
}

impl KeyType {
    pub(super) const fn data_type(self) -> DataType {
        match self {
            Self::Int64 => DataType::Int64,
            Self::Utf8 => DataType::Utf8,
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Int64 => "an integer",
            Self::Utf8 => "text",
        })
    }
}

/// Names and types of a view's columns, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ViewSchema {
    view: String,
    unit: String,
    columns: Vec<(String, DataType)>,
    /// The columns of its mapping.
    via: Option<Box<Self>>,
    /// The views whose SQL may compute one unit's rows from another's.
    across_units: Vec<String>,
}

impl ViewSchema {
    /// Takes over what a plan comes to; refuses two columns of one name, also but for its case, and a unit column that is
    /// missing or no key.
    pub(super) fn new(view: &View, plan: &LogicalPlan) -> Result<Self> {
        let columns: Vec<_> =
            plan.schema().fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect();
        let mut names = BTreeMap::new();
        for (name, _) in &columns {
            // Names that differ by case alone are not told apart by who reads the SQL.
            if let Some(earlier) = names.insert(name.to_lowercase(), name) {
                let but = if earlier == name { "" } else { ", but for their case" };
                return Err(Fault::new(
                    Code::ViewInvalid,
                    format!("view {} has two columns of the name `{}`{but}", view.id, name.escape_debug()),
                    "give one of them another name with AS",
                ));
            }
        }
        let across_units = view.is_protected() && computes_across_units(plan, &view.unit);
        let across_units = if across_units { vec![view.id.clone()] } else { Vec::new() };
        let schema = Self { view: view.id.clone(), unit: view.unit.clone(), columns, via: None, across_units };
        if view.is_protected() {
            check_rules(view, "unit", &view.unit, &view.unit_rules, schema.key()?)?;
        }
        if let Some(mapping) = &view.mapping {
            let key = schema.key_of("id", &mapping.id_column)?;
            check_rules(view, "id", &mapping.id_column, &mapping.id_rules, key)?;
        }
        Ok(schema)
    }

    /// The same view, whose rows are whose its mapping says.
    pub(super) fn through(mut self, mapping: Self) -> Self {
        self.across_units.extend_from_slice(&mapping.across_units);
        Self { via: Some(Box::new(mapping)), ..self }
    }

    /// The view's id.
    pub(crate) fn view(&self) -> &str {
        &self.view
    }

    /// Names and types, in order.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (&str, String)> {
        self.columns.iter().map(|(name, kind)| (name.as_str(), kind.to_string()))
    }

    /// This view and its mapping, where their SQL may compute one unit's rows from another's.
    pub(crate) fn across_units(&self) -> &[String] {
        &self.across_units
    }

    /// SHA-256 over names and types in order, in hex: over the JSON list of `[name, type]`. Where there is a mapping, over
    /// the list of that list and the mapping's.
    pub(crate) fn sha256(&self) -> String {
        let listed = match &self.via {
            None => self.listed(),
            Some(via) => serde_json::Value::from(vec![self.listed(), via.listed()]),
        };
        sha256_hex(listed.to_string().as_bytes())
    }

    fn listed(&self) -> serde_json::Value {
        serde_json::Value::from_iter(self.columns().map(|(name, kind)| vec![name.to_owned(), kind]))
    }

    /// Whether the view has every column of the slot, of a type that widens to the declared one.
    pub(crate) fn check_slot(&self, slot: &Slot) -> Result<()> {
        for column in &slot.columns {
            let found = self.find(&column.name)?;
            if !widens(found, column.kind) {
                return Err(Fault::new(
                    Code::ColumnType,
                    format!(
                        "column `{}` of view {} is {found}, slot {} needs {}",
                        column.name,
                        self.view,
                        slot.slot,
                        canonical(column.kind)
                    ),
                    "bind a view whose column fits, or CAST it in the view's SQL",
                ));
            }
        }
        Ok(())
    }

    /// The unit column's type; none where the file has no value to tell it by.
    pub(super) fn key(&self) -> Result<Option<KeyType>> {
        self.key_of("unit", &self.unit)
    }

    /// The same of another column, which is called by what it names.
    pub(super) fn key_of(&self, what: &str, column: &str) -> Result<Option<KeyType>> {
        match self.find(column)? {
            DataType::Null => Ok(None),
            found if widens(found, ColumnType::Int64) => Ok(Some(KeyType::Int64)),
            found if widens(found, ColumnType::Utf8) => Ok(Some(KeyType::Utf8)),
            found => Err(Fault::new(
                Code::ColumnType,
                format!("the {what} column `{column}` of view {} is {found}, a unit is an integer or text", self.view),
                "name another column, or CAST it in the view's SQL",
            )),
        }
    }

    fn find(&self, name: &str) -> Result<&DataType> {
        let found = self.columns.iter().find(|(column, _)| column == name);
        found.map(|(_, kind)| kind).ok_or_else(|| {
            Fault::new(
                Code::ColumnMissing,
                format!("view {} has no column `{}`", self.view, name.escape_debug()),
                "add the column to the view's SQL; a name without quotes is read in lower case",
            )
        })
    }
}

fn check_rules(view: &View, what: &str, column: &str, rules: &[UnitRule], key: Option<KeyType>) -> Result<()> {
    if rules.is_empty() || key != Some(KeyType::Int64) {
        return Ok(());
    }
    Err(Fault::new(
        Code::ColumnType,
        format!("view {} has `{what}_rules`, and its {what} column `{column}` is an integer", view.id),
        "leave the rules out, or CAST the column to VARCHAR in the view's SQL",
    ))
}

/// The Arrow type in which a column's values are handed on.
pub(super) const fn canonical(kind: ColumnType) -> DataType {
    match kind {
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Int64 => DataType::Int64,
        ColumnType::Float64 => DataType::Float64,
        ColumnType::Date => DataType::Date32,
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        // A file's dictionary spans units; a unit's own is made of its own words where it enters the sandbox.
        ColumnType::Utf8 | ColumnType::Dictionary => DataType::Utf8,
    }
}

/// The Arrow type in which a column's values are sorted.
///
/// A sort compares rows in a form that takes about twice the memory of most types, but sixteen times that of a boolean:
/// as small integers, booleans do not upset its reckoning.
pub(super) const fn sortable(kind: ColumnType) -> DataType {
    match kind {
        ColumnType::Boolean => DataType::Int8,
        other => canonical(other),
    }
}

/// The schema of the batches that a slot gets.
pub(crate) fn slot_schema(slot: &Slot) -> SchemaRef {
    let field = |column: &Column| Field::new(&column.name, canonical(column.kind), column.nullable);
    Arc::new(Schema::new(slot.columns.iter().map(field).collect::<Vec<_>>()))
}

fn widens(from: &DataType, to: ColumnType) -> bool {
    use DataType as T;
    match to {
        // A column of nulls only is a column of any type.
        _ if *from == T::Null => true,
        ColumnType::Boolean => *from == T::Boolean,
        ColumnType::Int64 => {
            matches!(from, T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32)
        }
        ColumnType::Float64 => matches!(from, T::Float32 | T::Float64),
        ColumnType::Date => *from == T::Date32,
        ColumnType::Timestamp => match from {
            T::Timestamp(_, None) => true,
            T::Timestamp(_, Some(zone)) => matches!(zone.as_ref(), "UTC" | "+00:00" | "Z"),
            _ => false,
        },
        ColumnType::Utf8 | ColumnType::Dictionary => match from {
            T::Dictionary(_, values) => is_text(values),
            other => is_text(other),
        },
    }
}

pub(super) const fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}
