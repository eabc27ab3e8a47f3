//! The header of an array.

use std::io::{Read, Write};
use std::path::Path;

use crate::file::number::Number;
use crate::file::{FileError, Result};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// NumPy itself reads no header above 10,000 bytes.
const MAX_BYTES: usize = 10_000;

/// An element type as NumPy writes it: byte order, kind, size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::file) struct Descr(pub(in crate::file) String);

#[derive(Debug, PartialEq, Eq)]
pub(in crate::file) struct NpyHeader {
    pub(in crate::file) descr: Descr,
    pub(in crate::file) fortran: bool,
    pub(in crate::file) shape: Vec<usize>,
    /// Bytes up to the data.
    pub(in crate::file) bytes: u64,
}

impl NpyHeader {
    pub(in crate::file) fn read(reader: &mut impl Read) -> Result<Self, String> {
        let truncated = |_| "the header of the array is cut short".to_owned();
        let mut start = [0; 8];
        reader.read_exact(&mut start).map_err(truncated)?;
        if &start[..6] != MAGIC {
            return Err("no .npy array: its first bytes are not \"\\x93NUMPY\"".to_owned());
        }
        let (prefix, length) = match start[6] {
            1 => {
                let mut length = [0; 2];
                reader.read_exact(&mut length).map_err(truncated)?;
                (10, usize::from(u16::from_le_bytes(length)))
            }
            2 | 3 => {
                let mut length = [0; 4];
                reader.read_exact(&mut length).map_err(truncated)?;
                (12, u32::from_le_bytes(length) as usize)
            }
            version => return Err(format!("unknown version {version} of the .npy format")),
        };
        if length > MAX_BYTES {
            return Err(format!("a header of {length} bytes; NumPy's are at most {MAX_BYTES}"));
        }
        let mut text = vec![0; length];
        reader.read_exact(&mut text).map_err(truncated)?;
        let text = std::str::from_utf8(&text).map_err(|_| "the header is not text".to_owned())?;
        let mut header = parse(text)?;
        header.bytes = (prefix + length) as u64;
        Ok(header)
    }

    /// The element type, and whether it is big-endian. The error says what is not supported.
    pub(in crate::file) fn number(&self) -> Result<(Number, bool), String> {
        let Descr(descr) = &self.descr;
        let number = match descr.trim_start_matches(['<', '>', '|', '=']) {
            "b1" | "?" => Number::Bool,
            "i1" => Number::I8,
            "i2" => Number::I16,
            "i4" => Number::I32,
            "i8" => Number::I64,
            "u1" => Number::U8,
            "u2" => Number::U16,
            "u4" => Number::U32,
            "u8" => Number::U64,
            "f2" => Number::F16,
            "f4" => Number::F32,
            "f8" => Number::F64,
            kind => {
                let what = match kind.as_bytes().first() {
                    Some(b'O') => "Python objects are not read (loading them runs code)",
                    Some(b'c') => "complex numbers are not read",
                    Some(b'S' | b'U' | b'a') => "text is not read as numbers",
                    Some(b'V' | b'[') => "records are not read",
                    _ => "unknown element type",
                };
                return Err(format!("element type {descr:?}: {what}"));
            }
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

    /// Writes version 1, C order.
    pub(in crate::file) fn write(out: &mut impl Write, descr: &str, shape: &[usize]) -> std::io::Result<()> {
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
            "descr" if rest.0.starts_with('[') => {
                return Err("element type is a record, which is not read".to_owned());
            }
            "descr" => descr.replace(Descr(rest.string()?.to_owned())).is_some(),
            "fortran_order" => fortran.replace(rest.boolean()?).is_some(),
            "shape" => shape.replace(rest.tuple()?).is_some(),
            key => return Err(format!("the header has an unknown key {key:?}")),
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
        return Err(format!("{:?} follows the header", rest.0));
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
            self.0 = rest.trim_start_matches('L').trim_ascii_start();
            if !self.take(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(sizes)
    }
}
