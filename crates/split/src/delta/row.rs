//! One row of a tensor: finding, storing and applying its changes.

use residua_format::GapPattern;
use residua_format::file::Dtype;
use residua_format::gap::RowPlan;

use super::DeltaOp;

/// Elements of a row. A power of two, so that a row is a subtree of the tensor's hash. At most 65,536, so that no
/// column needs more than two bytes.
pub(crate) const ROW: usize = 1 << 16;

/// How a tensor is cut into rows: [`ROW`] elements each, in memory order. The last row may be shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Bytes of an element: 1, 2, 4 or 8. Elements of less than a byte are taken together, byte by byte.
    pub(crate) size: usize,
    /// Number of elements; of bytes, for elements of less than a byte.
    pub(crate) elements: u64,
}

impl Layout {
    pub(crate) fn new(dtype: Dtype, bytes: u64) -> Self {
        let size = (dtype.bitsize() / 8).max(1);
        Self { size, elements: bytes / size as u64 }
    }

    /// `[rows, cols]` of the sparse matrix.
    pub(crate) fn shape(self) -> [usize; 2] {
        [self.rows() as usize, self.elements.min(ROW as u64) as usize]
    }

    pub(crate) fn rows(self) -> u64 {
        self.elements.div_ceil(ROW as u64)
    }

    /// Bytes of every row but the last.
    pub(crate) fn row_bytes(self) -> u64 {
        (ROW * self.size) as u64
    }

    /// Where a row starts, and how many bytes it has.
    pub(crate) fn row(self, row: u64) -> (u64, usize) {
        let start = row * self.row_bytes();
        (start, (self.elements * self.size as u64 - start).min(self.row_bytes()) as usize)
    }

    /// Bytes of the longest row.
    pub(crate) fn longest_row(self) -> usize {
        self.shape()[1] * self.size
    }

    /// The element type of the value plane: raw bits of this width.
    pub(crate) fn plane_dtype(self) -> Dtype {
        match self.size {
            1 => Dtype::U8,
            2 => Dtype::U16,
            4 => Dtype::U32,
            _ => Dtype::U64,
        }
    }
}

/// Calls a function that is generic over the size of an element.
macro_rules! by_size {
    ($size:expr, $function:ident($($argument:expr),*)) => {
        match $size {
            1 => $function::<1>($($argument),*),
            2 => $function::<2>($($argument),*),
            4 => $function::<4>($($argument),*),
            _ => $function::<8>($($argument),*),
        }
    };
}

/// Finds the elements of `size` bytes in which two rows of equal length differ. Replaces the content of `columns`.
pub(crate) fn changed(size: usize, old: &[u8], new: &[u8], columns: &mut Vec<u32>) {
    columns.clear();
    by_size!(size, changed_of(old, new, columns));
}

/// Bytes that are compared at once. Most spans are equal.
const SPAN: usize = 64;

fn changed_of<const SIZE: usize>(old: &[u8], new: &[u8], columns: &mut Vec<u32>) {
    let (old_spans, old_rest) = old.as_chunks::<SPAN>();
    let (new_spans, new_rest) = new.as_chunks::<SPAN>();
    let per_span = SPAN / SIZE;
    for (span, (old, new)) in old_spans.iter().zip(new_spans).enumerate() {
        if old != new {
            push_changed::<SIZE>(old, new, span * per_span, columns);
        }
    }
    push_changed::<SIZE>(old_rest, new_rest, old_spans.len() * per_span, columns);
}

/// Compares up to one span, whose first element has column `first`.
fn push_changed<const SIZE: usize>(old: &[u8], new: &[u8], first: usize, columns: &mut Vec<u32>) {
    // No branches: they would be unpredictable. Every column is written; only changed ones advance the count.
    let mut found = [0; SPAN];
    let mut count = 0;
    let pairs = old.as_chunks::<SIZE>().0.iter().zip(new.as_chunks::<SIZE>().0);
    for (i, (old, new)) in pairs.enumerate() {
        found[count] = (first + i) as u32;
        count += usize::from(old != new);
    }
    columns.extend_from_slice(&found[..count]);
}

/// Appends the elements at `columns` to `index` and `values`, encoded by `plan`.
pub(crate) fn encode(
    plan: &RowPlan,
    layout: Layout,
    op: DeltaOp,
    (old, new): (&[u8], &[u8]),
    columns: &[u32],
    (index, values): (&mut Vec<u8>, &mut Vec<u8>),
) {
    by_size!(layout.size, encode_of(plan, layout, op, (old, new), columns, (index, values)));
}

fn encode_of<const SIZE: usize>(
    plan: &RowPlan,
    layout: Layout,
    op: DeltaOp,
    (old, new): (&[u8], &[u8]),
    columns: &[u32],
    (index, values): (&mut Vec<u8>, &mut Vec<u8>),
) {
    let (old, new) = (old.as_chunks::<SIZE>().0, new.as_chunks::<SIZE>().0);
    plan.encode(columns, layout.shape()[1], index, |place| {
        let bits = match place {
            None => [0; SIZE],
            Some(i) => {
                let column = columns[i] as usize;
                match op {
                    DeltaOp::Overwrite => new[column],
                    DeltaOp::Xor => xor(old[column], new[column]),
                }
            }
        };
        values.extend_from_slice(&bits);
    });
}

/// Applies the entries of a pattern's row `at` to `row`; `values` are those of that row. `None` if a column lies beyond
/// its end, or there are fewer values than entries.
pub(crate) fn apply(
    size: usize,
    op: DeltaOp,
    (pattern, at): (&GapPattern, usize),
    values: &[u8],
    row: &mut [u8],
) -> Option<()> {
    by_size!(size, apply_of(op, (pattern, at), values, row))
}

fn apply_of<const SIZE: usize>(
    op: DeltaOp,
    (pattern, at): (&GapPattern, usize),
    values: &[u8],
    row: &mut [u8],
) -> Option<()> {
    let (row, values) = (row.as_chunks_mut::<SIZE>().0, values.as_chunks::<SIZE>().0);
    for (position, column) in pattern.row(at) {
        let (element, &bits) = (row.get_mut(column as usize)?, values.get(position)?);
        *element = match op {
            DeltaOp::Overwrite => bits,
            DeltaOp::Xor => xor(*element, bits),
        };
    }
    Some(())
}

fn xor<const SIZE: usize>(a: [u8; SIZE], b: [u8; SIZE]) -> [u8; SIZE] {
    std::array::from_fn(|i| a[i] ^ b[i])
}
