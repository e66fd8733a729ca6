//! Whether a view's SQL computes each unit's rows from that unit's rows alone, as far as its plan shows.
//!
//! The unit of a row is followed from the plan's result down to the files: at each operator it is a function of some
//! columns. Rows that are grouped or joined must agree in these, and so are of one unit. What is not seen to be so counts
//! as across units: a wrong verdict is a warning too many.

use std::collections::BTreeSet;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, JoinType};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Aggregate, Distinct, Expr, Join, LogicalPlan, Operator};

/// Columns by their place in an operator's output.
type Columns = BTreeSet<usize>;

/// Whether some unit's rows may depend on another's, where the unit is the column of that name.
pub(super) fn computes_across_units(plan: &LogicalPlan, unit: &str) -> bool {
    let unit: Columns = plan.schema().index_of_column_by_name(None, unit).into_iter().collect();
    !is_within_units(plan, &unit)
}

/// Whether each row follows from rows of one unit, which is a function of these columns of it.
fn is_within_units(plan: &LogicalPlan, unit: &Columns) -> bool {
    // A constant is no unit, and what a subquery reads is everybody's.
    if unit.is_empty() || has_subquery(plan) {
        return false;
    }
    match plan {
        LogicalPlan::TableScan(_) | LogicalPlan::Values(_) => true,
        LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::SubqueryAlias(_)
        // Rows that are equal are of one unit. In a union it is the same function of the same columns.
        | LogicalPlan::Distinct(Distinct::All(_))
        | LogicalPlan::Union(_) => plan.inputs().into_iter().all(|input| is_within_units(input, unit)),
        LogicalPlan::Projection(projection) => {
            let below = columns_behind(&projection.expr, unit, projection.input.schema());
            below.is_some_and(|below| is_within_units(&projection.input, &below))
        }
        LogicalPlan::Aggregate(aggregate) => groups_within_units(aggregate, unit),
        LogicalPlan::Join(join) => joins_within_units(join, unit),
        _ => false,
    }
}

fn has_subquery(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let walked = plan.apply_subqueries(|_| {
        found = true;
        Ok(TreeNodeRecursion::Stop)
    });
    found || walked.is_err()
}

/// The columns of an input of which the expressions at these places are functions.
fn columns_behind(expressions: &[Expr], places: &Columns, input: &DFSchema) -> Option<Columns> {
    let mut below = Columns::new();
    for place in places {
        for column in expressions.get(*place)?.column_refs() {
            below.insert(input.maybe_index_of_column(column)?);
        }
    }
    Some(below)
}

/// All rows of a group are of one unit if the unit is among what they are grouped by.
fn groups_within_units(aggregate: &Aggregate, unit: &Columns) -> bool {
    let is_plain = !aggregate.group_expr.iter().any(|group| matches!(group, Expr::GroupingSet(_)));
    // A place beyond the groups is an aggregate's.
    let below = columns_behind(&aggregate.group_expr, unit, aggregate.input.schema());
    is_plain && below.is_some_and(|below| is_within_units(&aggregate.input, &below))
}

/// Two rows are of one unit if all that it is a function of is equal in both. It must be of the side whose rows all stay:
/// a row without a partner would be whose the other side does not say.
fn joins_within_units(join: &Join, unit: &Columns) -> bool {
    let width = join.left.schema().fields().len();
    let is_left = unit.iter().all(|place| *place < width);
    let is_right = unit.iter().all(|place| *place >= width);
    let stays = match join.join_type {
        JoinType::Inner => is_left || is_right,
        JoinType::Left => is_left,
        JoinType::Right => is_right,
        _ => false,
    };
    if !stays {
        return false;
    }
    let pairs = equal_columns(join);
    let partner = |place: &usize| {
        let of = |(left, right): &(usize, usize)| match is_left {
            true => (left == place).then_some(*right),
            false => (*right + width == *place).then_some(*left),
        };
        pairs.iter().find_map(of)
    };
    let own: Columns = unit.iter().map(|place| if is_left { *place } else { place - width }).collect();
    let Some(others) = unit.iter().map(partner).collect::<Option<Columns>>() else { return false };
    let (left, right) = if is_left { (&own, &others) } else { (&others, &own) };
    is_within_units(&join.left, left) && is_within_units(&join.right, right)
}

/// Pairs of columns, left and right, that are equal wherever two rows are joined.
fn equal_columns(join: &Join) -> Vec<(usize, usize)> {
    let (left, right) = (join.left.schema(), join.right.schema());
    let place = |schema: &DFSchema, expression: &Expr| schema.maybe_index_of_column(expression.try_as_col()?);
    let pair = |one: &Expr, other: &Expr| Some((place(left, one)?, place(right, other)?));
    let on = join.on.iter().filter_map(|(one, other)| pair(one, other));
    let conditions = join.filter.iter().flat_map(|filter| split_conjunction(filter));
    let equal = conditions.filter_map(|condition| match condition {
        Expr::BinaryExpr(equal) if equal.op == Operator::Eq => {
            pair(&equal.left, &equal.right).or_else(|| pair(&equal.right, &equal.left))
        }
        _ => None,
    });
    on.chain(equal).collect()
}
