//! A component's bundle onto the child, through its agent.

use std::sync::Arc;
use std::time::Duration;

use lattice_protocol::telemetry::{self, Traceparent};
use lattice_protocol::v1;
use lattice_protocol::v1::apply_response::Outcome as Answer;
use lattice_protocol::v1::components_client::ComponentsClient;
use tonic::{Code, Request, Status};

use super::{Error, Performer, Subject, bundle_context};
use crate::chart::Bundle;
use crate::gateway::AgentSession;
use crate::lifecycle::Certainty;

/// Longest wait for the agent's answer to one command. A bundle of 4 MiB takes half of it at 1 Mbit/s.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(1);
/// Largest message of a command: the bundle's limit and some room.
const MESSAGE_BYTES_MAX: usize = 6 << 20;

/// What is to be installed, as the cluster's actor decided.
#[derive(Clone, Debug)]
pub struct InstallPlan {
    /// The cluster.
    pub subject: Subject,
    /// Name of the component.
    pub component: String,
    /// Version of the child's API server, once it is known.
    pub kubernetes: Option<String>,
    /// What the agent holds of it: digest and revision.
    pub held: Option<(String, u64)>,
    /// Ownership epoch.
    pub epoch: u64,
    /// Span that the work belongs to.
    pub parent: Option<Traceparent>,
}

/// Talks to one agent about components.
#[derive(Clone, Debug)]
pub struct Installer {
    performer: Performer,
    session: Arc<AgentSession>,
}

impl Performer {
    /// Makes every bundle of a cluster once, to see whether it can be made.
    pub(super) fn check_bundles(&self, subject: &Subject) -> Result<(), Error> {
        let context = bundle_context(subject, None, &self.lattice_crds)?;
        for summary in self.catalog.summary(&context.selection)?.iter().filter(|summary| summary.enabled) {
            self.catalog.bundle(&summary.name, &context)?;
        }
        Ok(())
    }
}

impl Installer {
    /// Talks over a live session.
    ///
    /// # Errors
    /// [`Error::AgentAway`].
    pub fn new(performer: &Performer, subject: &Subject) -> Result<Self, Error> {
        let session = performer.gateway.session(&subject.uid);
        let session = session.ok_or_else(|| Error::AgentAway { cluster: subject.name.to_string() })?;
        Ok(Self { performer: performer.clone(), session })
    }

    /// Hands a component's bundle to the agent; returns once the agent has recorded it.
    pub async fn install(&self, plan: &InstallPlan) -> Result<(), Error> {
        let context = bundle_context(&plan.subject, plan.kubernetes.as_deref(), &self.performer.lattice_crds)?;
        let bundle = self.performer.catalog.bundle(&plan.component, &context)?;
        let what = format!("component {}", plan.component);
        // An unchanged bundle costs one small message.
        let brief = self.apply(plan, &bundle, false).await?;
        let answer = match brief.outcome() {
            Answer::NeedObjects => self.apply(plan, &bundle, true).await?,
            _ => brief,
        };
        match answer.outcome() {
            Answer::Accepted | Answer::Unchanged => Ok(()),
            Answer::Stale | Answer::NeedObjects | Answer::Unspecified => {
                Err(Error::Agent { what, message: answer.message, certainty: Certainty::NotDone })
            }
        }
    }

    /// Takes a component off the child.
    pub async fn remove(&self, component: &str, epoch: u64, parent: Option<&Traceparent>) -> Result<(), Error> {
        let what = format!("removal of component {component}");
        let mut request = Request::new(v1::RemoveRequest { component: component.to_owned(), epoch, prune_crds: false });
        prepare(&mut request, parent);
        let mut client = ComponentsClient::new(self.session.channel());
        client.remove(request).await.map_err(|status| refused(what, &status))?;
        Ok(())
    }

    async fn apply(&self, plan: &InstallPlan, bundle: &Bundle, whole: bool) -> Result<v1::ApplyResponse, Error> {
        let revision = match &plan.held {
            Some((digest, revision)) if *digest == bundle.digest => *revision,
            Some((_, revision)) => revision.saturating_add(1),
            None => 1,
        };
        let mut request = Request::new(v1::ApplyRequest {
            component: plan.component.clone(),
            digest: bundle.digest.clone(),
            revision,
            epoch: plan.epoch,
            objects: if whole { bundle.object_bytes() } else { Vec::new() },
            gates: if whole { bundle.gates.clone() } else { Vec::new() },
            ignored: if whole { bundle.ignored.clone() } else { Vec::new() },
            version: bundle.version.clone(),
        });
        prepare(&mut request, plan.parent.as_ref());
        let channel = if whole { self.session.bulk_channel() } else { self.session.channel() };
        let mut client = ComponentsClient::new(channel).max_encoding_message_size(MESSAGE_BYTES_MAX);
        let what = format!("component {}", plan.component);
        Ok(client.apply(request).await.map_err(|status| refused(what, &status))?.into_inner())
    }
}

fn prepare<T>(request: &mut Request<T>, parent: Option<&Traceparent>) {
    request.set_timeout(COMMAND_TIMEOUT);
    telemetry::inject(request.metadata_mut(), parent);
}

fn refused(what: String, status: &Status) -> Error {
    let certainty = match status.code() {
        Code::InvalidArgument | Code::FailedPrecondition | Code::PermissionDenied | Code::Unimplemented => {
            Certainty::NotDone
        }
        _ => Certainty::MaybeDone,
    };
    Error::Agent { what, message: status.message().to_owned(), certainty }
}
