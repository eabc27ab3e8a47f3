//! What a device is called.

use std::fmt;

/// A device that a backend can open.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// What a program opens it by: `cpu`, `cuda:0`, `wgpu:1`.
    pub id: String,
    /// What its maker calls it, for people.
    pub name: String,
    /// Whether software plays this device on the processor. The CPU backend is faster then.
    pub software: bool,
}

impl DeviceInfo {
    /// A device by its id and its name; `software` when a program plays it on the processor.
    pub fn new(id: impl Into<String>, name: impl Into<String>, software: bool) -> Self {
        Self { id: id.into(), name: name.into(), software }
    }
}

impl fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}{}", self.id, self.name, if self.software { " (software)" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_a_line() {
        assert_eq!(DeviceInfo::new("cuda:0", "H200", false).to_string(), "cuda:0: H200");
        assert_eq!(DeviceInfo::new("wgpu:1", "llvmpipe", true).to_string(), "wgpu:1: llvmpipe (software)");
    }
}
