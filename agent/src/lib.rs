//! Runs on each workload cluster and dials its parent.
