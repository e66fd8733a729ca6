//! The list of operators that a kernel may hold. What is not on it is refused.

use wasmparser::Operator;

use super::refusal::Forbidden;
use super::signature::is_number;

/// Whether an operator computes from the stack and the locals, and does nothing else.
///
/// Calls are followed by the walk. Some of the arithmetic traps; a trap ends the unit and leaves nothing behind.
pub(crate) fn allow(operator: &Operator<'_>) -> Result<(), Forbidden> {
    if is_control(operator) || is_integer(operator) || is_float(operator) || is_conversion(operator) {
        Ok(())
    } else {
        Err(classify(operator))
    }
}

#[rustfmt::skip]
fn is_control(operator: &Operator<'_>) -> bool {
    use Operator as O;
    match operator {
        O::Unreachable | O::Nop | O::Block { .. } | O::Loop { .. } | O::If { .. } | O::Else | O::End
        | O::Br { .. } | O::BrIf { .. } | O::BrTable { .. } | O::Return | O::Call { .. }
        | O::Drop | O::Select | O::LocalGet { .. } | O::LocalSet { .. } | O::LocalTee { .. }
        | O::I32Const { .. } | O::I64Const { .. } | O::F64Const { .. } => true,
        O::TypedSelect { ty } => is_number(ty),
        _ => false,
    }
}

#[rustfmt::skip]
fn is_integer(operator: &Operator<'_>) -> bool {
    use Operator as O;
    matches!(
        operator,
        O::I32Eqz | O::I32Eq | O::I32Ne | O::I32LtS | O::I32LtU | O::I32GtS | O::I32GtU | O::I32LeS | O::I32LeU
        | O::I32GeS | O::I32GeU
        | O::I64Eqz | O::I64Eq | O::I64Ne | O::I64LtS | O::I64LtU | O::I64GtS | O::I64GtU | O::I64LeS | O::I64LeU
        | O::I64GeS | O::I64GeU
        | O::I32Clz | O::I32Ctz | O::I32Popcnt | O::I32Add | O::I32Sub | O::I32Mul | O::I32DivS | O::I32DivU
        | O::I32RemS | O::I32RemU | O::I32And | O::I32Or | O::I32Xor | O::I32Shl | O::I32ShrS | O::I32ShrU
        | O::I32Rotl | O::I32Rotr
        | O::I64Clz | O::I64Ctz | O::I64Popcnt | O::I64Add | O::I64Sub | O::I64Mul | O::I64DivS | O::I64DivU
        | O::I64RemS | O::I64RemU | O::I64And | O::I64Or | O::I64Xor | O::I64Shl | O::I64ShrS | O::I64ShrU
        | O::I64Rotl | O::I64Rotr
        | O::I32Extend8S | O::I32Extend16S | O::I64Extend8S | O::I64Extend16S | O::I64Extend32S
    )
}

/// Without `f64.copysign`, which compilers have got wrong (CVE-2026-24116) and of which Rust makes little use.
#[rustfmt::skip]
fn is_float(operator: &Operator<'_>) -> bool {
    use Operator as O;
    matches!(
        operator,
        O::F64Eq | O::F64Ne | O::F64Lt | O::F64Gt | O::F64Le | O::F64Ge
        | O::F64Abs | O::F64Neg | O::F64Ceil | O::F64Floor | O::F64Trunc | O::F64Nearest | O::F64Sqrt | O::F64Add
        | O::F64Sub | O::F64Mul | O::F64Div | O::F64Min | O::F64Max
    )
}

#[rustfmt::skip]
fn is_conversion(operator: &Operator<'_>) -> bool {
    use Operator as O;
    matches!(
        operator,
        O::I32WrapI64 | O::I64ExtendI32S | O::I64ExtendI32U
        | O::I32TruncF64S | O::I32TruncF64U | O::I64TruncF64S | O::I64TruncF64U
        | O::I32TruncSatF64S | O::I32TruncSatF64U | O::I64TruncSatF64S | O::I64TruncSatF64U
        | O::F64ConvertI32S | O::F64ConvertI32U | O::F64ConvertI64S | O::F64ConvertI64U
        | O::I64ReinterpretF64 | O::F64ReinterpretI64
    )
}

/// Names what a refused operator does. It decides nothing: whatever comes here is refused.
#[rustfmt::skip]
fn classify(operator: &Operator<'_>) -> Forbidden {
    use Operator as O;
    match operator {
        O::I32Load { .. } | O::I64Load { .. } | O::F32Load { .. } | O::F64Load { .. } | O::I32Load8S { .. }
        | O::I32Load8U { .. } | O::I32Load16S { .. } | O::I32Load16U { .. } | O::I64Load8S { .. }
        | O::I64Load8U { .. } | O::I64Load16S { .. } | O::I64Load16U { .. } | O::I64Load32S { .. }
        | O::I64Load32U { .. } => Forbidden::MemoryLoad,
        O::I32Store { .. } | O::I64Store { .. } | O::F32Store { .. } | O::F64Store { .. } | O::I32Store8 { .. }
        | O::I32Store16 { .. } | O::I64Store8 { .. } | O::I64Store16 { .. } | O::I64Store32 { .. } => {
            Forbidden::MemoryStore
        }
        O::MemorySize { .. } => Forbidden::MemorySize,
        O::MemoryGrow { .. } => Forbidden::MemoryGrow,
        O::MemoryInit { .. } | O::DataDrop { .. } | O::MemoryCopy { .. } | O::MemoryFill { .. } => {
            Forbidden::MemoryBulk
        }
        O::GlobalGet { .. } => Forbidden::GlobalGet,
        O::GlobalSet { .. } => Forbidden::GlobalSet,
        O::TableInit { .. } | O::ElemDrop { .. } | O::TableCopy { .. } | O::TableFill { .. } | O::TableGet { .. }
        | O::TableSet { .. } | O::TableGrow { .. } | O::TableSize { .. } => Forbidden::Table,
        O::CallIndirect { .. } => Forbidden::CallIndirect,
        O::RefNull { .. } | O::RefIsNull | O::RefFunc { .. } => Forbidden::FunctionReference,
        other if is_vector(other) => Forbidden::Vector,
        _ => Forbidden::Unknown,
    }
}

macro_rules! is_vector {
    ($( @$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
        fn is_vector(operator: &Operator<'_>) -> bool {
            match operator {
                $(Operator::$op { .. } => is_vector!(@ $proposal),)*
                _ => false,
            }
        }
    };
    (@ simd) => { true };
    (@ relaxed_simd) => { true };
    (@ $other:ident) => { false };
}
wasmparser::for_each_operator!(is_vector);
