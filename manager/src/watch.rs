//! Shared informers to messages; status writer; leader lease.
