//! The header of an array.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::path::Path;

use crate::file::number::{Number, Trouble};
use crate::file::positioned::open_regular;
use crate::file::{FileError, Result};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// NumPy itself reads no header above 10,000 bytes.
const MAX_BYTES: usize = 10_000;

/// An element type as NumPy writes it: byte order, kind, size. Of a record, its list of fields as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::file) struct Descr(pub(in crate::file) String);

impl fmt::Display for Descr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 60;
        match self.0.char_indices().nth(SHOWN) {
            Some((end, _)) => write!(f, "{:?}...", &self.0[..end]),
            None => write!(f, "{:?}", self.0),
        }
    }
}

/// Why elements of a kind are not read; without byte order.
fn refusal(kind: &str) -> &'static str {
    match kind.as_bytes() {
        [b'O', ..] | b"object" => "Python objects are not read (loading them runs code)",
        [b'f', b'1', ..] | b"g" | b"longdouble" => {
            "a long double has another form on every kind of machine; save it as float64"
        }
        [b'c', ..] | [b'F' | b'D' | b'G'] => "complex numbers are not read; save the real part",
        [b'S' | b'U' | b'a' | b'T', ..] => "text is not read as numbers",
        [b'M' | b'm', ..] => "dates and durations are not read as numbers; save them as int64",
        b"V1" | b"V2" => {
            "bytes without a meaning, as NumPy stores bfloat16 and the 8-bit floats of ml_dtypes; save them as \
             float32"
        }
        [b'V', ..] => "bytes without a meaning are not read as numbers",
        [b'[' | b'(', ..] => "records are not read; save a field by itself",
        _ => "unknown element type",
    }
}

/// The header of a `.npy` file. [`NpyFile`](super::NpyFile) reads the array behind it.
#[derive(Debug, PartialEq, Eq)]
pub struct NpyHeader {
    pub(in crate::file) descr: Descr,
    pub(in crate::file) fortran: bool,
    pub(in crate::file) shape: Vec<usize>,
    /// Bytes up to the data.
    pub(in crate::file) bytes: u64,
}

impl NpyHeader {
    /// Opens the file at `path` and reads its header.
    ///
    /// # Errors
    /// When the file cannot be read or is not a regular file, or does not begin with a header of format version 1 to 3
    /// and at most 10,000 bytes.
    pub(super) fn open(path: &Path) -> Result<(Self, File)> {
        let (mut file, _) = open_regular(path)?;
        let header = Self::read(&mut BufReader::with_capacity(1 << 10, &mut file));
        let header = header.map_err(|trouble| match trouble {
            Trouble::Whole(problem) => FileError::malformed(path, problem),
            trouble => trouble.at(path, "the header"),
        })?;
        Ok((header, file))
    }

    /// Reads the header, and no byte behind it.
    pub(in crate::file) fn read(reader: &mut impl Read) -> Result<Self, Trouble> {
        let wrong = |problem: String| Err(Trouble::Whole(problem));
        let mut fill = |bytes: &mut [u8]| {
            reader.read_exact(bytes).map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => Trouble::Whole("the header of the array is cut short".to_owned()),
                _ => Trouble::Io(error),
            })
        };
        let mut start = [0; 8];
        fill(&mut start)?;
        if &start[..6] != MAGIC {
            return wrong("no .npy array: its first bytes are not \"\\x93NUMPY\"".to_owned());
        }
        let version = start[6];
        let (prefix, length) = match version {
            1 => {
                let mut length = [0; 2];
                fill(&mut length)?;
                (10, usize::from(u16::from_le_bytes(length)))
            }
            2 | 3 => {
                let mut length = [0; 4];
                fill(&mut length)?;
                (12, u32::from_le_bytes(length) as usize)
            }
            version => return wrong(format!("unknown version {version} of the .npy format")),
        };
        if length > MAX_BYTES {
            return wrong(format!("a header of {length} bytes; NumPy reads at most {MAX_BYTES}"));
        }
        let mut text = vec![0; length];
        fill(&mut text)?;
        // Before version 3 the text is latin-1; only names of fields can tell.
        let text = match std::str::from_utf8(&text) {
            Ok(text) => text.to_owned(),
            Err(_) if version < 3 => text.iter().map(|&byte| char::from(byte)).collect(),
            Err(_) => return wrong("the header is not text".to_owned()),
        };
        let mut header = parse(&text).map_err(Trouble::Whole)?;
        header.bytes = (prefix + length) as u64;
        Ok(header)
    }

    /// Element type and whether it is big-endian, or why it is not read.
    pub(in crate::file) fn number(&self) -> Result<(Number, bool), String> {
        let Descr(descr) = &self.descr;
        let kind = descr.strip_prefix(['<', '>', '|', '=']).unwrap_or(descr);
        // NumPy writes kind and size; it also reads the letters and names that its dtypes have.
        let number = match kind {
            "b1" | "?" | "bool" => Number::Bool,
            "i1" | "b" | "int8" => Number::I8,
            "i2" | "h" | "int16" => Number::I16,
            "i4" | "i" | "int32" => Number::I32,
            "i8" | "q" | "l" | "p" | "int64" => Number::I64,
            "u1" | "B" | "uint8" => Number::U8,
            "u2" | "H" | "uint16" => Number::U16,
            "u4" | "I" | "uint32" => Number::U32,
            "u8" | "Q" | "L" | "P" | "uint64" => Number::U64,
            "f2" | "e" | "float16" => Number::F16,
            "f4" | "f" | "float32" => Number::F32,
            "f8" | "d" | "float64" => Number::F64,
            _ => return Err(format!("element type {}: {}", self.descr, refusal(kind))),
        };
        Ok((number, descr.starts_with('>')))
    }

    /// The number of elements. Fails unless the array ends exactly after `length` bytes.
    pub(in crate::file) fn check_length(
        &self,
        element_bytes: usize,
        length: u64,
        path: &Path,
        what: &str,
    ) -> Result<usize> {
        let elements = self.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        let needed = elements.and_then(|elements| {
            (elements as u64).checked_mul(element_bytes as u64)?.checked_add(self.bytes)
        });
        match (elements, needed) {
            (Some(elements), Some(needed)) if needed == length => Ok(elements),
            (_, Some(needed)) if needed < length => {
                let problem = format!("{} bytes follow {what}", length - needed);
                Err(FileError::malformed(path, problem))
            }
            (_, needed) => Err(FileError::Truncated {
                path: path.to_owned(),
                what: format!("{what} of shape {:?}", self.shape),
                needed: needed.unwrap_or(u64::MAX),
                found: length,
            }),
        }
    }

    /// Writes a header of format version 1 in C order. The numbers follow it; `descr` is their type in NumPy's words,
    /// such as `<f4`.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(out: &mut impl Write, descr: &str, shape: &[usize]) -> std::io::Result<()> {
        let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
        // A tuple of one element ends with a comma.
        let comma = if shape.len() == 1 { "," } else { "" };
        let mut text = format!(
            "{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}{comma}), }}",
            sizes.join(", ")
        );
        // The data starts at a multiple of 64; the last byte of the header is a line feed.
        let bytes = (10 + text.len() + 1).next_multiple_of(64) - 10;
        text.push_str(&" ".repeat(bytes - text.len() - 1));
        text.push('\n');
        out.write_all(MAGIC)?;
        out.write_all(&[1, 0])?;
        out.write_all(&(bytes as u16).to_le_bytes())?;
        out.write_all(text.as_bytes())
    }
}

