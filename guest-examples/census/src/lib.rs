//! Census: which number each unit has, in every statistic that the host can make of it.
//!
//! A unit's rows name its groups, by a whole number, and the amount that it brings to each. The same amount goes to all
//! measures that take a value, so that one component serves manifests of any measures: the parameter says how many. A
//! unit of which the second view has rows is counted on the other side, as in an outer join. A third view is the same
//! for all units, and is what a price list would be; its first number is added to every amount.

use glovebox_sdk::analytical::{Contribution, Parameters, Views, question};

question!(measure);

fn measure(parameters: &Parameters, views: &Views) -> Vec<Contribution> {
    let [people, others, prices] = views.slots();
    let values = usize::try_from(parameters.int64(0)).unwrap_or(0);
    let side = if others.is_empty() { "" } else { "-" };
    let added = if prices.is_empty() { 0.0 } else { prices.float64(0).get(0).unwrap_or(0.0) };
    let amounts = people.float64(1);
    let groups = people.int64(0);
    (0..people.len())
        .filter_map(|row| {
            let amount = amounts.get(row)? + added;
            Some(Contribution::new([format!("{side}{}", groups.get(row)?)], vec![amount; values]))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use glovebox_sdk::Rows;

    fn asked(others: &[i64], prices: &[f64]) -> Vec<Contribution> {
        let people = Rows::builder().int64([4, 5]).float64([1.5, 2.0]).build();
        let others = Rows::builder().int64(others.iter().copied()).build();
        let prices = Rows::builder().float64(prices.iter().copied()).build();
        measure(&Parameters::from([2.into()]), &Views::from([people, others, prices]))
    }

    #[test]
    fn a_group_for_every_row() {
        assert_eq!(asked(&[], &[]), [Contribution::new(["4"], [1.5, 1.5]), Contribution::new(["5"], [2.0, 2.0])]);
    }

    #[test]
    fn rows_elsewhere_change_the_side_and_prices_the_amount() {
        assert_eq!(asked(&[1], &[0.5])[0], Contribution::new(["-4"], [2.0, 2.0]));
    }
}
