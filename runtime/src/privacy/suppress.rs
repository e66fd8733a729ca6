//! Exact tables: which cells are published, and how they are rounded. No noise, and no formal promise.
//!
//! A cell is left out where fewer than k units stand behind it, or where one unit makes up most of a value (primary
//! suppression). More cells are left out so that no total gives those away (complementary suppression). Against two
//! attackers this is exact; against others it is a heuristic, as auditing in general is intractable:
//!
//! * One who knows all totals along one column, or the total of the table: in each of these lines at least two cells with
//!   units are left out, and together they could be published (Cox, "Suppression methodology and statistical disclosure
//!   control", 1980).
//! * One who knows all totals along both of two columns: the table tells him no sum over cells of one line that could not
//!   be published, unless the totals tell it alone. The first rule is not enough for that: a single cell that connects
//!   two cycles of cells that were left out follows from the totals (see [`cuts`]).
//!
//! Of a table with more columns, every plane of two columns is looked at, the others fixed; totals along three columns
//! together can still give a cell away, so [`COLUMNS_MAX`] is two. Nobody is kept from bounds
//! ("at most 60"), from what follows of knowing these rules, or from combining tables: for that there is the history.
//!
//! A cell without any unit is not published either: "nobody" is an exact statement about fewer than k units. But it
//! shields nothing: which cells are empty is often common knowledge, so all attackers are taken to know it, and only
//! cells with units count as left out. Open and closed keys are the same in this; a dropped key is a cell left out.

mod cuts;

use std::collections::{BTreeMap, BTreeSet};

use self::cuts::Graph;
use crate::room::Controls;

/// The most group columns for which the second rule is exact.
pub(crate) const COLUMNS_MAX: usize = 2;

/// What the owners demand of a published cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// k: the fewest distinct units behind a published number.
    pub(crate) k_min: u32,
    /// The largest part of a value's sum of magnitudes that may come from one unit, in percent.
    pub(crate) dominance_percent: u32,
    /// Counts are multiples of this; sums of as many times the part of one unit in k.
    pub(crate) round_to: u32,
    /// Whether cells are left out to keep others from following.
    pub(crate) suppress_complement: bool,
    /// The most cells to which one unit contributes: units of several cells together may be the same ones.
    pub(crate) groups_per_unit: u32,
}

impl Rules {
    /// The owners' rules, for a question of so many groups per unit.
    pub(super) fn of(controls: &Controls, groups_per_unit: u32) -> Self {
        Self {
            k_min: controls.k_min,
            dominance_percent: controls.dominance_percent,
            round_to: controls.round_to,
            suppress_complement: controls.suppress_complement,
            groups_per_unit,
        }
    }
}

#[cfg(test)]
impl Default for Rules {
    fn default() -> Self {
        Self { k_min: 50, dominance_percent: 50, round_to: 10, suppress_complement: true, groups_per_unit: 1 }
    }
}

/// One cell of a raw table. Keys are distinct and of one length.
#[derive(Clone)]
pub(crate) struct Cell {
    pub(crate) key: Vec<String>,
    /// Distinct units, whoever knows them.
    pub(crate) units: u64,
    /// Distinct units that every required party has.
    pub(crate) contributors: u64,
    pub(crate) values: Vec<Total>,
}

/// What the units of a cell contributed to one value, in steps of its grid.
#[derive(Clone, Copy, Default)]
pub(crate) struct Total {
    pub(crate) sum: i128,
    /// The sum of the units' magnitudes.
    pub(crate) abs_sum: u128,
    /// The largest unit's magnitude.
    pub(crate) abs_max: u128,
}

/// A cell that may leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) count: u64,
    pub(crate) sums: Vec<i128>,
}

/// The rounded cells, in the order of the raw ones, without those that are left out. `bounds` has for each value the
/// largest magnitude of one unit's contribution.
pub(crate) fn publish(cells: &[Cell], bounds: &[u64], rules: &Rules) -> Vec<Option<Published>> {
    let rounded = |cell: &Cell| Published {
        count: round_count(cell.contributors, rules.round_to),
        sums: cell
            .values
            .iter()
            .zip(bounds)
            .map(|(value, bound)| round_sum(value.sum, sum_step(*bound, rules)))
            .collect(),
    };
    cells.iter().zip(suppressed(cells, rules)).map(|(cell, hidden)| (!hidden).then(|| rounded(cell))).collect()
}

