//! Errors that a person meets, each with its path and cure.
