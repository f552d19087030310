//! An embeddable Kubernetes-style API server.
