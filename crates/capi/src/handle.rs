//! Opaque handles.
//!
//! A handle is a number cast to a pointer, and is never used twice. A closed or made-up handle is not in the table, so
//! we refuse it and never follow it. Calls hold the object while they run, so closing it during a call is safe.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::failure::Failure;

static OBJECTS: RwLock<BTreeMap<usize, Arc<dyn Any + Send + Sync>>> = RwLock::new(BTreeMap::new());
static NEXT: AtomicUsize = AtomicUsize::new(1);

/// Keeps an object and returns its handle; `H` is only the handle's type in C.
pub(crate) fn open<H>(object: impl Any + Send + Sync) -> *mut H {
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    OBJECTS.write().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::new(object));
    std::ptr::without_provenance_mut(id)
}

/// The object of a handle.
pub(crate) fn get<H, T: Any + Send + Sync>(what: &'static str, handle: *const H) -> Result<Arc<T>, Failure> {
    if handle.is_null() {
        return Err(Failure::Null(what));
    }
    let objects = OBJECTS.read().unwrap_or_else(PoisonError::into_inner);
    let object = objects.get(&handle.addr()).cloned();
    drop(objects);
    object
        .and_then(|object| object.downcast().ok())
        .ok_or_else(|| Failure::refused(format!("{what} is not open: closed already, or no {what} at all")))
}

/// Closes a handle; accepts NULL; refuses a handle that is not open or has another type.
pub(crate) fn close<H, T: Any + Send + Sync>(what: &'static str, handle: *const H) -> Result<(), Failure> {
    if handle.is_null() {
        return Ok(());
    }
    get::<H, T>(what, handle)?;
    let mut objects = OBJECTS.write().unwrap_or_else(PoisonError::into_inner);
    let object = objects.remove(&handle.addr());
    if objects.is_empty() {
        // An emptied map keeps a node, and a leak checker would find it.
        *objects = BTreeMap::new();
    }
    drop(objects);
    // Drop the object after unlocking the table: it may take some time.
    drop(object);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_open_handles_of_the_right_type_work() {
        let handle: *mut u8 = open(5i32);
        assert_eq!(*get::<_, i32>("number", handle).unwrap(), 5);
        assert!(get::<_, String>("text", handle).is_err());
        assert!(close::<_, String>("text", handle).is_err());
        close::<_, i32>("number", handle).unwrap();
        assert!(close::<_, i32>("number", handle).is_err());
        assert!(get::<_, i32>("number", handle).is_err());
        assert!(get::<u8, i32>("number", std::ptr::null()).is_err());
        close::<u8, i32>("number", std::ptr::null()).unwrap();
    }
}
