//! The typed values that the agreement binds to the manifest's parameters.
//!
//! They are the same for every unit, but for a seed, which the host draws. It has checked each other value against its
//! range or allowed values, so a question never has to.

use std::borrow::Cow;

use crate::fault::fault;

/// The value of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// Of type `boolean`.
    Boolean(bool),
    /// Of type `int64`.
    Int64(i64),
    /// Of type `float64`.
    Float64(f64),
    /// Of type `utf8`.
    Utf8(Cow<'static, str>),
}

impl Parameter {
    fn name(&self) -> &'static str {
        match self {
            Self::Boolean(_) => "boolean",
            Self::Int64(_) => "int64",
            Self::Float64(_) => "float64",
            Self::Utf8(_) => "utf8",
        }
    }
}

impl From<bool> for Parameter {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i64> for Parameter {
    fn from(value: i64) -> Self {
        Self::Int64(value)
    }
}

impl From<f64> for Parameter {
    fn from(value: f64) -> Self {
        Self::Float64(value)
    }
}

impl From<&str> for Parameter {
    fn from(value: &str) -> Self {
        Self::Utf8(Cow::Owned(value.to_owned()))
    }
}

/// The parameters in the manifest's order.
///
/// ```
/// use glovebox_sdk::Parameters;
///
/// let parameters = Parameters::from(["CHEESE".into(), 12.into()]);
/// assert_eq!(parameters.utf8(0), "CHEESE");
/// assert_eq!(parameters.int64(1), 12);
/// ```
///
/// # Panics
/// Every access panics where the manifest has no parameter there, or one of another type.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters(pub(crate) Vec<Parameter>);

impl Parameters {
    /// The parameter at `position`, of type `boolean`.
    #[track_caller]
    pub fn boolean(&self, position: usize) -> bool {
        match self.at(position) {
            Parameter::Boolean(value) => *value,
            other => wrong_type(position, other),
        }
    }

    /// The parameter at `position`, of type `int64`.
    #[track_caller]
    pub fn int64(&self, position: usize) -> i64 {
        match self.at(position) {
            Parameter::Int64(value) => *value,
            other => wrong_type(position, other),
        }
    }

    /// The parameter at `position`, of type `float64`.
    #[track_caller]
    pub fn float64(&self, position: usize) -> f64 {
        match self.at(position) {
            Parameter::Float64(value) => *value,
            other => wrong_type(position, other),
        }
    }

    /// The parameter at `position`, of type `utf8`.
    #[track_caller]
    pub fn utf8(&self, position: usize) -> &str {
        match self.at(position) {
            Parameter::Utf8(value) => value,
            other => wrong_type(position, other),
        }
    }

    /// The parameter at `position`, of type `seed`: 64 random bits of this unit's own.
    ///
    /// A unit has the same ones whenever it is asked about within a run, and others in every other run.
    ///
    /// ```
    /// use glovebox_sdk::Parameters;
    ///
    /// /// Randomised response: every second unit says what is so, the others what a coin says.
    /// fn answer(parameters: &Parameters, truth: bool) -> bool {
    ///     let seed = parameters.seed(0);
    ///     if seed & 1 == 0 { truth } else { seed & 2 == 0 }
    /// }
    ///
    /// // In a test, any `int64` stands for one.
    /// let of = |seed: i64| answer(&Parameters::from([seed.into()]), true);
    /// assert_eq!([0, 1, 2, 3].map(of), [true, true, true, false]);
    /// ```
    #[track_caller]
    pub fn seed(&self, position: usize) -> u64 {
        self.int64(position).cast_unsigned()
    }

    #[track_caller]
    fn at(&self, position: usize) -> &Parameter {
        match self.0.get(position) {
            Some(parameter) => parameter,
            None => fault!("there is no parameter {position}; the question has {}", self.0.len()),
        }
    }
}

/// For tests: the values that an agreement would bind.
impl<const N: usize> From<[Parameter; N]> for Parameters {
    fn from(values: [Parameter; N]) -> Self {
        Self(values.into())
    }
}

#[cold]
#[track_caller]
fn wrong_type(position: usize, actual: &Parameter) -> ! {
    fault!("parameter {position} is of type {}; read it with `{}`", actual.name(), actual.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_reads_back() {
        let parameters = Parameters::from([true.into(), 0.5.into()]);
        assert!(parameters.boolean(0));
        assert_eq!(parameters.float64(1), 0.5);
    }

    #[test]
    #[should_panic(expected = "parameter 0 is of type utf8; read it with `utf8`")]
    fn a_wrong_type_is_named() {
        Parameters::from(["x".into()]).int64(0);
    }

    #[test]
    #[should_panic(expected = "there is no parameter 0; the question has 0")]
    fn a_wrong_position_is_named() {
        Parameters::default().boolean(0);
    }
}
