//! Register kernels: questions that carry a few numbers from row to row, and nothing else.
//!
//! A question of this form is proved to keep nothing between units, so that the host asks about millions of rows per
//! second in one instance. Its author writes what a unit begins with, what a row makes of it, and what becomes of it:
//! three functions over plain numbers. [`kernel!`](crate::kernel!) makes two things of them: the kernel, which is a module
//! of its own and lies in the finished component, and the component's ordinary function, which says the same where the
//! host does not take the kernel.
//!
//! ```
//! use glovebox_sdk::kernel::kernel;
//!
//! kernel! {
//!     struct Parameters { from: i64 }
//!     struct State { spend: f64, large: i64 }
//!     struct Row { value: Option<f64>, items: i64 }
//!     struct Answer { spend: f64 }
//!     groups { ["few"], ["many"] }
//! }
//!
//! #[inline(always)]
//! fn init(_: Parameters) -> State {
//!     State { spend: 0.0, large: 0 }
//! }
//!
//! #[inline(always)]
//! fn step(parameters: Parameters, state: State, row: Row) -> State {
//!     let large = state.large + i64::from(row.items >= parameters.from);
//!     State { spend: state.spend + row.value.unwrap_or(0.0), large }
//! }
//!
//! /// The position of a group, and what the unit adds to it; nothing for a unit that adds nothing.
//! #[inline(always)]
//! fn emit(_: Parameters, state: State) -> Option<(u32, Answer)> {
//!     Some((u32::from(state.large > 1), Answer { spend: state.spend }))
//! }
//!
//! // `measure` is the function of the ordinary question: test it on the host.
//! use glovebox_sdk::analytical::Contribution;
//! use glovebox_sdk::{Rows, Views};
//! let rows = Rows::builder().float64([Some(2.0), None]).int64([9, 1]).build();
//! let answer = measure(&glovebox_sdk::Parameters::from([5.into()]), &Views::from([rows]));
//! assert_eq!(answer, [Contribution::new(["few"], [2.0])]);
//! ```

#[cfg(feature = "component")]
use crate::{Parameters, Rows};

use crate::{Date, Timestamp};

pub use crate::kernel_question as kernel;

/// A number as it lies in a register.
#[doc(hidden)]
pub trait Word: Copy {
    type Wire: Copy;

    fn lift(wire: Self::Wire) -> Self;

    fn lower(self) -> Self::Wire;
}

/// Defines words by how they come from a register and go there.
macro_rules! words {
    ($($word:ty: $wire:ty, $from:ident => $lift:expr, $to:ident => $lower:expr;)*) => {
        $(impl Word for $word {
            type Wire = $wire;

            fn lift($from: $wire) -> Self {
                $lift
            }

            fn lower(self) -> $wire {
                let $to = self;
                $lower
            }
        })*
    };
}

words! {
    bool: i32, wire => wire != 0, word => i32::from(word);
    i32: i32, wire => wire, word => word;
    u32: i32, wire => wire.cast_unsigned(), word => word.cast_signed();
    i64: i64, wire => wire, word => word;
    u64: i64, wire => wire.cast_unsigned(), word => word.cast_signed();
    f64: f64, wire => wire, word => word;
    Date: i32, wire => Date::from_days(wire), word => word.days();
    Timestamp: i64, wire => Timestamp::from_microseconds(wire), word => word.microseconds();
}

/// What a column may hold: the contract's types but for texts.
#[doc(hidden)]
pub trait Cell: Word {
    /// The letter of the type in the kernel's section; a nullable column has the capital.
    const LETTER: u8;

    #[cfg(feature = "component")]
    fn read(rows: &Rows, column: usize, row: usize) -> Option<Self>;
}

/// What a parameter may be: the contract's types but for texts.
#[doc(hidden)]
pub trait Parameter: Word {
    #[cfg(feature = "component")]
    fn read(parameters: &Parameters, position: usize) -> Self;
}

/// Defines cells, by letter and accessor, and parameters, by accessor.
macro_rules! columns {
    ($($cell:ty: $letter:literal $accessor:ident,)*) => {
        $(impl Cell for $cell {
            const LETTER: u8 = $letter;

            #[cfg(feature = "component")]
            fn read(rows: &Rows, column: usize, row: usize) -> Option<Self> {
                rows.$accessor(column).get(row)
            }
        })*
    };
}

