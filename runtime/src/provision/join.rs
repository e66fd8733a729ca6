//! Joins sorted views by unit: a leapfrog over the required ones, the optional ones following.
//!
//! A unit has every row of its own, up to the agreed number, and no row of another. The order of the input is checked,
//! not trusted: a unit that came twice would contribute twice. A cursor holds one batch, however long a unit is.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::{self, concat_batches};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;

use super::schema::{KeyType, slot_schema};
use super::{Rows, Unit, UnitKey};
use crate::error::{Code, Fault, Result};
use crate::room::{Join as SlotJoin, Slot};

/// Units of a chunk, which a worker is asked about at a time: enough that waking it is nothing beside them.
const CHUNK_UNITS: usize = 1_024;

/// Rows of a chunk, give or take one unit.
const CHUNK_ROWS: usize = 64 << 10;

/// Batches that a chunk may keep alive, per view: units that match seldom would otherwise keep one each.
const CHUNK_PAGES: usize = 8;

/// A view as the join sees it.
pub(super) struct JoinInput<P> {
    /// Batches of the unit, then the slot's columns; sorted by all of them.
    pub(super) pages: P,
    /// The slot's columns.
    pub(super) schema: SchemaRef,
    pub(super) join: SlotJoin,
}

/// A join, by the type of its units.
pub(super) enum Joined<P> {
    Int64(Join<P, Int64Array>),
    Utf8(Join<P, StringArray>),
}

impl<P: Iterator<Item = Result<RecordBatch>>> Joined<P> {
    pub(super) fn new(key: KeyType, inputs: Vec<JoinInput<P>>, max_rows: usize) -> Self {
        match key {
            KeyType::Int64 => Self::Int64(Join::new(inputs, max_rows)),
            KeyType::Utf8 => Self::Utf8(Join::new(inputs, max_rows)),
        }
    }

    pub(super) fn next_chunk(&mut self) -> Result<Option<Vec<Unit>>> {
        match self {
            Self::Int64(join) => join.next_chunk(),
            Self::Utf8(join) => join.next_chunk(),
        }
    }

    /// Begins anew with what the views have after `turn`; what was read ahead of them is dropped.
    pub(super) fn restart(&mut self, turn: impl FnMut(&mut P) -> Result<()>) -> Result<()> {
        match self {
            Self::Int64(join) => join.restart(turn),
            Self::Utf8(join) => join.restart(turn),
        }
    }
}

/// A column of unit keys without nulls.
pub(super) trait Keys: Array + Clone + 'static {
    /// Compares a key to one of another column, in the order in which views are sorted.
    fn compare(&self, index: usize, other: &Self, other_index: usize) -> Ordering;

    fn is(&self, index: usize, unit: &UnitKey) -> bool;

    fn to_unit(&self, index: usize) -> UnitKey;
}

impl Keys for Int64Array {
    fn compare(&self, index: usize, other: &Self, other_index: usize) -> Ordering {
        self.value(index).cmp(&other.value(other_index))
    }

    fn is(&self, index: usize, unit: &UnitKey) -> bool {
        matches!(unit, UnitKey::Int64(key) if *key == self.value(index))
    }

    fn to_unit(&self, index: usize) -> UnitKey {
        UnitKey::Int64(self.value(index))
    }
}

impl Keys for StringArray {
    fn compare(&self, index: usize, other: &Self, other_index: usize) -> Ordering {
        self.value(index).cmp(other.value(other_index))
    }

    fn is(&self, index: usize, unit: &UnitKey) -> bool {
        matches!(unit, UnitKey::Utf8(key) if **key == *self.value(index))
    }

    fn to_unit(&self, index: usize) -> UnitKey {
        UnitKey::Utf8(self.value(index).into())
    }
}

/// A join over units of one type.
pub(super) struct Join<P, K> {
    cursors: Vec<Cursor<P, K>>,
    /// The cursors whose slots are required.
    required: Vec<usize>,
    max_rows: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unread,
    Reading,
    Ended,
}

impl<P: Iterator<Item = Result<RecordBatch>>, K: Keys> Join<P, K> {
    fn new(inputs: Vec<JoinInput<P>>, max_rows: usize) -> Self {
        let is_required = |(_, input): &(usize, &JoinInput<P>)| input.join == SlotJoin::Required;
        let required = inputs.iter().enumerate().filter(is_required).map(|(index, _)| index).collect();
        Self { cursors: inputs.into_iter().map(Cursor::new).collect(), required, max_rows, state: State::Unread }
    }

