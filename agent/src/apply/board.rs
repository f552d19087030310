//! The state of every component, for the parent and for metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use lattice_protocol::clock;
use lattice_protocol::v1::ComponentReport;
use lattice_protocol::v1::component_report::State;
use tokio::sync::watch;

/// Latest report of every component; clones share it.
#[derive(Clone, Debug)]
pub struct Board(watch::Sender<Posted>);

/// What is posted.
#[derive(Clone, Debug, Default)]
pub struct Posted {
    /// Reports by component; `None` while a component is held whose state is not known yet.
    pub reports: Arc<BTreeMap<String, Option<ComponentReport>>>,
    /// Everything that is held has been read from the child.
    pub loaded: bool,
}

impl Posted {
    /// Whether all that is held has said how it is.
    pub fn is_complete(&self) -> bool {
        self.loaded && self.reports.values().all(Option::is_some)
    }
}

impl Default for Board {
    fn default() -> Self {
        Self(watch::Sender::new(Posted::default()))
    }
}

impl Board {
    /// Follows the board.
    pub fn follow(&self) -> watch::Receiver<Posted> {
        self.0.subscribe()
    }

    /// All records were read; these components are held.
    pub(super) fn loaded(&self, components: impl IntoIterator<Item = String>) {
        self.0.send_modify(|posted| {
            let reports = Arc::make_mut(&mut posted.reports);
            for component in components {
                reports.entry(component).or_insert(None);
            }
            posted.loaded = true;
        });
    }

    /// Posts a report if it says something new; `since` is set when the state is entered.
    pub(super) fn post(&self, mut report: ComponentReport) {
        self.0.send_if_modified(|posted| {
            let known = posted.reports.get(&report.component).and_then(Option::as_ref);
            report.since_unix_ms = match known {
                Some(known) if known.state == report.state && known.digest == report.digest => known.since_unix_ms,
                _ => clock::now().as_millisecond(),
            };
            if known == Some(&report) {
                return false;
            }
            let state = State::try_from(report.state).unwrap_or_default();
            tracing::info!(
                component = %report.component, state = state.as_str_name(), reason = %report.reason,
                message = %report.message, "component changed"
            );
            Arc::make_mut(&mut posted.reports).insert(report.component.clone(), Some(report));
            true
        });
    }
}
