//! The component catalog: entries, version matrix, bundles.
