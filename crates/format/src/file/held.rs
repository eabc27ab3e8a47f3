//! Values with the memory that they hold.

use std::ops::Deref;

use residua_memory::Reservation;

/// A value and the reservation for its bytes. Dropping it gives the bytes back to the budget.
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

    /// The value and the reservation. The caller keeps the reservation as long as the value.
    pub fn into_parts(self) -> (T, Reservation) {
        (self.value, self.reservation)
    }

    /// The value alone. Its bytes go back to the budget although they are still in use.
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
