//! Reach: buyers, spend and mean basket per campaign type and income band.
//!
//! Answers for one household; the host counts the buyers. It never sees a household's identifier.

use glovebox_sdk::analytical::{Contribution, Parameters, Views, question};
use glovebox_sdk::blocked;

question!(measure);

fn measure(_: &Parameters, views: &Views) -> Vec<Contribution> {
    let [purchases, campaigns] = views.slots();
    let [basket_id, sales_value, income_band] = [0, 1, 2];

    let spend = blocked::sum(purchases.float64(sales_value).values());
    let mut baskets = purchases.int64(basket_id).values().to_vec();
    baskets.sort_unstable();
    baskets.dedup();
    let mean_basket = spend / baskets.len() as f64;

    // Constant per household: any row tells.
    let band = purchases.dictionary(income_band).value(0);
    let campaign_types = campaigns.dictionary(0);
    campaign_types.words().map(|campaign| Contribution::new([campaign, band], [spend, mean_basket])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use glovebox_sdk::Rows;

    #[test]
    fn one_contribution_per_distinct_campaign_type() {
        let purchases = Rows::builder().int64([7, 7, 8]).float64([1.0, 2.0, 5.0]).dictionary(["75K+"; 3]).build();
        let campaigns = Rows::builder().dictionary(["Type B", "Type A", "Type B"]).build();
        let answer = measure(&Parameters::default(), &Views::from([purchases, campaigns]));
        let values = [8.0, 4.0];
        let expected = [Contribution::new(["Type A", "75K+"], values), Contribution::new(["Type B", "75K+"], values)];
        assert_eq!(answer, expected);
    }
}