    fn next_chunk(&mut self) -> Result<Option<Vec<Unit>>> {
        // A fault ends the stream: whoever asks again after one gets no further units.
        let state = std::mem::replace(&mut self.state, State::Ended);
        match state {
            State::Ended => return Ok(None),
            // Every view is looked at before the first unit is given out, so that a refusal comes before any of them.
            State::Unread => self.cursors.iter_mut().try_for_each(Cursor::load)?,
            State::Reading => {}
        }
        for cursor in &mut self.cursors {
            cursor.pages_loaded = 0;
        }
        let (mut units, mut rows) = (Vec::with_capacity(CHUNK_UNITS), 0);
        while let Some(unit) = self.next_unit()? {
            rows += unit.views.iter().map(|view| view.count).sum::<usize>();
            units.push(unit);
            let pages = self.cursors.iter().map(|cursor| cursor.pages_loaded).max().unwrap_or(0);
            if units.len() >= CHUNK_UNITS || rows >= CHUNK_ROWS || pages >= CHUNK_PAGES {
                self.state = State::Reading;
                return Ok(Some(units));
            }
        }
        Ok((!units.is_empty()).then_some(units))
    }

    fn restart(&mut self, mut turn: impl FnMut(&mut P) -> Result<()>) -> Result<()> {
        self.state = State::Ended;
        for cursor in &mut self.cursors {
            cursor.page = None;
            turn(&mut cursor.pages)?;
        }
        self.state = State::Unread;
        Ok(())
    }

    fn next_unit(&mut self) -> Result<Option<Unit>> {
        let Some(leader) = self.align()? else { return Ok(None) };
        for follower in 0..self.cursors.len() {
            if follower != leader && !self.required.contains(&follower) {
                self.seek(follower, leader)?;
            }
        }
        let Some(key) = self.cursors[leader].page.as_ref().map(|page| page.keys.to_unit(page.at)) else {
            return Ok(None);
        };
        let max_rows = self.max_rows;
        let views: Result<_> = self.cursors.iter_mut().map(|cursor| cursor.take(&key, max_rows)).collect();
        Ok(Some(Unit { key, views: views? }))
    }

    /// Moves the required cursors to the next unit that all of them have, and names one of them.
    fn align(&mut self) -> Result<Option<usize>> {
        let Some(&first) = self.required.first() else { return Ok(None) };
        if self.cursors[first].page.is_none() {
            return Ok(None);
        }
        let (mut leader, mut agreed) = (0, 1);
        while agreed < self.required.len() {
            let follower = (leader + agreed) % self.required.len();
            match self.seek(self.required[follower], self.required[leader])? {
                Found::Same => agreed += 1,
                Found::Greater => (leader, agreed) = (follower, 1),
                Found::End => return Ok(None),
            }
        }
        Ok(Some(self.required[leader]))
    }

    /// Moves a cursor to the first unit that is not before the leader's.
    fn seek(&mut self, follower: usize, leader: usize) -> Result<Found> {
        let Ok([follower, leader]) = self.cursors.get_disjoint_mut([follower, leader]) else {
            return Err(defect("a view was joined with itself"));
        };
        let Some(target) = &leader.page else { return Ok(Found::End) };
        follower.seek(&target.keys, target.at)
    }
}

enum Found {
    Same,
    Greater,
    End,
}

/// A place in a view.
struct Cursor<P, K> {
    pages: P,
    schema: SchemaRef,
    empty: Arc<RecordBatch>,
    page: Option<Page<K>>,
    pages_loaded: usize,
}

/// The batch at hand, and the first row in it that was not yet taken or passed over.
struct Page<K> {
    keys: K,
    batch: Arc<RecordBatch>,
    at: usize,
}

impl<K: Keys> Page<K> {
    /// The rows of the unit at hand, and passes over them.
    fn take(&mut self, max_rows: usize) -> Rows {
        let start = self.at;
        self.at = gallop(start, self.keys.len(), |index| self.keys.compare(index, &self.keys, start).is_eq());
        Rows { batch: Arc::clone(&self.batch), start, count: max_rows.min(self.at - start) }
    }

    fn is_done(&self) -> bool {
        self.at == self.keys.len()
    }
}

impl<P: Iterator<Item = Result<RecordBatch>>, K: Keys> Cursor<P, K> {
    fn new(input: JoinInput<P>) -> Self {
        let JoinInput { pages, schema, join: _ } = input;
        let empty = Arc::new(RecordBatch::new_empty(Arc::clone(&schema)));
        Self { pages, schema, empty, page: None, pages_loaded: 0 }
    }