/// For each cell whether it is left out.
pub(crate) fn suppressed(cells: &[Cell], rules: &Rules) -> Vec<bool> {
    let mut table = Table::new(cells, rules);
    if rules.suppress_complement {
        let (lines, planes) = (table.lines(), table.planes());
        while table.close_lines(&lines) | table.close_planes(&planes) {}
    }
    table.hidden
}

/// The nearest multiple; halves go up.
pub(crate) fn round_count(count: u64, round_to: u32) -> u64 {
    let step = u64::from(round_to.max(1));
    let rest = count % step;
    if rest >= step - rest { (count - rest).saturating_add(step) } else { count - rest }
}

/// The nearest multiple; halves go up, also below zero.
pub(crate) fn round_sum(sum: i128, step: u128) -> i128 {
    let step = i128::try_from(step).unwrap_or(i128::MAX).max(1);
    let rest = sum.rem_euclid(step);
    let multiples = sum.div_euclid(step) + i128::from(rest >= step - rest);
    multiples.saturating_mul(step)
}

/// What a sum is rounded to: the part of one unit's largest contribution that a count's rounding has in k, in grid steps.
pub(crate) fn sum_step(bound: u64, rules: &Rules) -> u128 {
    let product = u128::from(bound) * u128::from(rules.round_to.max(1));
    product.div_ceil(u128::from(rules.k_min.max(1))).max(1)
}

/// A table while cells are being left out.
struct Table<'a> {
    cells: &'a [Cell],
    rules: &'a Rules,
    /// The cells with units, smallest first: the order in which they are given up.
    order: Vec<usize>,
    hidden: Vec<bool>,
}

/// Cells whose total may be known, smallest first.
type Line = Vec<usize>;

/// The cells that share all but two columns.
struct Plane {
    /// The cell of each edge, smallest first.
    cells: Vec<usize>,
    graph: Graph,
    /// The blocks if every cell were left out, and how many edges each has at a vertex: what totals alone tell.
    blocks: Vec<usize>,
    stars: BTreeMap<(usize, usize), usize>,
}

impl<'a> Table<'a> {
    fn new(cells: &'a [Cell], rules: &'a Rules) -> Self {
        let mut order: Vec<usize> = (0..cells.len()).filter(|cell| cells[*cell].units > 0).collect();
        order.sort_by_key(|cell| (cells[*cell].contributors, &cells[*cell].key));
        let mut table = Self { cells, rules, order, hidden: Vec::new() };
        table.hidden = (0..cells.len()).map(|cell| !table.could_be_published(&[cell])).collect();
        table
    }

    /// Whether the sums over some cells would be safe as a cell of their own.
    fn could_be_published(&self, cells: &[usize]) -> bool {
        let values = cells.iter().map(|cell| self.cells[*cell].values.len()).max().unwrap_or(0);
        self.has_enough_units(cells) && (0..values).all(|value| !self.is_dominated(cells, value))
    }

    /// Counts the fewest distinct units that the cells can have together.
    fn has_enough_units(&self, cells: &[usize]) -> bool {
        let contributors = || cells.iter().map(|cell| self.cells[*cell].contributors);
        let sum = contributors().fold(0, u64::saturating_add);
        let distinct = sum.div_ceil(self.rules.groups_per_unit.max(1).into()).max(contributors().max().unwrap_or(0));
        distinct >= u64::from(self.rules.k_min)
    }

    /// Whether one unit may make up too much. It may be the largest one of several cells.
    fn is_dominated(&self, cells: &[usize], value: usize) -> bool {
        let totals = || cells.iter().filter_map(|cell| self.cells[*cell].values.get(value));
        let mut largest: Vec<u128> = totals().map(|total| total.abs_max).collect();
        largest.sort_unstable_by(|one, other| other.cmp(one));
        largest.truncate(self.rules.groups_per_unit.max(1) as usize);
        let part = largest.into_iter().fold(0, u128::saturating_add);
        let whole = totals().fold(0, |sum: u128, total| sum.saturating_add(total.abs_sum));
        // What does not fit counts as dominated.
        let allowed = whole.saturating_mul(u128::from(self.rules.dominance_percent));
        part.checked_mul(100).is_none_or(|part| part > allowed)
    }

    fn columns(&self) -> usize {
        self.cells.first().map_or(0, |cell| cell.key.len())
    }

    /// The cells with units, by all columns but some.
    fn sharing_all_but(&self, columns: &[usize]) -> Vec<Line> {
        let mut lines: BTreeMap<Vec<&str>, Line> = BTreeMap::new();
        for cell in &self.order {
            let parts = self.cells[*cell].key.iter().enumerate();
            let shared = parts.filter(|(at, _)| !columns.contains(at)).map(|(_, part)| part.as_str()).collect();
            lines.entry(shared).or_default().push(*cell);
        }
        lines.into_values().collect()
    }

