//! The zip archive: arrays by name.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use residua_memory::Reservation;
use zip::ZipArchive;
use zip::read::ZipFile;
use zip::result::ZipError;

use crate::Value;
use crate::file::dense::grow;
use crate::file::npy::{FortranOrder, NpyHeader};
use crate::file::number::{Element, Number, Trouble};
use crate::file::positioned::open_regular;
use crate::file::{FileError, Result};

/// Deflate expands one byte to at most 1032. A header that claims more is wrong.
const MOST_INFLATION: u64 = 1032;

pub(super) struct Archive {
    path: PathBuf,
    zip: ZipArchive<BufReader<File>>,
    length: u64,
}

/// One array whose header has been read.
struct Array<'a, const N: usize> {
    reader: ZipFile<'a, BufReader<File>>,
    number: Number,
    big_endian: bool,
    fortran: bool,
    shape: [usize; N],
    elements: usize,
}

impl Archive {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (file, length) = open_regular(path)?;
        let zip = ZipArchive::new(BufReader::new(file)).map_err(|error| zip_trouble(path, error))?;
        Ok(Self { path: path.to_owned(), zip, length })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.zip.index_for_name(&format!("{name}.npy")).is_some()
    }

    fn entry(&mut self, name: &str) -> Result<ZipFile<'_, BufReader<File>>> {
        let path = &self.path;
        let entry = self.zip.by_name(&format!("{name}.npy")).map_err(|error| match error {
            ZipError::FileNotFound => FileError::missing(path, name, []),
            error => zip_trouble(path, error),
        })?;
        let (packed, size) = (entry.compressed_size(), entry.size());
        if packed > self.length || size > packed.saturating_mul(MOST_INFLATION).saturating_add(64) {
            let problem = format!("{size} bytes out of {packed} in a file of {} cannot be", self.length);
            return Err(FileError::tensor(path, name, problem));
        }
        Ok(entry)
    }

    /// The text in an array of one string: `format`.
    pub(super) fn text(&mut self, name: &str) -> Result<String> {
        let path = self.path.clone();
        let mut reader = self.entry(name)?;
        let header = NpyHeader::read(&mut reader).map_err(|t| trouble(&path, name, t))?;
        let mut bytes = Vec::new();
        reader.take(256).read_to_end(&mut bytes).map_err(|error| trouble(&path, name, Trouble::Io(error)))?;
        // `S` holds bytes, `U` four bytes per character; both are padded with zeros.
        let text: String = bytes.iter().filter(|&&b| b != 0).map(|&b| char::from(b)).collect();
        let kind = header.descr.0.trim_start_matches(['<', '>', '|', '=']);
        if !(kind.starts_with('S') || kind.starts_with('U')) {
            let problem = format!("element type {}, but text is needed", header.descr);
            return Err(FileError::tensor(&path, name, problem));
        }
        Ok(text)
    }

    /// Whether an array's elements are booleans.
    pub(super) fn is_bool(&mut self, name: &str) -> Result<bool> {
        let path = self.path.clone();
        let header = NpyHeader::read(&mut self.entry(name)?).map_err(|t| trouble(&path, name, t))?;
        Ok(header.number().is_ok_and(|(number, _)| number == Number::Bool))
    }

    /// The sizes of an array of `N` dimensions.
    pub(super) fn sizes<const N: usize>(&mut self, name: &str) -> Result<[usize; N]> {
        Ok(self.array(name)?.shape)
    }

    /// Starts an array of `N` dimensions.
    fn array<const N: usize>(&mut self, name: &str) -> Result<Array<'_, N>> {
        let path = self.path.clone();
        let error = |problem| FileError::tensor(&path, name, problem);
        let mut reader = self.entry(name)?;
        let size = reader.size();
        let header = NpyHeader::read(&mut reader).map_err(|t| trouble(&path, name, t))?;
        let (number, big_endian) = header.number().map_err(error)?;
        let Ok(shape) = <[usize; N]>::try_from(&*header.shape) else {
            let needed = if N == 1 { "one dimension is".into() } else { format!("{N} dimensions are") };
            return Err(error(format!("shape {:?}, but {needed} needed", header.shape)));
        };
        let elements = header.check_length(number.bytes(), size, &path, &format!("array {name}"))?;
        Ok(Array { reader, number, big_endian, fortran: header.fortran && N > 1, shape, elements })
    }

    /// The first `keep` numbers of an array of `N` dimensions in row-major order: floats rounded to `V`, integers exact. Those behind
    /// them may be anything.
    pub(super) fn values<const N: usize, V: Value>(
        &mut self,
        name: &str,
        keep: usize,
        held: &mut Reservation,
    ) -> Result<Vec<V>> {
        let path = self.path.clone();
        let array = self.array::<N>(name)?;
        let keep = keep.min(array.elements);
        grow::<V>(held, &path, name, keep)?;
        let mut values = vec![V::default(); keep];
        array.read(&path, name, |place, element| {
            if let Some(value) = values.get_mut(place) {
                *value = element.to_value()?;
            }
            Ok(())
        })?;
        Ok(values)
    }

    /// The first `keep` integers, from 0 to `most`, of a one-dimensional array. Those behind them may be anything.
    pub(super) fn indices(
        &mut self,
        name: &str,
        keep: usize,
        most: u64,
        held: &mut Reservation,
    ) -> Result<Vec<u32>> {
        self.integers::<1, _>(name, keep, held, |_, element| bounded(element, most))
    }

    /// The indices of every entry along every axis: row `i` of an array of two dimensions is from 0 to `most[i]`.
    pub(super) fn coordinates(
        &mut self,
        name: &str,
        most: &[u64],
        held: &mut Reservation,
    ) -> Result<Vec<u32>> {
        let [axes, entries] = self.sizes(name)?;
        if axes != most.len() {
            let problem = format!("{axes} rows, but the array has {} dimensions", most.len());
            return Err(FileError::tensor(&self.path, name, problem));
        }
        self.integers::<2, _>(name, usize::MAX, held, |at, element| bounded(element, most[at / entries]))
    }

    /// Signed integers of a one-dimensional array.
    pub(super) fn offsets(&mut self, name: &str, held: &mut Reservation) -> Result<Vec<i64>> {
        self.integers::<1, _>(name, usize::MAX, held, |_, element| element.to_integer())
    }

    /// The first `keep` elements of an array of integers, each as `convert` has it.
    fn integers<const N: usize, T: Copy + Default>(
        &mut self,
        name: &str,
        keep: usize,
        held: &mut Reservation,
        convert: impl Fn(usize, Element) -> Result<T, String>,
    ) -> Result<Vec<T>> {
        let path = self.path.clone();
        let array = self.array::<N>(name)?;
        if !array.number.is_integer() {
            let (tensor, dtype) = (name.into(), array.number.dtype().to_string());
            return Err(FileError::Dtype { path, tensor, dtype, wanted: "integers are needed".into() });
        }
        let keep = keep.min(array.elements);
        grow::<T>(held, &path, name, keep)?;
        let mut all = vec![T::default(); keep];
        array.read(&path, name, |place, element| {
            if let Some(one) = all.get_mut(place) {
                *one = convert(place, element)?;
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// The array under `shape`: one size or two.
    pub(super) fn shape(&mut self, held: &mut Reservation) -> Result<Vec<usize>> {
        let path = self.path.clone();
        let problem = match self.sizes("shape")? {
            [1 | 2] => {
                let sizes = self.indices("shape", 2, u32::MAX.into(), held)?;
                return Ok(sizes.into_iter().map(|size| size as usize).collect());
            }
            [axes] => format!("{axes} dimensions, but one or two are needed"),
        };
        Err(FileError::tensor(&path, "shape", problem))
    }
}

fn bounded(element: Element, most: u64) -> Result<u32, String> {
    element
        .to_integer::<u64>()
        .ok()
        .filter(|&value| value <= most)
        .and_then(|value| u32::try_from(value).ok())
        .ok_or_else(|| format!("{element} is not between 0 and {most}"))
}

impl<const N: usize> Array<'_, N> {
    /// Gives every element to `place`, with its position in row-major order, and reads on to the end of the entry,
    /// where the checksum is compared.
    fn read(
        mut self,
        path: &Path,
        name: &str,
        mut place: impl FnMut(usize, Element) -> Result<(), String>,
    ) -> Result<()> {
        let mut order = self.fortran.then(|| FortranOrder::new(&self.shape));
        self.number
            .read_elements(&mut self.reader, self.big_endian, self.elements, |position, element| {
                place(order.as_mut().and_then(Iterator::next).unwrap_or(position), element)
            })
            .map_err(|t| trouble(path, name, t))?;
        match self.reader.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(FileError::tensor(path, name, "more bytes than the archive says")),
            Err(error) => Err(trouble(path, name, Trouble::Io(error))),
        }
    }
}

/// About an array. What the system did not refuse to read is damaged: the zip library tells a wrong checksum and a
/// broken stream by errors of reading too.
fn trouble(path: &Path, name: &str, trouble: Trouble) -> FileError {
    match trouble {
        Trouble::Io(error) if error.raw_os_error().is_none() => {
            FileError::tensor(path, name, format!("the archive is damaged: {}", damage(&error)))
        }
        trouble => trouble.at(path, name),
    }
}

fn zip_trouble(path: &Path, error: ZipError) -> FileError {
    match error {
        ZipError::Io(error) if error.raw_os_error().is_some() => FileError::io(path, "read")(error),
        ZipError::Io(error) => FileError::malformed(path, format!("zip archive: {}", damage(&error))),
        error => FileError::malformed(path, format!("zip archive: {error}")),
    }
}

fn damage(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ends too early".to_owned(),
        _ => error.to_string(),
    }
}
