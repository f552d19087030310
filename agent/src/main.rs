//! Command line of `lattice-agent`.

fn main() {}
