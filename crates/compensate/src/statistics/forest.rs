//! Merged leaves that wait for their neighbours. Where the budget has no room for them, they wait in temporary files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use nalgebra::DVector;
use residua_format::file::FileError;
use residua_memory::{Budget, BudgetError, Reservation};

use super::class::{Class, OPEN_BYTES, Rows, scatter_bytes};
use crate::Result;
use crate::source::Floats;

/// Bytes of a class that waits in a file.
pub(super) const PLACE_BYTES: u64 = 128;

/// Adjacent subtrees, from left to right, and the budget of all.
///
/// Leaves merge as a binary tree over their numbers: two subtrees of one size merge as soon as both are there and the left
/// one starts at a multiple of twice the size. So the places of merges depend on the numbers of leaves alone.
#[derive(Debug)]
pub(super) struct Forest {
    dim: usize,
    budget: Budget,
    pub(super) parts: Vec<Part>,
}

/// A subtree: the samples of some adjacent leaves.
#[derive(Debug)]
pub(super) struct Part {
    /// Number of its first leaf.
    pub(super) first: u64,
    /// How many leaves.
    pub(super) leaves: u64,
    pub(super) classes: Classes,
}

/// Classes by label.
#[derive(Debug)]
pub(super) enum Classes {
    Memory(BTreeMap<u32, Class>),
    File(Filed),
}

/// Classes in a file.
#[derive(Debug)]
pub(super) struct Filed {
    pub(super) file: Arc<File>,
    /// What errors call the file.
    pub(super) path: PathBuf,
    pub(super) places: BTreeMap<u32, Place>,
    pub(super) held: Reservation,
}

/// Where a class is in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Place {
    pub(super) folded: u64,
    /// Samples that wait.
    pub(super) rows: usize,
    pub(super) is_double: bool,
    /// Where mean, scatter and samples start. The first two exist if samples are folded.
    pub(super) mean: u64,
    pub(super) scatter: u64,
    pub(super) samples: u64,
}

impl Place {
    /// Bytes of the class in memory.
    pub(super) fn bytes(&self, dim: usize) -> u64 {
        let scatter = if self.folded > 0 { scatter_bytes(dim) } else { 0 };
        let width = if self.is_double { 8 } else { 4 };
        (OPEN_BYTES + 8 * dim as u64).saturating_add(scatter).saturating_add(width * (self.rows * dim) as u64)
    }
}

impl Filed {
    /// Reads a class and checks every number; `held` are its bytes.
    pub(super) fn read(&self, label: u32, place: &Place, dim: usize, held: Reservation) -> Result<Class> {
        let read = |at: u64, bytes: &mut [u8]| {
            let mut file = &*self.file;
            let read = file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(bytes));
            read.map_err(FileError::io(&self.path, "read"))
        };
        let (mut mean, mut scatter, mut rows) = (DVector::zeros(dim), Vec::new(), Rows::default());
        if place.folded > 0 {
            read(place.mean, bytemuck::cast_slice_mut(mean.as_mut_slice()))?;
            scatter = vec![0.0; dim * (dim + 1) / 2];
            read(place.scatter, bytemuck::cast_slice_mut(&mut scatter))?;
        }
        rows.is_double = place.is_double;
        if place.is_double {
            rows.double = vec![0.0; place.rows * dim];
            read(place.samples, bytemuck::cast_slice_mut(&mut rows.double))?;
        } else {
            rows.single = vec![0.0; place.rows * dim];
            read(place.samples, bytemuck::cast_slice_mut(&mut rows.single))?;
        }
        let floats = [Floats::F64(mean.as_slice()), Floats::F64(&scatter), rows.floats()];
        for (what, floats) in ["the mean", "the scatter", "a sample"].into_iter().zip(floats) {
            floats
                .check_finite(what, floats.len(), 0)
                .map_err(|error| FileError::malformed(&self.path, format!("class {label}: {error}")))?;
        }
        Ok(Class { folded: place.folded, mean, scatter, rows, held })
    }
}

impl Class {
    /// Mean, scatter and waiting samples as bytes; the first two are empty before the first fold.
    pub(super) fn numbers(&self) -> [&[u8]; 3] {
        let mean = if self.folded > 0 { self.mean.as_slice() } else { &[] };
        let rows = match self.rows.floats() {
            Floats::F32(values) => bytemuck::cast_slice(values),
            Floats::F64(values) => bytemuck::cast_slice(values),
        };
        [bytemuck::cast_slice(mean), bytemuck::cast_slice(&self.scatter), rows]
    }

    /// Its place, where its numbers begin at `at` and lie end to end.
    fn place(&self, at: u64) -> Place {
        let [mean, scatter, _] = self.numbers().map(|bytes| bytes.len() as u64);
        let rows = self.rows.len() / self.mean.len().max(1);
        let is_double = self.rows.is_double;
        Place {
            folded: self.folded,
            rows,
            is_double,
            mean: at,
            scatter: at + mean,
            samples: at + mean + scatter,
        }
    }
}

