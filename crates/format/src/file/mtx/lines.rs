//! Lines with their numbers.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::file::positioned::open_regular;
use crate::file::{FileError, Result};

/// A file with longer lines is refused, so that no line fills the memory.
const LONGEST: u64 = 64 << 10;

pub(super) struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    line: Vec<u8>,
    number: u64,
    /// Bytes of the file.
    pub(super) length: u64,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (file, length) = open_regular(path)?;
        let reader = BufReader::with_capacity(256 << 10, file);
        Ok(Self { path: path.to_owned(), reader, line: Vec::new(), number: 0, length })
    }

    /// The next line, blank or not, without white space around it; `None` at the end.
    pub(super) fn any(&mut self) -> Result<Option<&[u8]>> {
        self.line.clear();
        self.number += 1;
        let read = (&mut self.reader).take(LONGEST).read_until(b'\n', &mut self.line);
        let read = read.map_err(FileError::io(&self.path, "read"))?;
        if read as u64 == LONGEST && !self.line.ends_with(b"\n") {
            if !self.line.starts_with(b"%") {
                return Err(self.error(format!("longer than {LONGEST} bytes")));
            }
            // The rest of a comment does not matter, however long it is.
            self.reader.skip_until(b'\n').map_err(FileError::io(&self.path, "read"))?;
        }
        Ok((read > 0).then(|| self.line.trim_ascii()))
    }

    /// The next line that is neither blank nor a comment.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>> {
        loop {
            match self.any()? {
                None => return Ok(None),
                Some([] | [b'%', ..]) => {}
                // Borrows again, because the borrow checker does not follow a return out of the loop.
                Some(_) => return Ok(Some(self.line.trim_ascii())),
            }
        }
    }

    /// The problem with the line read last.
    pub(super) fn error(&self, problem: impl Into<String>) -> FileError {
        FileError::Line { path: self.path.clone(), line: self.number, problem: problem.into() }
    }
}

/// Splits the next word off.
#[inline]
pub(super) fn word<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let line = rest.trim_ascii_start();
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (word, after) = line.split_at(end);
    *rest = after;
    (!word.is_empty()).then_some(word)
}

/// A number without a sign.
#[inline]
pub(super) fn unsigned(word: &[u8]) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0u64, |number, &digit| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 { None } else { number.checked_mul(10)?.checked_add(digit.into()) }
    })
}
