//! Files: one module per format. Everything read is validated before it is returned.
