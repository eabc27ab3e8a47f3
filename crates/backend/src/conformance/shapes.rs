//! The patterns that break kernels.

use residua_format::Csr;

use super::data::{Data, Random};

/// A pattern by name.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) cols: usize,
    /// Columns of every row, rising.
    pub(super) rows: Vec<Vec<u32>>,
    /// Whether every other stored value is 0.
    pub(super) zeros: bool,
}

impl Shape {
    fn new(name: &'static str, cols: usize, rows: Vec<Vec<u32>>) -> Self {
        Self { name, cols, rows, zeros: false }
    }

    pub(super) fn nnz(&self) -> usize {
        self.rows.iter().map(Vec::len).sum()
    }

    /// The matrix with values of a kind.
    pub(super) fn matrix(&self, data: Data) -> Result<Csr<f32, u32>, String> {
        let mut random = Random(self.cols as u64);
        let mut row_ptr = vec![0];
        let (mut columns, mut values) = (Vec::new(), Vec::new());
        for row in &self.rows {
            for (i, &column) in row.iter().enumerate() {
                let value = data.stored(&mut random, i == 0);
                columns.push(column);
                values.push(if self.zeros && i % 2 == 1 { 0.0 } else { value });
            }
            row_ptr.push(columns.len() as u32);
        }
        Csr::new(self.rows.len(), self.cols, row_ptr, columns, values).map_err(|error| error.to_string())
    }
}

/// All of them.
pub(super) fn all() -> Vec<Shape> {
    let mut random = Random(1);
    let mut shapes = vec![
        Shape::new("no-rows", 5, vec![]),
        Shape::new("no-columns", 0, vec![vec![]; 5]),
        Shape::new("no-entries", 7, vec![vec![]; 5]),
        Shape::new("one-place", 1, vec![vec![0]]),
        Shape::new("one-row", 300, vec![scattered(&mut random, 300, 5)]),
        Shape::new(
            "one-column",
            1,
            (0..200).map(|row| if row % 3 == 0 { vec![] } else { vec![0] }).collect(),
        ),
        Shape::new("rows-of-one", 1000, (0..100).map(|_| vec![random.below(1000) as u32]).collect()),
        Shape::new("first-and-last-column", 4099, vec![vec![0], vec![4098], vec![0, 4098], vec![]]),
        Shape::new("odd-size", 129, (0..37).map(|_| scattered(&mut random, 129, 5)).collect()),
        Shape::new("full", 65, vec![(0..65).collect(); 19]),
        // Several panels of columns; the next shape has several blocks of rows.
        Shape::new("wide", 7001, (0..48).map(|_| scattered(&mut random, 7001, 10)).collect()),
        Shape::new("tall", 40, (0..1501).map(|_| scattered(&mut random, 40, 4)).collect()),
    ];
    let mut some_empty: Vec<_> = (0..70).map(|_| scattered(&mut random, 70, 6)).collect();
    for empty in [0, 1, 2, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 40, 68, 69] {
        some_empty[empty].clear();
    }
    shapes.push(Shape::new("empty-rows", 70, some_empty));
    // 60,000 entries beside rows of one.
    let mut long: Vec<Vec<u32>> = (0..20).map(|row| vec![row * 3000]).collect();
    long[7] = (0..70_000).filter(|column| column % 7 != 3).collect();
    shapes.push(Shape::new("row-of-60000", 70_000, long));
    let power = |row: usize, random: &mut Random| scattered(random, 3000, 1 + row * row / 4);
    shapes.push(Shape::new("uneven-rows", 3000, (0..90).map(|row| power(row, &mut random)).collect()));

    // One per row mode of the gap encoding, and rows of different modes in one matrix.
    let bitmap = |random: &mut Random| scattered(random, 1000, 2);
    let fillers = |random: &mut Random| apart(random, 6000, &[3, 30, 254, 255, 256, 257, 509, 510, 511, 766]);
    shapes.push(Shape::new("bitmap-rows", 1000, (0..40).map(|_| bitmap(&mut random)).collect()));
    shapes.push(Shape::new("rows-with-fillers", 6000, (0..40).map(|_| fillers(&mut random)).collect()));
    let sparse = (0..20).map(|_| scattered(&mut random, 60_000, 2500)).collect();
    shapes.push(Shape::new("absolute-16-rows", 60_000, sparse));
    let sparser = (0..9).map(|_| apart(&mut random, 500_000, &[1, 256, 65_535, 65_536, 70_000])).collect();
    shapes.push(Shape::new("absolute-32-rows", 500_000, sparser));
    let mixed = (0..32).map(|row| match row % 4 {
        0 => scattered(&mut random, 6000, 2),
        1 => fillers(&mut random),
        2 => scattered(&mut random, 6000, 1500),
        _ => vec![],
    });
    shapes.push(Shape::new("mixed-modes", 6000, mixed.collect()));
    // Zeros that a layout might take for fillers: at the largest gaps of one and two bytes, once beside narrow gaps and
    // once beside wider ones.
    for (name, cols, gaps) in [
        ("stored-zeros", 6000, &[1, 2, 3, 5, 7, 254, 255, 256, 510][..]),
        ("stored-zeros-far-apart", 400_000, &[300, 400, 510, 765, 65_534, 65_535, 65_536][..]),
    ] {
        let rows = (0..33).map(|_| apart(&mut random, cols, gaps)).collect();
        shapes.push(Shape { zeros: true, ..Shape::new(name, cols as usize, rows) });
    }
    shapes
}

/// Each column with probability 1 / `one_in`.
fn scattered(random: &mut Random, cols: u32, one_in: usize) -> Vec<u32> {
    (0..cols).filter(|_| random.below(one_in) == 0).collect()
}

/// Columns with gaps from a list.
fn apart(random: &mut Random, cols: u32, gaps: &[u32]) -> Vec<u32> {
    let mut columns = vec![random.below(gaps[gaps.len() - 1] as usize) as u32];
    while let Some(column) = columns.last().map(|last| last + gaps[random.below(gaps.len())]) {
        if column >= cols {
            break;
        }
        columns.push(column);
    }
    columns
}
