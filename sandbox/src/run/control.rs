//! Answers the control socket.

use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::observe::{Board, Change};
use crate::control::{Handler, Request, listen};
use crate::fault::{Fault, What};
use crate::faults::Faults;
use crate::node::hypervisor::Hypervisor;

struct Control {
    hypervisor: Arc<Hypervisor>,
    faults: Arc<Faults>,
    board: Arc<Board>,
}

/// Starts to listen.
pub(crate) fn start(
    path: &Path,
    hypervisor: Arc<Hypervisor>,
    faults: Arc<Faults>,
    board: Arc<Board>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    listen(path, Arc::new(Control { hypervisor, faults, board }), stop)
}

impl Handler for Control {
    async fn handle(self: Arc<Self>, request: Request) -> Result<String, String> {
        match request {
            Request::Ping => Ok("a sandbox".to_owned()),
            Request::FaultSet(text) => self.set(&text),
            Request::FaultClear(text) => self.clear(text.as_deref()),
            Request::FaultList => {
                let all: Vec<String> = self.faults.list().iter().map(ToString::to_string).collect();
                Ok(all.join("\n"))
            }
            Request::KubeadmInit { namespace, machine, config } => {
                self.hypervisor.kubeadm(&namespace, &machine, &config, false).await
            }
            Request::KubeadmJoin { namespace, machine, config } => {
                self.hypervisor.kubeadm(&namespace, &machine, &config, true).await
            }
            Request::Route { namespace, machine, target } => self.hypervisor.route(&namespace, &machine, &target).await,
        }
    }
}

impl Control {
    fn set(&self, text: &str) -> Result<String, String> {
        let fault = parse(text)?;
        let (cluster, what) = (fault.cluster.clone(), fault.what.clone());
        self.faults.set(fault).map_err(|error| error.to_string())?;
        self.hypervisor.apply_faults(&cluster);
        let after = if what == What::AgentKill { "done" } else { "set" };
        self.board.tell(Change::plain(&cluster, "fault", "", after, &what.to_string()));
        Ok(format!("{after}: cluster={cluster},{what}"))
    }

    fn clear(&self, text: Option<&str>) -> Result<String, String> {
        let fault = text.map(parse).transpose()?;
        let cleared = self.faults.clear(fault.as_ref()).map_err(|error| error.to_string())?;
        if let (Some(fault), true) = (&fault, cleared.is_empty()) {
            let held: Vec<String> = self.faults.list().iter().map(ToString::to_string).collect();
            let held = if held.is_empty() { "none".to_owned() } else { held.join("; ") };
            return Err(format!("{fault} does not hold; those that do: {held}"));
        }
        let mut lines = Vec::new();
        for fault in cleared {
            self.hypervisor.apply_faults(&fault.cluster);
            self.board.tell(Change::plain(&fault.cluster, "fault", "set", "cleared", &fault.what.to_string()));
            lines.push(format!("cleared: {fault}"));
        }
        Ok(if lines.is_empty() { "no fault holds".to_owned() } else { lines.join("\n") })
    }
}

fn parse(text: &str) -> Result<Fault, String> {
    text.parse().map_err(|error: crate::fault::Error| error.to_string())
}
