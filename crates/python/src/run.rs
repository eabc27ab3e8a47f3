//! Work without the interpreter's lock, on the pool. The calling thread keeps watch: it looks for signals and reports
//! progress.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use residua::Progress;

use crate::error::{ResiduaError, exception};
use crate::threads::pool;

/// How often the calling thread looks.
const TICK: Duration = Duration::from_millis(50);

/// What a running job tells, and whether it should stop.
#[derive(Default)]
pub(crate) struct Watch {
    stop: AtomicBool,
    done: AtomicU64,
    total: AtomicU64,
    text: Mutex<Text>,
}

/// What is done to which tensor.
#[derive(Default, Clone)]
struct Text {
    what: String,
    tensor: String,
}

impl Watch {
    fn text<R>(&self, change: impl FnOnce(&mut Text) -> R) -> R {
        change(&mut self.text.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Calls `callback(what, tensor, done, total)`.
    fn report(&self, py: Python<'_>, callback: &Py<PyAny>) -> PyResult<()> {
        let Text { what, tensor } = self.text(|text| text.clone());
        if what.is_empty() {
            // The job has not begun.
            return Ok(());
        }
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        callback.call1(py, (what, tensor, done, total)).map(drop)
    }
}

impl Progress for Watch {
    fn begin(&self, what: &str, total_bytes: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total_bytes, Ordering::Relaxed);
        self.text(|text| *text = Text { what: what.to_owned(), tensor: String::new() });
    }

    fn tensor(&self, name: &str) {
        self.text(|text| text.tensor = name.to_owned());
    }

    fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Does `work` on the pool of this process. A signal handler that raises, such as Ctrl-C's, and a callback that raises
/// stop the job unless it is already done: it leaves nothing behind. Their exception is the result. A panic becomes an
/// exception.
pub(crate) fn run<T, E>(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&Watch) -> Result<T, E> + Send,
) -> PyResult<T>
where
    T: Send,
    E: Into<residua::Error> + Send,
{
    let pool = pool(py)?;
    let callback = callback(py, progress)?;
    let watch = Watch::default();
    let (result, raised) = py.detach(|| {
        let (sender, receiver) = sync_channel(1);
        let watch = &watch;
        pool.in_place_scope(|scope| {
            scope.spawn(move |_| {
                // Nothing that the work may have left half-changed is looked at after a panic.
                let _ = sender.send(catch_unwind(AssertUnwindSafe(|| work(watch))));
            });
            let mut raised = None;
            loop {
                match receiver.recv_timeout(TICK) {
                    Ok(result) => return (Some(result), raised),
                    Err(RecvTimeoutError::Disconnected) => return (None, raised),
                    Err(RecvTimeoutError::Timeout) if raised.is_some() => {}
                    Err(RecvTimeoutError::Timeout) => {
                        let looked = Python::attach(|py| {
                            py.check_signals()?;
                            callback.as_ref().map_or(Ok(()), |callback| watch.report(py, callback))
                        });
                        if let Err(error) = looked {
                            raised = Some(error);
                            watch.stop.store(true, Ordering::Relaxed);
                        }
                    }
                }
            }
        })
    });
    if let Some(raised) = raised {
        return Err(raised);
    }
    let value = match result {
        Some(Ok(result)) => result.map_err(exception)?,
        Some(Err(panic)) => return Err(ResiduaError::new_err(panic_text(&*panic))),
        None => return Err(ResiduaError::new_err("internal error: the work ended without a result")),
    };
    if let Some(callback) = &callback {
        watch.report(py, callback)?;
    }
    Ok(value)
}

/// The function to call: `True` is a progress bar, `None` and `False` are nothing.
fn callback(py: Python<'_>, progress: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Py<PyAny>>> {
    let Some(progress) = progress else { return Ok(None) };
    match progress.extract::<bool>() {
        Ok(false) => Ok(None),
        Ok(true) => Ok(Some(py.import("residua._progress")?.call_method0("bar")?.unbind())),
        Err(_) if progress.is_callable() => Ok(Some(progress.clone().unbind())),
        Err(_) => Err(crate::error::usage("progress is True, False, None or a function")),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    format!("internal error, please report it: {}", text.unwrap_or("a panic without a message"))
}
