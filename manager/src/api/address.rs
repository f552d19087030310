//! Addresses, ranges and networks in a spec.
