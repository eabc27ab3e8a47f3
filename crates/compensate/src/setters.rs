//! Builder methods of settings.

/// Makes a `with_…` method for each field: it takes the setting and returns the settings with it. `Some(T)` is for an
/// optional field.
macro_rules! setters {
    () => {};
    ($(#[$doc:meta])* $method:ident: $field:ident: Some($type:ty), $($rest:tt)*) => {
        $(#[$doc])*
        #[must_use]
        pub fn $method(mut self, $field: $type) -> Self {
            self.$field = Some($field);
            self
        }
        setters! { $($rest)* }
    };
    ($(#[$doc:meta])* $method:ident: $field:ident: $type:ty, $($rest:tt)*) => {
        $(#[$doc])*
        #[must_use]
        pub fn $method(mut self, $field: $type) -> Self {
            self.$field = $field;
            self
        }
        setters! { $($rest)* }
    };
}
pub(crate) use setters;
