//! The budget and its reservations.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{ByteSize, ErrorKind};

/// A request that the budget does not allow: what was asked, what was left, and the minimum limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "memory budget too small: {} for {what}, but {} of {} are left; at least {} is needed",
    ByteSize(*.requested), ByteSize(*.available), ByteSize(*.limit), shown_enough(*.minimum)
)]
pub struct BudgetError {
    /// What the memory was for.
    pub what: String,
    /// Bytes asked for.
    pub requested: u64,
    /// Bytes that were left.
    pub available: u64,
    /// The budget's limit in bytes.
    pub limit: u64,
    /// A limit in bytes that allows this request. Of a budget for the whole process it has room for a process that holds
    /// a little more when it runs again. Later requests of the job may need more.
    pub minimum: u64,
}

impl BudgetError {
    /// Always [`ErrorKind::Budget`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Budget
    }
}

/// How much more a process may hold at the start of its next run.
const SPREAD: u64 = 1 << 20;

/// A size rounded up, so that its text (two decimals) reads back as at least `bytes`.
fn shown_enough(bytes: u64) -> ByteSize {
    let unit: u64 = 1 << (10 * (bytes.max(1).ilog2() / 10));
    ByteSize(bytes.saturating_add(unit.div_ceil(200) * u64::from(unit > 1)))
}

#[derive(Debug)]
struct Shared {
    limit: u64,
    /// Bytes in use before the first reservation (the process itself). They count against the limit.
    baseline: u64,
    used: AtomicU64,
    peak: AtomicU64,
}

/// The bytes that a job may hold at one time. Clones share one budget.
///
/// ```
/// use residua_memory::Budget;
/// let budget = Budget::new(1 << 20);
/// let held = budget.reserve(1 << 19, "a tile")?;
/// assert_eq!(budget.available(), 1 << 19);
/// drop(held);
/// assert_eq!(budget.available(), 1 << 20);
/// # Ok::<(), residua_memory::BudgetError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Budget(Arc<Shared>);

impl Budget {
    /// Bytes of a table that nobody reserves.
    pub const SMALL_TABLE: u64 = 128 << 10;

    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> Self {
        Self::with_baseline(bytes, 0)
    }

    /// A budget that never refuses. It still counts reservations.
    pub fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// A budget for the **whole process**: `bytes` minus what the process holds already, and minus `slack` bytes for
    /// what nobody reserves (allocator overhead, thread stacks, file headers).
    ///
    /// # Errors
    /// When baseline and slack alone exceed `bytes`.
    pub fn for_process(bytes: u64, slack: u64) -> Result<Self, BudgetError> {
        crate::process::return_freed_memory();
        let baseline = crate::process::current_rss().unwrap_or(0).saturating_add(slack);
        if baseline > bytes {
            return Err(BudgetError {
                what: "the process itself".into(),
                requested: baseline,
                available: bytes,
                limit: bytes,
                minimum: baseline.saturating_add(SPREAD),
            });
        }
        Ok(Self::with_baseline(bytes, baseline))
    }

    fn with_baseline(limit: u64, baseline: u64) -> Self {
        Self(Arc::new(Shared {
            limit,
            baseline,
            used: AtomicU64::new(baseline),
            peak: AtomicU64::new(baseline),
        }))
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// Bytes in use now: reservations and the baseline.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Bytes that are left now.
    pub fn available(&self) -> u64 {
        self.0.limit - self.used()
    }

    /// The most bytes that were in use at one time.
    pub fn peak(&self) -> u64 {
        self.0.peak.load(Ordering::Relaxed)
    }

    /// Share of the limit in use, 0 to 1.
    pub fn usage(&self) -> f64 {
        self.used() as f64 / self.0.limit.max(1) as f64
    }

    /// Takes `bytes` until the reservation is dropped. `what` names their use in errors.
    ///
    /// # Errors
    /// When fewer than `bytes` are left. It takes nothing then.
    pub fn reserve(&self, bytes: u64, what: &str) -> Result<Reservation, BudgetError> {
        self.take(bytes, what)?;
        Ok(Reservation { budget: self.clone(), bytes })
    }

    /// As [`reserve`](Self::reserve), for a table of names: takes only what it has beyond [`SMALL_TABLE`](Self::SMALL_TABLE).
    /// The tables of ordinary files are part of the slack, so that they change no minimum.
    ///
    /// # Errors
    /// When that is not left.
    pub fn reserve_table(&self, bytes: u64, what: &str) -> Result<Reservation, BudgetError> {
        self.reserve(bytes.saturating_sub(Self::SMALL_TABLE), what)
    }

    /// Fails if `bytes` cannot be reserved now, and takes nothing. A job calls it up front to check what it will
    /// need.
    ///
    /// # Errors
    /// When fewer than `bytes` are left.
    pub fn require(&self, bytes: u64, what: &str) -> Result<(), BudgetError> {
        self.reserve(bytes, what).map(drop)
    }

    fn take(&self, bytes: u64, what: &str) -> Result<(), BudgetError> {
        let shared = &*self.0;
        let taken = shared.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|&sum| sum <= shared.limit)
        });
        match taken {
            Ok(before) => {
                shared.peak.fetch_max(before + bytes, Ordering::Relaxed);
                Ok(())
            }
            Err(used) => Err(BudgetError {
                what: what.into(),
                requested: bytes,
                available: shared.limit - used,
                limit: shared.limit,
                minimum: used.saturating_add(bytes).saturating_add(if shared.baseline > 0 {
                    SPREAD
                } else {
                    0
                }),
            }),
        }
    }

    /// Bytes in use before the first reservation.
    pub fn baseline(&self) -> u64 {
        self.0.baseline
    }
}

