//! Arrays in `.npy` files, read a block of rows at a time.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::Dtype;

use super::{FortranOrder, NpyHeader};
use crate::Value;
use crate::file::number::{Number, Trouble};
use crate::file::positioned::read_exact_at;
use crate::file::{FileError, Result};

/// An array in a `.npy` file, open for positioned reads.
///
/// Format versions 1 to 3, C or Fortran order, either byte order; elements are booleans, integers of 8 to 64 bits,
/// or floats of 16, 32 or 64. Always checked: the header is well-formed and at most 10,000 bytes long, and the file
/// ends where the array does.
///
/// A *row* is what the first index chooses: of an array of shape `[n, d]` d elements, of one of shape `[n]` a single
/// one. Rows come out in row-major order whatever the order in the file.
///
/// ```
/// use residua_format::file::{Dense, NpyFile, write_npy};
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("x.npy");
/// write_npy(&path, &Dense::new(vec![3, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?)?;
/// let file = NpyFile::open(&path)?;
/// let mut rows = [0f64; 4];
/// file.read_rows(1..3, &mut rows)?;
/// assert_eq!(rows, [3.0, 4.0, 5.0, 6.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct NpyFile {
    path: PathBuf,
    file: File,
    number: Number,
    big_endian: bool,
    fortran: bool,
    shape: Vec<usize>,
    /// Where the data starts.
    start: u64,
}

/// What errors call the array.
const ARRAY: &str = "array";

impl NpyFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// When the file cannot be opened or is not a regular file, its header is malformed or longer than 10,000
    /// bytes, its elements are none of those that are read, or it is longer or shorter than its header says.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (header, file) = NpyHeader::open(path)?;
        let length = file.metadata().map_err(FileError::io(path, "read"))?.len();
        let wrong = |problem| FileError::malformed(path, problem);
        let (number, big_endian) = header.number().map_err(wrong)?;
        header.check_length(number.bytes(), length, path, "the array")?;
        let NpyHeader { fortran, shape, bytes: start, .. } = header;
        // Of one dimension both orders are one.
        let fortran = fortran && shape.len() > 1;
        Ok(Self { path: path.to_owned(), file, number, big_endian, fortran, shape, start })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sizes, outermost dimension first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The element type, without its byte order.
    pub fn dtype(&self) -> Dtype {
        self.number.dtype()
    }

    /// Whether the file has the array in Fortran order, the first index fastest.
    pub fn is_fortran(&self) -> bool {
        self.fortran
    }

    /// Number of rows; of an array without dimensions 1.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Elements of a row.
    pub fn width(&self) -> usize {
        self.shape.iter().skip(1).fold(1, |product: usize, &size| product.saturating_mul(size))
    }

    /// Reads rows as floats: floats rounded to `V` (f64 as f64 is exact), integers and booleans exactly. May be
    /// called from several threads at once.
    ///
    /// # Errors
    /// When the file cannot be read, a finite number is too large for `V`, or `V` cannot hold an integer exactly;
    /// the error names element and number.
    ///
    /// # Panics
    /// When the rows are not in the array, or `out` does not have `rows · width` places.
    pub fn read_rows<V: Value>(&self, rows: Range<usize>, out: &mut [V]) -> Result<()> {
        self.check(&rows, out.len());
        self.blocks(rows, out, |reader, out| self.number.fill(reader, self.big_endian, out))
    }

    /// Reads rows as integers of type `T`, exactly; floats without a fraction and booleans (0, 1) count as integers.
    ///
    /// # Errors
    /// When the file cannot be read, or an element is not an integer or outside the range of `T`; the error names
    /// element and number.
    ///
    /// # Panics
    /// As [`read_rows`](Self::read_rows).
    pub fn read_integers<T: TryFrom<i128> + Copy + Default>(
        &self,
        rows: Range<usize>,
        out: &mut [T],
    ) -> Result<()> {
        self.check(&rows, out.len());
        self.blocks(rows, out, |reader, out| self.number.fill_integers(reader, self.big_endian, out))
    }

    /// The whole array in row-major order.
    pub(super) fn read_all<V: Value>(&self) -> Result<Vec<V>> {
        let mut values = vec![V::default(); self.rows() * self.width()];
        if !self.fortran {
            self.read_rows(0..self.rows(), &mut values)?;
            return Ok(values);
        }
        // Front to back: by rows, every block would be gathered from all over the file.
        let order = FortranOrder::new(&self.shape);
        let mut places = order.clone();
        self.number
            .read(&mut self.reader(0), self.big_endian, values.len(), |value| {
                if let Some(place) = places.next() {
                    values[place] = value;
                }
            })
            .map_err(|trouble| self.error(trouble, |at| order.clone().nth(at).unwrap_or(at)))?;
        Ok(values)
    }

    fn check(&self, rows: &Range<usize>, places: usize) {
        assert!(rows.start <= rows.end && rows.end <= self.rows(), "rows {rows:?} of {}", self.rows());
        assert_eq!(places, rows.len() * self.width(), "places for {} rows of {}", rows.len(), self.width());
    }

    /// Reads runs of elements that lie together in the file, and puts them where they belong.
    fn blocks<T: Copy + Default>(
        &self,
        rows: Range<usize>,
        out: &mut [T],
        fill: impl Fn(&mut Reader, &mut [T]) -> Result<(), Trouble>,
    ) -> Result<()> {
        let width = self.width();
        if !self.fortran {
            let first = rows.start * width;
            return fill(&mut self.reader(first), out).map_err(|t| self.error(t, |at| first + at));
        }
        if out.is_empty() {
            return Ok(());
        }
        // The rows' elements of one column lie together.
        let mut run = vec![T::default(); rows.len()];
        for (column, place) in FortranOrder::new(&self.shape[1..]).enumerate().take(width) {
            fill(&mut self.reader(column * self.rows() + rows.start), &mut run)
                .map_err(|trouble| self.error(trouble, |at| (rows.start + at) * width + place))?;
            for (row, &value) in out.chunks_exact_mut(width).zip(&run) {
                row[place] = value;
            }
        }
        Ok(())
    }

    /// About an element; `place` is its index in row-major order.
    fn error(&self, trouble: Trouble, place: impl Fn(usize) -> usize) -> FileError {
        match trouble {
            Trouble::At { position, problem } => {
                Trouble::At { position: place(position), problem }.at(&self.path, ARRAY)
            }
            trouble => trouble.at(&self.path, ARRAY),
        }
    }

    fn reader(&self, first: usize) -> Reader<'_> {
        Reader { file: &self.file, offset: self.start + (first * self.number.bytes()) as u64 }
    }
}

/// Reads on from a position.
struct Reader<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.read_exact(out).map(|()| out.len())
    }

    fn read_exact(&mut self, out: &mut [u8]) -> io::Result<()> {
        read_exact_at(self.file, out, self.offset)?;
        self.offset += out.len() as u64;
        Ok(())
    }
}
