//! The rows of a cache that left memory, in a temporary file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use residua_format::file::FileError;
use residua_memory::Reservation;

use crate::Result;

/// Bytes of memory for the place of a row in the file.
pub(crate) const OVERHEAD: u64 = 48;

/// A file without a name. It disappears when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Spill {
    row: usize,
    file: File,
    /// Place and step by key.
    places: HashMap<u64, (u64, u64)>,
    free: Vec<u64>,
    /// Places in the file.
    end: u64,
}

impl Spill {
    pub(super) fn new(row: usize) -> Result<Self> {
        let file = tempfile::tempfile().map_err(FileError::io(&std::env::temp_dir(), "create a file in"))?;
        Ok(Self { row, file, places: HashMap::new(), free: Vec::new(), end: 0 })
    }

    /// The step at which a row was stored, if it is here.
    pub(super) fn step(&self, key: u64) -> Option<u64> {
        self.places.get(&key).map(|&(_, step)| step)
    }

    /// Keys and steps.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, u64)> {
        self.places.iter().map(|(&key, &(_, step))| (key, step))
    }

    /// Writes a row, unless it is here already: a row that changes is removed first. Returns the bytes of memory that its
    /// place takes.
    pub(super) fn write(&mut self, key: u64, step: u64, bytes: &[u8]) -> Result<u64> {
        if self.places.contains_key(&key) {
            return Ok(0);
        }
        let place = self.free.pop().unwrap_or(self.end);
        let written =
            self.file.seek(SeekFrom::Start(place * self.row as u64)).and_then(|_| self.file.write_all(bytes));
        written.map_err(FileError::io(&std::env::temp_dir(), "write a cache file in"))?;
        self.end = self.end.max(place + 1);
        self.places.insert(key, (place, step));
        Ok(OVERHEAD)
    }

    pub(super) fn read(&mut self, key: u64, bytes: &mut [u8]) -> Result<()> {
        let place = self.places.get(&key).map_or(0, |&(place, _)| place);
        let read = self
            .file
            .seek(SeekFrom::Start(place * self.row as u64))
            .and_then(|_| self.file.read_exact(bytes));
        read.map_err(FileError::io(&std::env::temp_dir(), "read a cache file in"))?;
        Ok(())
    }

    pub(super) fn remove(&mut self, key: u64, held: &mut Reservation) {
        if let Some((place, _)) = self.places.remove(&key) {
            self.free.push(place);
            held.shrink(OVERHEAD);
        }
    }
}
