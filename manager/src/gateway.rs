//! Listeners, sessions, enrolment, and the Kubernetes API proxy.
