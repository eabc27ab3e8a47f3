//! What a delta takes of a budget, counted without opening it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use residua_format::file::{CheckpointSizes, FileError, TensorInfo, open_regular};
use residua_memory::Budget;

use super::file::{ENTRY, HEADER_TENSOR, TABLE_TENSOR};
use super::report::DiffTensor;
use super::row::Layout;
use super::workers::Longest;
use crate::SplitError;
use crate::report::report_bytes;

/// Bytes of a file that are looked at together.
const BLOCK: usize = 64 << 10;

/// The sizes of a delta.
#[derive(Debug, Default)]
pub(crate) struct DeltaSizes {
    /// The file itself.
    pub(crate) file: CheckpointSizes,
    /// The texts of the table and of the new checkpoint's header.
    table: u64,
    header: u64,
    /// Entries of the table.
    entries: u64,
    /// The tensors of the new checkpoint.
    targets: CheckpointSizes,
    count: u64,
    names: u64,
    /// The longest rows of the tensors.
    pub(crate) longest: Longest,
}

impl DeltaSizes {
    /// Looks at a delta, and hands every tensor of the file to `each`. What is no delta has no table.
    pub(crate) fn of(path: &Path, each: &mut dyn FnMut(TensorInfo)) -> Result<Self, SplitError> {
        let (mut new, mut table, mut header) = (Self::default(), None, None);
        new.file = CheckpointSizes::of(path, &mut |tensor| {
            // Of several such names the longest is the delta's own.
            for (wanted, place) in [(TABLE_TENSOR, &mut table), (HEADER_TENSOR, &mut header)] {
                let longer = place.as_ref().is_none_or(|(name, ..): &(String, _, _)| *name < tensor.name);
                if tensor.name.trim_end_matches('_') == wanted && longer {
                    *place = Some((tensor.name.clone(), tensor.offset(), tensor.bytes));
                }
            }
            each(tensor);
        })?;
        let (Some((_, table, table_bytes)), Some((_, header, header_bytes))) = (table, header) else {
            return Ok(new);
        };
        (new.table, new.header) = (table_bytes, header_bytes);
        let file = open_regular(path)?.0;
        let start = 8 + new.file.text;
        let io = || FileError::io(path, "read");
        new.entries = braces(section(&file, start + table, table_bytes).map_err(io())?).map_err(io())?;
        let text = section(&file, start + header, header_bytes).map_err(io())?;
        new.targets = CheckpointSizes::of_header(text, path, &mut |tensor| {
            new.count += 1;
            new.names += tensor.name.len() as u64;
            new.longest.add(Layout::of(&tensor));
        })?;
        Ok(new)
    }

    /// Bytes that the tables take beside the open file while they are read, and afterwards.
    pub(crate) fn tables(&self) -> (u64, u64) {
        let table = |bytes: u64| bytes.saturating_sub(Budget::SMALL_TABLE);
        let both = table(self.header) + table(self.table + self.entries * ENTRY);
        (both + table(self.table) + self.targets.opening, both + self.targets.open)
    }

    /// Bytes of a report with an entry `T` for each tensor.
    pub(crate) fn report<T>(&self) -> u64 {
        // An entry for the table itself, those of tensors, and those of tensors that are gone.
        let count = self.count.max(self.entries.saturating_sub(1));
        report_bytes::<T>(count, self.names).saturating_sub(Budget::SMALL_TABLE)
    }
}

/// Bytes that [`report_delta`](crate::report_delta) takes of a budget, beside the open container; nothing for a file that
/// is no delta. Every tensor of the file goes to `each`.
///
/// # Errors
/// When the file cannot be read or has no well-formed header.
pub fn delta_sizes(
    path: &Path,
    each: &mut dyn FnMut(TensorInfo),
) -> Result<(CheckpointSizes, u64), SplitError> {
    let sizes = DeltaSizes::of(path, each)?;
    let (reading, read) = sizes.tables();
    Ok((sizes.file, reading.max(read + sizes.report::<DiffTensor>())))
}

fn section(mut file: &File, start: u64, bytes: u64) -> std::io::Result<impl Read + '_> {
    file.seek(SeekFrom::Start(start))?;
    Ok(file.take(bytes))
}

/// How many braces a text opens: an entry of a table begins with one.
fn braces(mut text: impl Read) -> std::io::Result<u64> {
    let (mut count, mut block) = (0, vec![0; BLOCK]);
    loop {
        match text.read(&mut block)? {
            0 => return Ok(count),
            read => count += block[..read].iter().filter(|&&byte| byte == b'{').count() as u64,
        }
    }
}
