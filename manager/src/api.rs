//! The resources `LatticeCluster` and `InfraProvider`: types, defaults, validation. No decisions, no I/O.