impl Forest {
    pub(super) fn new(dim: usize, budget: &Budget) -> Self {
        Self { dim, budget: budget.clone(), parts: Vec::new() }
    }

    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// As [`Budget::reserve`]; makes room if there is none.
    pub(super) fn reserve(&mut self, bytes: u64, what: &str) -> Result<Reservation> {
        let mut held = self.budget.reserve(0, what)?;
        self.grow(&mut held, bytes, what)?;
        Ok(held)
    }

    /// As [`Reservation::grow`]; makes room if there is none.
    pub(super) fn grow(&mut self, held: &mut Reservation, bytes: u64, what: &str) -> Result<()> {
        while let Err(error) = held.grow(bytes, what) {
            self.make_room(error)?;
        }
        Ok(())
    }

    /// Moves a subtree to a file; the error if none is in memory.
    fn make_room(&mut self, error: BudgetError) -> Result<()> {
        let mut classes = self.parts.iter_mut().map(|part| &mut part.classes);
        // The first one is the largest, and waits longest.
        let in_memory = |classes: &&mut Classes| matches!(classes, Classes::Memory(map) if !map.is_empty());
        match classes.find(in_memory) {
            Some(classes) => classes.move_to_file(&self.budget),
            None => Err(error.into()),
        }
    }

    /// Appends the next subtree, and merges what is complete.
    pub(super) fn push(&mut self, part: Part) -> Result<()> {
        self.parts.push(part);
        while let [.., left, right] = &*self.parts
            && left.leaves == right.leaves
            && left.first.is_multiple_of(2 * left.leaves)
        {
            self.merge_last()?;
        }
        Ok(())
    }

    /// Merges all subtrees to one, from right to left.
    pub(super) fn settle(&mut self) -> Result<()> {
        while self.parts.len() > 1 {
            self.merge_last()?;
        }
        Ok(())
    }

    /// Merges the last two subtrees. Where there is little room, the left one waits in a file, and comes class by class.
    fn merge_last(&mut self) -> Result<()> {
        let Some(mut right) = self.parts.pop() else { return Ok(()) };
        let mut merged = self.load(&mut right.classes)?;
        while let Some((label, mut class)) = self.take_last()? {
            if let Some(other) = merged.remove(&label) {
                class.merge(&other, self)?;
                class.trim();
            }
            merged.insert(label, class);
        }
        if let Some(left) = self.parts.last_mut() {
            left.leaves += right.leaves;
            left.classes = Classes::Memory(merged);
        }
        Ok(())
    }

    /// Moves classes to memory.
    pub(super) fn load(&mut self, classes: &mut Classes) -> Result<BTreeMap<u32, Class>> {
        let mut loaded = BTreeMap::new();
        match classes {
            Classes::Memory(map) => std::mem::swap(map, &mut loaded),
            Classes::File(filed) => {
                while let Some((label, place)) = filed.places.pop_first() {
                    filed.held.shrink(PLACE_BYTES);
                    let held = self.reserve(place.bytes(self.dim), "class statistics")?;
                    loaded.insert(label, filed.read(label, &place, self.dim, held)?);
                }
            }
        }
        Ok(loaded)
    }

    /// Takes the class of the lowest label out of the last subtree.
    pub(super) fn take_last(&mut self) -> Result<Option<(u32, Class)>> {
        let place = match self.parts.last_mut().map(|part| &mut part.classes) {
            None => return Ok(None),
            Some(Classes::Memory(map)) => return Ok(map.pop_first()),
            Some(Classes::File(filed)) => {
                let Some(first) = filed.places.pop_first() else { return Ok(None) };
                filed.held.shrink(PLACE_BYTES);
                first
            }
        };
        let (label, place) = place;
        let held = self.reserve(place.bytes(self.dim), "class statistics")?;
        match self.parts.last().map(|part| &part.classes) {
            Some(Classes::File(filed)) => Ok(Some((label, filed.read(label, &place, self.dim, held)?))),
            _ => Ok(None),
        }
    }
}

impl Classes {
    /// Number of samples by label.
    pub(super) fn counts(&self) -> Box<dyn Iterator<Item = (u32, u64)> + '_> {
        match self {
            Self::Memory(map) => Box::new(map.iter().map(|(&label, class)| (label, class.count()))),
            Self::File(filed) => {
                Box::new(filed.places.iter().map(|(&label, place)| (label, place.folded + place.rows as u64)))
            }
        }
    }

    /// Moves classes from memory to a temporary file without a name: it disappears when the process ends, however it ends.
    fn move_to_file(&mut self, budget: &Budget) -> Result<()> {
        let Self::Memory(map) = self else { return Ok(()) };
        let path = std::env::temp_dir();
        let file = tempfile::tempfile().map_err(FileError::io(&path, "create a file in"))?;
        let mut writer = BufWriter::new(&file);
        let (mut places, mut at) = (BTreeMap::new(), 0);
        for (&label, class) in &*map {
            places.insert(label, class.place(at));
            for bytes in class.numbers() {
                writer.write_all(bytes).map_err(FileError::io(&path, "write a file in"))?;
                at += bytes.len() as u64;
            }
        }
        writer.flush().map_err(FileError::io(&path, "write a file in"))?;
        drop(writer);
        map.clear();
        let held = budget.reserve(PLACE_BYTES * places.len() as u64, "class statistics")?;
        *self = Self::File(Filed { file: Arc::new(file), path, places, held });
        Ok(())
    }
}
