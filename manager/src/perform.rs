//! Carries out effects; chooses nothing.