macro_rules! parameters {
    ($($parameter:ty: $accessor:ident,)*) => {
        $(impl Parameter for $parameter {
            #[cfg(feature = "component")]
            fn read(parameters: &Parameters, position: usize) -> Self {
                parameters.$accessor(position)
            }
        })*
    };
}

columns! {
    bool: b'b' boolean,
    i64: b'i' int64,
    f64: b'f' float64,
    Date: b'd' date,
    Timestamp: b't' timestamp,
}

parameters! {
    bool: boolean,
    i64: int64,
    f64: float64,
}

/// The cell of a column that is not nullable. In an instance, as in a kernel, a unit with a null there has no answer.
#[cfg(feature = "component")]
#[doc(hidden)]
pub fn present<C: Cell>(rows: &Rows, column: usize, row: usize) -> C {
    match C::read(rows, column, row) {
        Some(cell) => cell,
        None => crate::fault::fault!("row {row} is null; let its field be an `Option`, or its column not be nullable"),
    }
}

/// Ends a kernel that does what has no answer, as division by zero.
#[cfg(all(not(feature = "component"), target_family = "wasm"))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

/// Makes a register kernel, and an ordinary question that says the same, of three functions; see [`kernel`](crate::kernel).
///
/// It defines the four types, which are plain data, and calls `init`, `step` and `emit`, which the crate defines; they
/// are to be `#[inline(always)]`, as is what they call. At most 16 fields each. Use it once per crate.
#[macro_export]
macro_rules! kernel_question {
    (
        $(#[$of_parameters:meta])* struct Parameters { $($p:ident: $pt:ty),* $(,)? }
        $(#[$of_state:meta])* struct State { $($s:ident: $st:ty),* $(,)? }
        $(#[$of_row:meta])* struct Row { $($row:tt)* }
        $(#[$of_answer:meta])* struct Answer { $($a:ident: f64),* $(,)? }
        groups { $([$($part:literal),+ $(,)?]),* $(,)? }
    ) => {
        $(#[$of_parameters])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        struct Parameters { $($p: $pt),* }

        $(#[$of_state])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        struct State { $($s: $st),* }

        $(#[$of_row])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        struct Row { $($row)* }

        $(#[$of_answer])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        struct Answer { $($a: f64),* }

        $crate::kernel_fields! {
            [] [$($row)*,] [] [$($p: $pt,)*] [] [$($s: $st,)*] [$($a)*] [$([$($part)+])*]
        }
    };
}

/// Takes fields apart, one at a time, so that each gets names that no other has: `[field [names: types] [value] [type]]`.
#[doc(hidden)]
#[macro_export]
macro_rules! kernel_fields {
    // Rows: the parameters of a function, the field's value, and its type, which is marked where it is nullable.
    ([$($done:tt)*] [$name:ident: Option<$ty:ty>, $($more:tt)*] $($rest:tt)*) => {
        $crate::kernel_fields! {
            [$($done)* [
                $name [value: <$ty as $crate::kernel::Word>::Wire, valid: i32,]
                [(valid != 0).then_some(<$ty as $crate::kernel::Word>::lift(value))] [nullable $ty]
            ]] [$($more)*] $($rest)*
        }
    };
    ([$($done:tt)*] [$name:ident: $ty:ty, $($more:tt)*] $($rest:tt)*) => {
        $crate::kernel_fields! {
            [$($done)* [
                $name [value: <$ty as $crate::kernel::Word>::Wire,]
                [<$ty as $crate::kernel::Word>::lift(value)] [$ty]
            ]] [$($more)*] $($rest)*
        }
    };
    // Parameters, and then the state.
    ($row:tt [$(,)?] [$($done:tt)*] [$name:ident: $ty:ty, $($more:tt)*] $($rest:tt)*) => {
        $crate::kernel_fields! {
            $row [] [$($done)* [
                $name [word: <$ty as $crate::kernel::Word>::Wire,] [<$ty as $crate::kernel::Word>::lift(word)] [$ty]
            ]] [$($more)*] $($rest)*
        }
    };
    ($row:tt [$(,)?] $parameters:tt [] [$($done:tt)*] [$name:ident: $ty:ty, $($more:tt)*] $($rest:tt)*) => {
        $crate::kernel_fields! {
            $row [] $parameters [] [$($done)* [
                $name [word: <$ty as $crate::kernel::Word>::Wire,] [<$ty as $crate::kernel::Word>::lift(word)] [$ty]
            ]] [$($more)*] $($rest)*
        }
    };
    ($row:tt [$(,)?] $parameters:tt [] $state:tt [] $answer:tt $groups:tt) => {
        $crate::kernel_expansion! { $row $parameters $state $answer $groups }
    };
}

/// The ordinary question: one loop over the rows.
#[cfg(feature = "component")]
#[doc(hidden)]
#[macro_export]
macro_rules! kernel_expansion {
    (
        [$([$r:ident $_rw:tt $_rv:tt [$($column:tt)+]])*] [$([$p:ident $_pw:tt $_pv:tt [$pt:ty]])*] $state:tt [$($a:ident)*]
        [$([$($part:literal)+])*]
    ) => {
        $crate::analytical::question!(measure);

        fn measure(
            parameters: &$crate::Parameters,
            views: &$crate::Views,
        ) -> ::std::vec::Vec<$crate::analytical::Contribution> {
            const GROUPS: &[&[&str]] = &[$(&[$($part),+]),*];
            let [rows] = views.slots();
            // Fields are read in the order in which they are written, which is the manifest's.
            let mut _position = 0..;
            let parameters = Parameters {
                $($p: <$pt as $crate::kernel::Parameter>::read(parameters, _position.next().unwrap_or_default())),*
            };
            let mut state = init(parameters);
            for row in 0..rows.len() {
                let mut _column = 0..;
                let row = Row { $($r: $crate::kernel_cell!(rows, _column, row, $($column)+)),* };
                state = step(parameters, state, row);
            }
            let Some((group, answer)) = emit(parameters, state) else { return ::std::vec::Vec::new() };
            let group = GROUPS.get(group as usize);
            let contribution = |group: &&[&str]| {
                $crate::analytical::Contribution::new(group.iter().copied(), [$(answer.$a),*])
            };
            group.map(contribution).into_iter().collect()
        }
    };
}

/// The next column's cell, as its field has it.
#[cfg(feature = "component")]
#[doc(hidden)]
#[macro_export]
macro_rules! kernel_cell {
    ($rows:ident, $column:ident, $row:ident, nullable $ty:ty) => {
        <$ty as $crate::kernel::Cell>::read($rows, $column.next().unwrap_or_default(), $row)
    };
    ($rows:ident, $column:ident, $row:ident, $ty:ty) => {
        $crate::kernel::present::<$ty>($rows, $column.next().unwrap_or_default(), $row)
    };
}

/// The kernel: a function for each word of the state and of the answer, and what the columns and groups are.
#[cfg(not(feature = "component"))]
#[doc(hidden)]
#[macro_export]
macro_rules! kernel_expansion {
    (
        [$([$r:ident $rw:tt $rv:tt [$($column:tt)+]])*] $parameters:tt $state:tt $answer:tt
        [$([$($part:literal)+])*]
    ) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            const COLUMNS: &[u8] = &[$($crate::kernel_letter!($($column)+)),*];
            const KEYS: &str = concat!($($($part, "\u{1f}",)+ "\u{1e}",)*);

            #[used]
            #[unsafe(link_section = "glovebox:row")]
            static ROW: [u8; COLUMNS.len()] = $crate::kernel::array(COLUMNS);

            #[used]
            #[unsafe(link_section = "glovebox:groups")]
            static GROUPS: [u8; KEYS.len()] = $crate::kernel::array(KEYS.as_bytes());
        };

        $crate::kernel_words! {
            $state
            [
                ["init_0" "step_0"] ["init_1" "step_1"] ["init_2" "step_2"] ["init_3" "step_3"] ["init_4" "step_4"]
                ["init_5" "step_5"] ["init_6" "step_6"] ["init_7" "step_7"] ["init_8" "step_8"] ["init_9" "step_9"]
                ["init_10" "step_10"] ["init_11" "step_11"] ["init_12" "step_12"] ["init_13" "step_13"]
                ["init_14" "step_14"] ["init_15" "step_15"]
            ]
            $answer
            [
                "emit_1" "emit_2" "emit_3" "emit_4" "emit_5" "emit_6" "emit_7" "emit_8" "emit_9" "emit_10" "emit_11"
                "emit_12" "emit_13" "emit_14" "emit_15" "emit_16"
            ]
            { $parameters $state [$([$r $rw $rv])*] }
        }
    };
}

/// Gives each word the names of its functions.
#[cfg(not(feature = "component"))]
#[doc(hidden)]
#[macro_export]
macro_rules! kernel_words {
    (
        [[$s:ident $w:tt $v:tt [$st:ty]] $($words:tt)*] [[$init:literal $step:literal] $($names:tt)*] $answer:tt
        $emits:tt $context:tt
    ) => {
        $crate::kernel_function! { state $s $st, $init $step $context }
        $crate::kernel_words! { [$($words)*] [$($names)*] $answer $emits $context }
    };
    ([] $names:tt [$a:ident $($answers:tt)*] [$emit:literal $($emits:tt)*] $context:tt) => {
        $crate::kernel_function! { answer $a $emit $context }
        $crate::kernel_words! { [] $names [$($answers)*] [$($emits)*] $context }
    };
    ([] $names:tt [] $emits:tt $context:tt) => {
        $crate::kernel_function! { group $context }
    };
}

/// The functions of one word.
#[cfg(not(feature = "component"))]
#[doc(hidden)]
#[macro_export]
macro_rules! kernel_function {
    (
        state $s:ident $st:ty, $init:literal $step:literal {
            [$([$p:ident [$($pw:tt)*] [$pv:expr] $pt:tt])*] [$([$f:ident [$($fw:tt)*] [$fv:expr] $ft:tt])*]
            [$([$r:ident [$($rw:tt)*] [$rv:expr]])*]
        }
    ) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            #[unsafe(export_name = $init)]
            extern "C" fn begin($($($pw)*)*) -> <$st as $crate::kernel::Word>::Wire {
                $crate::kernel::Word::lower(init(Parameters { $($p: $pv),* }).$s)
            }

            #[unsafe(export_name = $step)]
            extern "C" fn next($($($pw)*)* $($($fw)*)* $($($rw)*)*) -> <$st as $crate::kernel::Word>::Wire {
                let (parameters, state) = (Parameters { $($p: $pv),* }, State { $($f: $fv),* });
                $crate::kernel::Word::lower(step(parameters, state, Row { $($r: $rv),* }).$s)
            }
        };
    };
    (
        answer $a:ident $emit:literal {
            [$([$p:ident [$($pw:tt)*] [$pv:expr] $pt:tt])*] [$([$f:ident [$($fw:tt)*] [$fv:expr] $ft:tt])*] $row:tt
        }
    ) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            #[unsafe(export_name = $emit)]
            extern "C" fn end($($($pw)*)* $($($fw)*)*) -> f64 {
                let (parameters, state) = (Parameters { $($p: $pv),* }, State { $($f: $fv),* });
                emit(parameters, state).map_or(0.0, |(_, answer)| answer.$a)
            }
        };
    };
    (
        group {
            [$([$p:ident [$($pw:tt)*] [$pv:expr] $pt:tt])*] [$([$f:ident [$($fw:tt)*] [$fv:expr] $ft:tt])*] $row:tt
        }
    ) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            #[unsafe(export_name = "emit_0")]
            extern "C" fn end($($($pw)*)* $($($fw)*)*) -> i32 {
                let (parameters, state) = (Parameters { $($p: $pv),* }, State { $($f: $fv),* });
                emit(parameters, state).map_or(-1, |(group, _)| group.cast_signed())
            }
        };
    };
}

/// The letter of a column.
#[cfg(not(feature = "component"))]
#[doc(hidden)]
#[macro_export]
macro_rules! kernel_letter {
    (nullable $ty:ty) => {
        <$ty as $crate::kernel::Cell>::LETTER.to_ascii_uppercase()
    };
    ($ty:ty) => {
        <$ty as $crate::kernel::Cell>::LETTER
    };
}

/// All of the bytes.
#[cfg(not(feature = "component"))]
#[doc(hidden)]
pub const fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}
