//! What the server counts, as `/metrics` tells it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

/// The labels of a counted request.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Labels {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) code: u16,
}

/// Counters of requests.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<Labels, u64>>,
}

impl Metrics {
    /// Counts a request.
    pub(crate) fn count(&self, labels: Labels) {
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry(labels).or_default() += 1;
    }

    /// Writes all counters in the text format of Prometheus.
    pub(crate) fn text(&self, objects: u64) -> String {
        let mut out = String::from(
            "# HELP apiserver_request_total Requests by verb, resource and code.\n# TYPE apiserver_request_total counter\n",
        );
        for (labels, count) in self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let Labels { verb, group, version, resource, subresource, code } = labels;
            let _ = writeln!(
                out,
                "apiserver_request_total{{code=\"{code}\",component=\"apiserver\",group=\"{group}\",resource=\"{resource}\",\
                 subresource=\"{subresource}\",verb=\"{verb}\",version=\"{version}\"}} {count}"
            );
        }
        let _ = writeln!(
            out,
            "# HELP apiserver_storage_revision The latest revision.\n# TYPE apiserver_storage_revision gauge\n\
             apiserver_storage_revision {objects}"
        );
        out
    }
}
