//! The exceptions: one class for each kind of error.

use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PyUserWarning};
use pyo3::{PyErr, create_exception};
use residua::ErrorKind;

create_exception!(residua, ResiduaError, PyException, "Any failure of Residua.");
create_exception!(
    residua,
    UsageError,
    ResiduaError,
    "The request is wrong: arguments contradict each other, or shapes and element types do not fit."
);
create_exception!(
    residua,
    InputError,
    ResiduaError,
    "An input is wrong: a file is malformed, or its content does not fit the request."
);
create_exception!(
    residua,
    BudgetError,
    ResiduaError,
    "The memory budget is too small; the text says what is needed."
);
create_exception!(residua, IoError, ResiduaError, "The operating system refused to read or write.");
create_exception!(residua, DeviceError, ResiduaError, "A device is missing, lost or out of memory.");
create_exception!(
    residua,
    CompensationWarning,
    PyUserWarning,
    "Moved statistics may be wrong; the text says why and what helps."
);

/// The exception of an error. Its text is the library's.
pub(crate) fn exception(error: impl Into<residua::Error>) -> PyErr {
    let error = error.into();
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Usage => UsageError::new_err(text),
        ErrorKind::Input => InputError::new_err(text),
        ErrorKind::Budget => BudgetError::new_err(text),
        ErrorKind::Io => IoError::new_err(text),
        ErrorKind::Device => DeviceError::new_err(text),
        ErrorKind::Interrupted => PyKeyboardInterrupt::new_err(text),
        _ => ResiduaError::new_err(text),
    }
}

/// A wrong request.
pub(crate) fn usage(text: impl Into<String>) -> PyErr {
    UsageError::new_err(text.into())
}
