//! Non-redeemers: households that got a campaign, bought the category and did not redeem a coupon.
//!
//! Answers for one household: out, or in as a light or heavy buyer. It never sees who the household is.

use glovebox_sdk::list::{Parameters, Views, question};

question!(select);

const LIGHT: u32 = 0;
const HEAVY: u32 = 1;

fn select(parameters: &Parameters, views: &Views) -> Option<u32> {
    let [purchases, campaigns, redemptions] = views.slots();
    if campaigns.is_empty() || !redemptions.is_empty() {
        return None;
    }
    let categories = purchases.dictionary(0);
    let wanted = categories.code_of(parameters.utf8(0))?;
    let bought = categories.codes().filter(|code| *code == Some(wanted)).count() as i64;
    let heavy_from = parameters.int64(1);
    Some(if bought >= heavy_from { HEAVY } else { LIGHT })
}

#[cfg(test)]
mod tests {
    use super::*;
    use glovebox_sdk::Rows;

    const CAMPAIGN: &[i64] = &[18];
    const NONE: &[i64] = &[];

    fn answer(categories: &[Option<&str>], campaigns: &[i64], redemptions: &[i64]) -> Option<u32> {
        let purchases = Rows::builder().dictionary(categories.iter().copied()).build();
        let campaigns = Rows::builder().int64(campaigns.iter().copied()).build();
        let redemptions = Rows::builder().int64(redemptions.iter().copied()).build();
        let parameters = Parameters::from(["CHEESE".into(), 2.into()]);
        select(&parameters, &Views::from([purchases, campaigns, redemptions]))
    }

    #[test]
    fn light_and_heavy_buyers() {
        assert_eq!(answer(&[Some("CHEESE"), None, Some("SOUP")], CAMPAIGN, NONE), Some(LIGHT));
        assert_eq!(answer(&[Some("CHEESE"), Some("CHEESE")], CAMPAIGN, NONE), Some(HEAVY));
    }

    #[test]
    fn others_stay_out() {
        assert_eq!(answer(&[Some("SOUP"), None], CAMPAIGN, NONE), None);
        assert_eq!(answer(&[Some("CHEESE")], NONE, NONE), None);
        assert_eq!(answer(&[Some("CHEESE")], CAMPAIGN, CAMPAIGN), None);
    }
}
