//! What was read, together with the memory that it holds.

use std::ops::Deref;

use residua_memory::Reservation;

/// A value read from a file, and the reservation for its bytes, which are given back when it is dropped.
#[derive(Debug)]
pub struct Held<T> {
    value: T,
    reservation: Reservation,
}

impl<T> Held<T> {
    /// A value with the reservation that covers its bytes.
    pub fn new(value: T, reservation: Reservation) -> Self {
        Self { value, reservation }
    }

    /// Value and reservation; the caller keeps the reservation as long as the value.
    pub fn into_parts(self) -> (T, Reservation) {
        (self.value, self.reservation)
    }

    /// The value alone; its bytes are given back to the budget, although they are still in use.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> Deref for Held<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}
