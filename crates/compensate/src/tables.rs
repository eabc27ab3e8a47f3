//! Memory of the tables that an open or growing safetensors file takes, which grow with its number of tensors.

use std::io::Read;
use std::path::Path;

use residua_format::file::{FileError, HeaderSizes};

use crate::Result;

/// Bytes for each class of a file that is written: up to three tensors, their text in the header, and the class's entry in
/// the metadata.
pub(crate) const WRITTEN_CLASS: u64 = 1100;

/// What the mean of each class has in a header.
const CLASS: &[u8] = b"\"class.";
const MEAN: &[u8] = b".mean\":{\"dtype\":\"F64\",\"shape\":[";
/// Bytes that are looked at together: the marks of a mean and two numbers.
const AHEAD: usize = 96;

/// What a safetensors file holds, as far as a scan of its header can tell.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Header {
    /// Bytes of memory while the file is opened, and while it is open.
    pub(crate) memory: (u64, u64),
    /// Bytes of the data.
    pub(crate) data: u64,
    /// Means of classes.
    pub(crate) classes: u64,
    /// Numbers of the last mean.
    pub(crate) dim: u64,
}

impl Header {
    /// Scans a file. What is no such file holds nothing: opening it reports why.
    pub(crate) fn scan(path: &Path) -> Result<Self> {
        Self::scan_classes(path, &mut |_| {})
    }

    /// As [`scan`](Self::scan); calls `class` with the number of each class.
    pub(crate) fn scan_classes(path: &Path, class: &mut dyn FnMut(u64)) -> Result<Self> {
        let mut new = Self::default();
        if let Some(HeaderSizes { file, text, data, opening, open, .. }) = HeaderSizes::of(path)? {
            (new.memory, new.data) = ((opening, open), data);
            new.count(file.take(text), class).map_err(FileError::io(path, "read"))?;
        }
        Ok(new)
    }

    fn count(&mut self, mut text: impl Read, class: &mut dyn FnMut(u64)) -> std::io::Result<()> {
        let (mut buffer, mut kept) = (vec![0; 64 << 10], 0);
        loop {
            let read = text.read(&mut buffer[kept..])?;
            let all = kept + read;
            // What begins behind `end` may continue in the next piece.
            let end = if read == 0 { all } else { all.saturating_sub(AHEAD) };
            for start in 0..end {
                let rest = &buffer[start..all];
                if let Some(rest) = rest.strip_prefix(CLASS) {
                    let (label, rest) = number(rest);
                    if let Some(rest) = rest.strip_prefix(MEAN) {
                        self.dim = number(rest).0;
                        self.classes += 1;
                        class(label);
                    }
                }
            }
            if read == 0 {
                return Ok(());
            }
            buffer.copy_within(end..all, 0);
            kept = all - end;
        }
    }
}

/// The number at the start of a text, and the rest.
fn number(text: &[u8]) -> (u64, &[u8]) {
    let (digits, rest) = text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count());
    let next = |number: u64, digit: &u8| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    (digits.iter().fold(0, next), rest)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let count = self.1.min(self.0.len()).min(out.len());
            out[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn classes_are_counted_across_pieces() {
        let text = r#"{"class.7.mean":{"dtype":"F64","shape":[384],"data_offsets":[0,4]},"b":{"data_offsets":[4,8]}}"#;
        for piece in 1..80 {
            let mut header = Header::default();
            header.count(Slow(text.as_bytes(), piece), &mut |class| assert_eq!(class, 7)).unwrap();
            assert_eq!(header, Header { classes: 1, dim: 384, ..Header::default() }, "{piece}");
        }
    }
}
