//! Simulated scheduler, workload controllers and kubelets.
