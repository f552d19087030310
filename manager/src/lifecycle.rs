//! What to do next for a cluster: pure functions of facts, without I/O, clock, log or randomness.