/// Bytes taken from a [`Budget`]. Dropping it gives them back.
#[derive(Debug)]
#[must_use = "dropping a reservation gives the bytes back"]
pub struct Reservation {
    budget: Budget,
    bytes: u64,
}

impl Reservation {
    /// The budget that it was taken from.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes `more` bytes for the same purpose.
    ///
    /// # Errors
    /// When fewer are left. The reservation is unchanged then.
    pub fn grow(&mut self, more: u64, what: &str) -> Result<(), BudgetError> {
        self.budget.take(more, what)?;
        self.bytes += more;
        Ok(())
    }

    /// Gives `fewer` bytes back, or all of them when it holds fewer.
    pub fn shrink(&mut self, fewer: u64) {
        let fewer = fewer.min(self.bytes);
        self.bytes -= fewer;
        self.budget.0.used.fetch_sub(fewer, Ordering::Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refusal_says_how_much_is_needed_at_least() {
        let budget = Budget::new(100);
        let _held = budget.reserve(70, "first").unwrap();
        let error = budget.reserve(50, "second").unwrap_err();
        assert_eq!((error.requested, error.available, error.minimum), (50, 30, 120));
        assert!(error.to_string().contains("50 B for second, but 30 B of 100 B"), "{error}");
        assert!(error.to_string().ends_with("at least 120 B is needed"), "{error}");
        assert_eq!(budget.used(), 70);
    }

    #[test]
    fn what_is_needed_is_not_rounded_down() {
        for minimum in [1, 1023, 1024, 20_971_521, 20_976_000, 5 << 30, (1 << 40) + 1, u64::MAX / 3] {
            let error = BudgetError { what: "it".into(), requested: 1, available: 0, limit: 1, minimum };
            let text = error.to_string();
            let shown = text.split("at least ").nth(1).unwrap().trim_end_matches(" is needed");
            let shown: ByteSize = shown.parse().unwrap();
            assert!(
                shown.0 >= minimum && shown.0 as f64 <= 1.011 * minimum as f64 + 1.0,
                "{minimum}: {text}"
            );
        }
    }

    #[test]
    fn overflowing_request_is_refused() {
        let budget = Budget::unlimited();
        let _one = budget.reserve(1, "one").unwrap();
        assert!(budget.reserve(u64::MAX, "all").is_err());
    }

    #[test]
    fn threads_never_exceed_the_limit() {
        let budget = Budget::new(1000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for i in 0..1000 {
                        if let Ok(held) = budget.reserve(i % 400, "piece") {
                            assert!(budget.used() <= 1000);
                            drop(held);
                        }
                    }
                });
            }
        });
        assert_eq!(budget.used(), 0);
        assert!(budget.peak() <= 1000);
    }

    proptest! {
        /// Whatever is reserved, grown, shrunk and dropped, the sum of what is held is what is used.
        #[test]
        fn used_is_the_sum_of_reservations(steps in prop::collection::vec((0u8..4, 0u64..200), 0..60)) {
            let budget = Budget::new(1000);
            let mut held: Vec<Reservation> = Vec::new();
            for (action, bytes) in steps {
                match (action, held.last_mut()) {
                    (0, _) | (_, None) => held.extend(budget.reserve(bytes, "r").ok()),
                    (1, Some(last)) => drop(last.grow(bytes, "g")),
                    (2, Some(last)) => last.shrink(bytes),
                    _ => drop(held.pop()),
                }
                prop_assert_eq!(budget.used(), held.iter().map(Reservation::bytes).sum::<u64>());
                prop_assert!(budget.peak() <= 1000);
            }
            drop(held);
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
