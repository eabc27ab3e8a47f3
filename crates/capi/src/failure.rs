//! Errors, and how C gets them.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

use residua::backend::BackendError;
use residua::format::FormatError;

/// Why a call failed; `orth_last_error` returns its text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0} is NULL")]
    Null(&'static str),
    #[error("{0}")]
    Refused(String),
    #[error(
        "{field} is {address:#x}, which is no buffer of this library's (freed already, or allocated elsewhere): \
         use the pointers that orth_layer_init and orth_layer_alloc_ortho* set, or orth_buffer_lend"
    )]
    Unknown { field: &'static str, address: usize },
    #[error("{field} holds {found} bytes; the layer's fields call for {needed}")]
    TooSmall { field: &'static str, found: usize, needed: usize },
    #[error("{bytes} bytes for {what}: out of memory")]
    Memory { what: &'static str, bytes: usize },
    #[error("ortho: {0}")]
    Ortho(FormatError),
    #[error("base: {0}")]
    Base(FormatError),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error(transparent)]
    Library(#[from] residua::Error),
    #[error("internal error, please report it: {0}")]
    Panic(String),
}

impl Failure {
    pub(crate) fn refused(text: impl Into<String>) -> Self {
        Self::Refused(text.into())
    }
}

thread_local! {
    static LAST: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// Runs the body of an exported function: a failure or a panic becomes `failed` and the thread's last error.
pub(crate) fn guard<T>(failed: T, body: impl FnOnce() -> Result<T, Failure>) -> T {
    // A panic leaves no half-changed state for a later call: we take locks even after a panic of their last holder,
    // and change registries only by single insertions and removals.
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => return value,
        Ok(Err(failure)) => failure,
        Err(panic) => Failure::Panic(message(&*panic)),
    };
    let text = failure.to_string().replace('\0', "\\0");
    // A thread without its locals is ending: it will not read the text.
    let _ = LAST.try_with(|last| last.replace(CString::new(text).ok()));
    failed
}

/// [`guard`] for functions that return 0 or −1.
pub(crate) fn status(body: impl FnOnce() -> Result<(), Failure>) -> c_int {
    guard(-1, || body().map(|()| 0))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// The text of the calling thread's last failure; never NULL.
pub(crate) fn last_error() -> *const c_char {
    const NONE: &CStr = c"";
    let last = LAST.try_with(|last| last.borrow().as_ref().map(|text| text.as_ptr()));
    last.ok().flatten().unwrap_or(NONE.as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last() -> String {
        // SAFETY: `last_error` returns a terminated string that lives until this thread's next failure.
        unsafe { CStr::from_ptr(last_error()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn panics_and_failures_become_texts_of_their_thread() {
        assert_eq!(last(), "");
        assert_eq!(status(|| Err(Failure::Null("layer"))), -1);
        assert_eq!(last(), "layer is NULL");
        std::thread::spawn(|| assert_eq!(last(), "")).join().unwrap();
        assert_eq!(status(|| panic!("{} halves", 2)), -1);
        assert!(last().ends_with("2 halves"), "{}", last());
        assert_eq!(status(|| Err(Failure::refused("a\0b"))), -1);
        assert_eq!(last(), "a\\0b");
        assert_eq!(status(|| Ok(())), 0);
        assert_eq!(last(), "a\\0b", "success leaves it alone");
    }
}
