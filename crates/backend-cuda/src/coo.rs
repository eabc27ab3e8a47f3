//! Triplets to CSR on the device.

use std::sync::Arc;

use residua_backend::BackendError;
use residua_format::Coo;
use residua_memory::Budget;

use crate::abi::THREADS;
use crate::driver::{Buffer, Driver};
use crate::kernels::Module;
use crate::launch::Launch;
use crate::matrix::DeviceCsr;

const WHAT: &str = "converting COO to CSR";

/// Triplets in a device's memory, in their original order.
#[derive(Debug)]
pub(crate) struct DeviceCoo {
    pub(crate) shape: [usize; 2],
    pub(crate) entries: usize,
    pub(crate) rows: Arc<Buffer>,
    pub(crate) columns: Arc<Buffer>,
    pub(crate) values: Arc<Buffer>,
}

impl DeviceCoo {
    pub(crate) fn upload(
        driver: &Arc<dyn Driver>,
        budget: &Budget,
        coo: &Coo<f32, u32>,
    ) -> Result<Self, BackendError> {
        let shape = [coo.rows(), coo.cols()];
        if u32::try_from(coo.nnz()).is_err() {
            let limit = u64::from(u32::MAX);
            return Err(BackendError::TooLarge { what: "a COO matrix", shape, limit, unit: "triplets" });
        }
        Ok(Self {
            shape,
            entries: coo.nnz(),
            rows: Arc::new(Buffer::from_slice(driver, budget, coo.row_indices(), WHAT)?),
            columns: Arc::new(Buffer::from_slice(driver, budget, coo.col_indices(), WHAT)?),
            values: Arc::new(Buffer::from_slice(driver, budget, coo.values(), WHAT)?),
        })
    }

    /// Converts the triplets. Values at one place are summed in their original order. Also returns the number of places.
    ///
    /// The kernels of `coo.cu` count the triplets of each row, move each triplet to its row, sort every row by column and
    /// original position, and merge triplets of one column. Only counts are atomic, so the bits repeat.
    pub(crate) fn to_csr(
        &self,
        driver: &Arc<dyn Driver>,
        budget: &Budget,
    ) -> Result<(DeviceCsr, usize), BackendError> {
        let (rows, entries) = (self.shape[0], self.entries);
        let zeroed = |bytes: usize| Buffer::zeroed(driver, budget, bytes, WHAT);
        if entries == 0 {
            let row_ptr = Arc::new(zeroed((rows + 1) * size_of::<u32>())?);
            let nothing = Arc::new(zeroed(0)?);
            return Ok((DeviceCsr { row_ptr, columns: nothing.clone(), values: nothing }, 0));
        }
        let counts = zeroed(rows * size_of::<u32>())?;
        let row_ptr = zeroed((rows + 1) * size_of::<u32>())?;
        let keys = Buffer::new(driver, budget, entries * size_of::<u64>(), WHAT)?;
        let per_entry = entries.div_ceil(THREADS);
        let scan = |row_ptr: &Buffer| {
            driver.launch(
                &Launch::new(Module::Coo, "coo_scan", 1)
                    .with(counts.address())
                    .with(rows as u32)
                    .with(row_ptr.address()),
            )
        };
        driver.launch(
            &Launch::new(Module::Coo, "coo_count", per_entry)
                .with(self.rows.address())
                .with(entries as u64)
                .with(counts.address()),
        )?;
        scan(&row_ptr)?;
        driver.launch(
            &Launch::new(Module::Coo, "coo_deal", per_entry)
                .with(self.rows.address())
                .with(self.columns.address())
                .with(entries as u64)
                .with(counts.address())
                .with(keys.address()),
        )?;
        driver.launch(
            &Launch::new(Module::Coo, "coo_sort", rows)
                .with(row_ptr.address())
                .with(keys.address())
                .with(counts.address()),
        )?;
        let merged_ptr = zeroed((rows + 1) * size_of::<u32>())?;
        scan(&merged_ptr)?;
        let mut places = [0u32];
        let last = merged_ptr.address() + (rows * size_of::<u32>()) as u64;
        driver.download(last, bytemuck::cast_slice_mut(&mut places))?;
        let places = places[0] as usize;
        let merged_columns = Buffer::new(driver, budget, places * size_of::<u32>(), WHAT)?;
        let merged_values = Buffer::new(driver, budget, places * size_of::<f32>(), WHAT)?;
        driver.launch(
            &Launch::new(Module::Coo, "coo_merge", rows)
                .with(row_ptr.address())
                .with(keys.address())
                .with(self.values.address())
                .with(merged_ptr.address())
                .with(merged_columns.address())
                .with(merged_values.address()),
        )?;
        let [row_ptr, columns, values] = [merged_ptr, merged_columns, merged_values].map(Arc::new);
        Ok((DeviceCsr { row_ptr, columns, values }, places))
    }
}
