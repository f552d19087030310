//! Command line of `lattice-manager`.

fn main() {}
