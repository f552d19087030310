//! Reads and writes of the parent's API.
