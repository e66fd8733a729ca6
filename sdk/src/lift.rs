//! Takes over what the bindings lifted out of the component's arguments.
//!
//! Every world has types of its own for the same shapes. Here they become the SDK's, by moving: no list is copied.

use crate::parameters::{Parameter, Parameters};
use crate::rows::{Rows, Stored, Strings, Values, Views};

/// Defines `views` and `parameters` for the `data` interface of one world.
macro_rules! lift {
    ($world:ident, $data:path) => {
        pub(crate) mod $world {
            use super::{Parameter, Parameters, Rows, Stored, Strings, Values, Views};
            use $data as data;

            pub(crate) fn views(views: Vec<data::Rows>) -> Views {
                Views(views.into_iter().map(rows).collect())
            }

            pub(crate) fn parameters(parameters: Vec<data::Parameter>) -> Parameters {
                Parameters(parameters.into_iter().map(parameter).collect())
            }

            fn rows(data::Rows { count, columns }: data::Rows) -> Rows {
                Rows { count: count as usize, columns: columns.into_iter().map(column).collect() }
            }

            fn column(data::Column { validity, values }: data::Column) -> Stored {
                let values = match values {
                    data::Values::Boolean(bits) => Values::Boolean(bits),
                    data::Values::Int64(numbers) => Values::Int64(numbers),
                    data::Values::Float64(numbers) => Values::Float64(numbers),
                    data::Values::Date(days) => Values::Date(days),
                    data::Values::Timestamp(microseconds) => Values::Timestamp(microseconds),
                    data::Values::Utf8(texts) => Values::Utf8(strings(texts)),
                    data::Values::Dictionary(data::Dictionary { codes, words }) => {
                        Values::Dictionary { codes, words: strings(words) }
                    }
                };
                Stored { validity, values }
            }

            fn strings(data::Strings { offsets, bytes }: data::Strings) -> Strings {
                Strings { offsets, bytes }
            }

            fn parameter(parameter: data::Parameter) -> Parameter {
                match parameter {
                    data::Parameter::Boolean(value) => Parameter::Boolean(value),
                    data::Parameter::Int64(value) => Parameter::Int64(value),
                    data::Parameter::Float64(value) => Parameter::Float64(value),
                    data::Parameter::Utf8(value) => Parameter::Utf8(value),
                }
            }
        }
    };
}

lift!(analytical, glovebox_world_analytical::data);
lift!(list, glovebox_world_list::data);
