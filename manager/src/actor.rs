//! Fleet, cluster and component actors, and their supervision.
