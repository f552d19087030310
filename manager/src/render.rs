//! Templates to checked objects.
