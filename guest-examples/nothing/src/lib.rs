//! Nothing: contributes nothing, whatever it gets.
//!
//! The benchmark's baseline: what an instance and a call cost when the question costs nothing. It never reads a row.

use glovebox_sdk::analytical::{Contribution, Parameters, Views, question};

question!(measure);

fn measure(_: &Parameters, _: &Views) -> Vec<Contribution> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contributes_nothing() {
        assert_eq!(measure(&Parameters::default(), &Views::default()), []);
    }
}