    /// Takes the next batch, in place of the one at hand.
    fn load(&mut self) -> Result<()> {
        let last = self.page.take().map(|page| page.keys.to_unit(page.keys.len() - 1));
        for batch in self.pages.by_ref() {
            let batch = batch?;
            if batch.num_rows() > 0 {
                let page = split::<K>(&batch, &self.schema)?;
                check_order(&page.keys, last.as_ref())?;
                self.page = Some(page);
                self.pages_loaded += 1;
                break;
            }
        }
        Ok(())
    }

    /// Moves to the first unit that is not before the target.
    fn seek(&mut self, targets: &K, target: usize) -> Result<Found> {
        while let Some(page) = &mut self.page {
            page.at = gallop(page.at, page.keys.len(), |index| page.keys.compare(index, targets, target).is_lt());
            if !page.is_done() {
                let same = page.keys.compare(page.at, targets, target).is_eq();
                return Ok(if same { Found::Same } else { Found::Greater });
            }
            self.load()?;
        }
        Ok(Found::End)
    }

    /// The unit's rows, joined into one batch where they lie in several; none where the cursor is at another unit.
    fn take(&mut self, unit: &UnitKey, max_rows: usize) -> Result<Rows> {
        let Some(rows) = self.take_in_page(unit, max_rows) else {
            return Ok(Rows { batch: Arc::clone(&self.empty), start: 0, count: 0 });
        };
        let mut kept = rows.count;
        let mut further = Vec::new();
        while self.page.as_ref().is_some_and(Page::is_done) {
            self.load()?;
            // Beyond the agreed number of rows a unit is passed over batch by batch, without keeping any.
            let Some(rows) = self.take_in_page(unit, max_rows - kept) else { break };
            if rows.count > 0 {
                kept += rows.count;
                further.push(rows);
            }
        }
        if further.is_empty() {
            return Ok(rows);
        }
        let pieces: Vec<_> =
            std::iter::once(&rows).chain(&further).map(|rows| rows.batch.slice(rows.start, rows.count)).collect();
        let batch = concat_batches(&self.schema, &pieces).map_err(|error| malformed(&error))?;
        Ok(Rows { batch: Arc::new(batch), start: 0, count: kept })
    }

    fn take_in_page(&mut self, unit: &UnitKey, max_rows: usize) -> Option<Rows> {
        self.page.as_mut().filter(|page| page.keys.is(page.at, unit)).map(|page| page.take(max_rows))
    }
}

/// The first index from `from` on for which `holds` does not, given that it holds for a run only.
///
/// Doubles its step, then halves it (Bentley and Yao 1976): the run of one row costs one comparison, a long one few.
fn gallop(from: usize, len: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut probe, mut step) = (from, from, 1);
    while probe < len && holds(probe) {
        low = probe + 1;
        probe += step;
        step *= 2;
    }
    let mut high = probe.min(len);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Parts the unit column from the slot's columns.
/// The slot's columns of a page, without the column that stands in for a unit.
pub(super) fn lookup_rows(page: &RecordBatch, slot: &Slot) -> Result<RecordBatch> {
    split::<Int64Array>(page, &slot_schema(slot)).map(|page| RecordBatch::clone(&page.batch))
}

fn split<K: Keys>(batch: &RecordBatch, schema: &SchemaRef) -> Result<Page<K>> {
    let (keys, columns) = batch.columns().split_first().ok_or_else(|| defect("a batch has no unit column"))?;
    let keys =
        keys.as_any().downcast_ref::<K>().ok_or_else(|| defect("a unit column has another type than planned"))?;
    if keys.null_count() > 0 {
        return Err(defect("a unit column holds a null that the plan should have left out"));
    }
    let columns = columns.iter().zip(schema.fields()).map(|(column, field)| match field.data_type() {
        // Sorted as integers.
        DataType::Boolean => compute::cast(column, &DataType::Boolean),
        _ => Ok(Arc::clone(column)),
    });
    let columns = columns.collect::<Result<_, _>>().map_err(|error| malformed(&error))?;
    let rows = RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| malformed(&error))?;
    Ok(Page { keys: keys.clone(), batch: Arc::new(rows), at: 0 })
}

fn check_order<K: Keys>(keys: &K, last: Option<&UnitKey>) -> Result<()> {
    let mut in_order = last.is_none_or(|last| *last <= keys.to_unit(0));
    for index in 1..keys.len() {
        in_order &= keys.compare(index - 1, keys, index).is_le();
    }
    if in_order { Ok(()) } else { Err(defect("the sorted units of a view are not in order")) }
}

/// Arrow's message may quote a value.
fn malformed(_: &ArrowError) -> Fault {
    defect("a batch of a view does not have the planned columns")
}

fn defect(fact: &str) -> Fault {
    Fault::new(Code::Internal, fact, "report this as a defect")
}
