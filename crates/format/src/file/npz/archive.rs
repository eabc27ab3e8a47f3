//! The zip archive: arrays by name.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use residua_memory::Reservation;
use zip::ZipArchive;
use zip::read::ZipFile;
use zip::result::ZipError;

use crate::Value;
use crate::file::dense::grow;
use crate::file::npy::NpyHeader;
use crate::file::number::{Number, Trouble};
use crate::file::{FileError, Result};

/// Deflate expands one byte to at most 1032. A header that claims more is wrong.
const MOST_INFLATION: u64 = 1032;

pub(super) struct Archive {
    path: PathBuf,
    zip: ZipArchive<BufReader<File>>,
    length: u64,
}

/// One array whose header has been read.
struct Array<'a> {
    reader: ZipFile<'a, BufReader<File>>,
    number: Number,
    big_endian: bool,
    elements: usize,
}

impl Archive {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(FileError::io(path, "open"))?;
        let length = file.metadata().map_err(FileError::io(path, "read"))?.len();
        let zip = ZipArchive::new(BufReader::new(file)).map_err(|error| trouble(path, error))?;
        Ok(Self { path: path.to_owned(), zip, length })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.zip.index_for_name(&format!("{name}.npy")).is_some()
    }

    fn entry(&mut self, name: &str) -> Result<ZipFile<'_, BufReader<File>>> {
        let path = &self.path;
        let entry = self.zip.by_name(&format!("{name}.npy")).map_err(|error| match error {
            ZipError::FileNotFound => FileError::missing(path, name, []),
            error => trouble(path, error),
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
        let header = NpyHeader::read(&mut reader).map_err(|e| FileError::tensor(&path, name, e))?;
        let mut bytes = Vec::new();
        reader.take(256).read_to_end(&mut bytes).map_err(FileError::io(&path, format!("read {name}")))?;
        // `S` holds one byte per character, `U` four. Both are padded with zeros.
        let text: String = bytes.iter().filter(|&&b| b != 0).map(|&b| char::from(b)).collect();
        let kind = header.descr.0.trim_start_matches(['<', '>', '|', '=']);
        if !(kind.starts_with('S') || kind.starts_with('U')) {
            let problem = format!("element type {:?}, but text is needed", header.descr.0);
            return Err(FileError::tensor(&path, name, problem));
        }
        Ok(text)
    }

    /// Starts a one-dimensional array.
    fn array(&mut self, name: &str) -> Result<Array<'_>> {
        let path = self.path.clone();
        let error = |problem| FileError::tensor(&path, name, problem);
        let mut reader = self.entry(name)?;
        let size = reader.size();
        let header = NpyHeader::read(&mut reader).map_err(error)?;
        let (number, big_endian) = header.number().map_err(error)?;
        if header.shape.len() != 1 {
            return Err(error(format!("shape {:?}, but one dimension is needed", header.shape)));
        }
        let elements = header.check_length(number.bytes(), size, &path, &format!("array {name}"))?;
        Ok(Array { reader, number, big_endian, elements })
    }

    /// A one-dimensional array of numbers, rounded to `V`.
    pub(super) fn values<V: Value>(&mut self, name: &str, held: &mut Reservation) -> Result<Vec<V>> {
        let path = self.path.clone();
        let mut array = self.array(name)?;
        grow::<V>(held, &path, name, array.elements)?;
        let mut values = Vec::with_capacity(array.elements);
        array
            .number
            .read(&mut array.reader, array.big_endian, array.elements, |value| values.push(value))
            .map_err(|trouble| trouble.at(&path, name))?;
        array.end(&path, name)?;
        Ok(values)
    }

    /// A one-dimensional array of integers from 0 to `most`.
    pub(super) fn indices(&mut self, name: &str, most: u64, held: &mut Reservation) -> Result<Vec<u32>> {
        let path = self.path.clone();
        let mut array = self.array(name)?;
        let Array { number, big_endian, elements, .. } = array;
        if !number.is_integer() {
            let (tensor, dtype) = (name.into(), format!("{number:?}"));
            return Err(FileError::Dtype { path, tensor, dtype, wanted: "integers are needed".into() });
        }
        grow::<u32>(held, &path, name, elements)?;
        let mut indices = Vec::with_capacity(elements);
        number
            .read_integers(&mut array.reader, big_endian, elements, |_, value| {
                match u64::try_from(value).ok().filter(|&value| value <= most) {
                    Some(value) => indices.push(value as u32),
                    None => return Err(format!("{value} is not between 0 and {most}")),
                }
                Ok(())
            })
            .map_err(|trouble| trouble.at(&path, name))?;
        array.end(&path, name)?;
        Ok(indices)
    }

    /// The two sizes of the array `shape`.
    pub(super) fn shape(&mut self, held: &mut Reservation) -> Result<[usize; 2]> {
        let path = self.path.clone();
        let sizes = self.indices("shape", u64::from(u32::MAX), held)?;
        match *sizes {
            [rows, cols] => Ok([rows as usize, cols as usize]),
            _ => {
                Err(FileError::tensor(&path, "shape", format!("{sizes:?}, but rows and columns are needed")))
            }
        }
    }
}

impl Array<'_> {
    /// Reads to the end of the entry. The library compares the checksum there.
    fn end(mut self, path: &Path, name: &str) -> Result<()> {
        match self.reader.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(FileError::tensor(path, name, "more bytes than the archive says")),
            Err(error) => Err(Trouble::Io(error).at(path, name)),
        }
    }
}

fn trouble(path: &Path, error: ZipError) -> FileError {
    match error {
        ZipError::Io(error) => FileError::io(path, "read")(error),
        error => FileError::malformed(path, format!("zip archive: {error}")),
    }
}