    /// The lines along each column, and the table as a whole.
    fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = (0..self.columns()).flat_map(|column| self.sharing_all_but(&[column])).collect();
        lines.push(self.order.clone());
        lines
    }

    fn planes(&self) -> Vec<Plane> {
        let columns = self.columns();
        let pairs = (0..columns).flat_map(|one| (one + 1..columns).map(move |two| [one, two]));
        let planes = pairs.flat_map(|pair| self.sharing_all_but(&pair).into_iter().map(move |cells| (pair, cells)));
        planes.map(|(pair, cells)| self.plane(pair, cells)).collect()
    }

    fn plane(&self, pair: [usize; 2], cells: Vec<usize>) -> Plane {
        let mut vertices: BTreeMap<(usize, &str), usize> = BTreeMap::new();
        let mut ends = Vec::with_capacity(cells.len());
        for cell in &cells {
            ends.push(pair.map(|column| {
                let next = vertices.len();
                *vertices.entry((column, self.cells[*cell].key[column].as_str())).or_insert(next)
            }));
        }
        let graph = Graph::new(vertices.len(), ends);
        let blocks = graph.blocks(|_| true);
        let stars = graph.stars(&blocks).into_iter().map(|(at, edges)| (at, edges.len())).collect();
        Plane { cells, graph, blocks, stars }
    }

    /// Brings every line in order by itself. Whether anything changed.
    fn close_lines(&mut self, lines: &[Line]) -> bool {
        let mut changed = false;
        for line in lines {
            let (mut hidden, shown): (Vec<usize>, Vec<usize>) = line.iter().partition(|cell| self.hidden[**cell]);
            for cell in shown {
                if hidden.is_empty() || (hidden.len() >= 2 && self.could_be_published(&hidden)) {
                    break;
                }
                self.hidden[cell] = true;
                hidden.push(cell);
                changed = true;
            }
        }
        changed
    }

    /// Leaves out more cells where totals of two columns tell too much together. Whether anything changed.
    fn close_planes(&mut self, planes: &[Plane]) -> bool {
        let mut changed = false;
        for plane in planes {
            loop {
                let needed = plane.needed(self);
                if needed.is_empty() {
                    break;
                }
                needed.into_iter().for_each(|cell| self.hidden[cell] = true);
                changed = true;
            }
        }
        changed
    }
}

impl Plane {
    /// Cells to leave out: one for each sum that follows and should not, of those that are apart from each other.
    fn needed(&self, table: &Table<'_>) -> Vec<usize> {
        let is_hidden = |edge: usize| table.hidden[self.cells[edge]];
        let mut touched = BTreeSet::new();
        let mut needed = Vec::new();
        for ((vertex, _), edges) in self.graph.stars(&self.graph.blocks(is_hidden)) {
            let cells: Vec<usize> = edges.iter().map(|edge| self.cells[*edge]).collect();
            if table.could_be_published(&cells) || self.totals_tell(vertex, &edges) {
                continue;
            }
            let mut part = self.graph.beyond(vertex, &edges, is_hidden);
            let Some(edge) = self.way_out(&part, self.blocks[edges[0]], is_hidden) else { continue };
            part.insert(vertex);
            // A cell that was just left out may have mended this as well: the next pass will tell.
            if part.is_disjoint(&touched) {
                touched.extend(part);
                needed.push(self.cells[edge]);
            }
        }
        needed
    }

    /// Whether the sum over these edges at a vertex would follow even if the whole plane were left out.
    fn totals_tell(&self, vertex: usize, edges: &[usize]) -> bool {
        self.stars.get(&(vertex, self.blocks[edges[0]])) == Some(&edges.len())
    }

    /// The smallest published cell that connects a part with the rest of its block.
    fn way_out(&self, part: &BTreeSet<usize>, block: usize, is_hidden: impl Fn(usize) -> bool) -> Option<usize> {
        let edges =
            part.iter().flat_map(|vertex| self.graph.edges_at(*vertex).iter().map(move |edge| (*vertex, *edge)));
        let leads_out = |(vertex, edge): &(usize, usize)| {
            !is_hidden(*edge) && self.blocks[*edge] == block && !part.contains(&self.graph.other_end(*edge, *vertex))
        };
        edges.filter(leads_out).map(|(_, edge)| edge).min()
    }
}

#[cfg(test)]
mod tests;