/// Reads a header, a Python dictionary: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn parse(text: &str) -> Result<NpyHeader, String> {
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    let mut rest = Cursor(text.trim_ascii());
    rest.expect("{")?;
    while !rest.take("}") {
        let key = rest.string()?;
        rest.expect(":")?;
        let twice = match key {
            // A record: refused here, so that no list or tuple is ever looked into, however deep it nests.
            "descr" if rest.0.starts_with(['[', '(']) => {
                let record = Descr(rest.0.to_owned());
                return Err(format!("element type {record}: {}", refusal(&record.0)));
            }
            "descr" => descr.replace(Descr(rest.string()?.to_owned())).is_some(),
            "fortran_order" => fortran.replace(rest.boolean()?).is_some(),
            "shape" => shape.replace(rest.tuple()?).is_some(),
            key => return Err(format!("the header has an unknown key {}", Descr(key.to_owned()))),
        };
        if twice {
            return Err(format!("the header has {key:?} twice"));
        }
        if !rest.take(",") {
            rest.expect("}")?;
            break;
        }
    }
    if !rest.0.is_empty() {
        return Err(format!("{} follows the header", Descr(rest.0.to_owned())));
    }
    let missing = |key| move || format!("the header has no {key:?}");
    Ok(NpyHeader {
        descr: descr.ok_or_else(missing("descr"))?,
        fortran: fortran.ok_or_else(missing("fortran_order"))?,
        shape: shape.ok_or_else(missing("shape"))?,
        bytes: 0,
    })
}

/// The rest of the text. It never starts with white space.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn take(&mut self, token: &str) -> bool {
        match self.0.strip_prefix(token) {
            Some(rest) => {
                self.0 = rest.trim_ascii_start();
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.take(token) {
            return Ok(());
        }
        let here: String = self.0.chars().take(20).collect();
        Err(format!("the header has {here:?} where {token:?} belongs"))
    }

    fn string(&mut self) -> Result<&'a str, String> {
        let quote = if self.0.starts_with('"') { "\"" } else { "'" };
        self.expect(quote)?;
        let (string, rest) = self.0.split_once(quote).ok_or("the header has a string without an end")?;
        self.0 = rest.trim_ascii_start();
        Ok(string)
    }

    fn boolean(&mut self) -> Result<bool, String> {
        if self.take("True") {
            return Ok(true);
        }
        self.expect("False").map(|()| false)
    }

    fn tuple(&mut self) -> Result<Vec<usize>, String> {
        self.expect("(")?;
        let mut sizes = Vec::new();
        while !self.take(")") {
            let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
            let (number, rest) = self.0.split_at(digits);
            sizes.push(number.parse().map_err(|_| format!("{number:?} in the shape is no size"))?);
            // Python 2 wrote long integers with an L.
            self.0 = rest.strip_prefix('L').unwrap_or(rest).trim_ascii_start();
            if !self.take(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(sizes)
    }
}
