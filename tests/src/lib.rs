//! End-to-end, simulation, golden and tidy tests.
