//! Backend contract.
