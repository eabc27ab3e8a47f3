//! Tensors that a job copies unchanged.

use residua_format::file::{Checkpoint, TensorInfo};

use crate::progress::check_stop;
use crate::{Progress, SplitError};

/// Bytes copied at a time.
pub(crate) const BLOCK: usize = 256 << 10;

/// Hands a tensor's bytes to `write`, block by block.
pub(crate) fn copy<E>(
    file: &Checkpoint,
    info: &TensorInfo,
    progress: &dyn Progress,
    mut write: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), SplitError>
where
    SplitError: From<E>,
{
    let mut block = vec![0; BLOCK.min(info.bytes as usize)];
    let mut done = 0;
    while done < info.bytes {
        check_stop(progress)?;
        let piece = &mut block[..(info.bytes - done).min(BLOCK as u64) as usize];
        file.read_at(info, done, piece)?;
        write(piece)?;
        done += piece.len() as u64;
        progress.advance(piece.len() as u64);
    }
    Ok(())
}
