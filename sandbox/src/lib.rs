//! Runs all of Lattice with simulated infrastructure in one command.
