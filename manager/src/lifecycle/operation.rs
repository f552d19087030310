//! Operations: one run of provision, delete and so on, with its steps and a trace of its own.
//!
//! Id and trace are made from the cluster's uid and the time that began it, so a manager that was killed before its
//! status was written makes the same ones again.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use lattice_protocol::tls::hex;
use sha2::{Digest, Sha256};

use super::look::Look;
use crate::api::{Operation, OperationStep, OperationType};

/// Most steps that are kept.
const STEPS_MAX: usize = 32;

/// Begins an operation, unless it runs already.
pub(super) fn begin(look: &mut Look<'_>, type_: OperationType, salt: &str) {
    let runs = look.status.operation.as_ref().is_some_and(|o| o.type_ == type_ && o.finished_at.is_none());
    if runs {
        return;
    }
    let seed = Sha256::digest(format!("{}/{}/{salt}", look.uid(), type_.as_str()));
    look.status.operation = Some(Operation {
        type_,
        id: hex(&seed[24..32]),
        started_at: look.time(),
        finished_at: None,
        steps: Vec::new(),
        traceparent: Some(format!("00-{}-{}-01", hex(&seed[..16]), hex(&seed[16..24]))),
        eta: None,
    });
}

/// Enters a step of the running operation, ending the one before.
pub(super) fn enter(look: &mut Look<'_>, name: &str) {
    let now = look.time();
    let Some(operation) = running(look) else { return };
    if operation.steps.last().is_some_and(|step| step.name == name && step.finished_at.is_none()) {
        return;
    }
    end_step(operation, &now);
    if operation.steps.len() < STEPS_MAX {
        operation.steps.push(OperationStep { name: name.to_owned(), started_at: now, finished_at: None });
    }
}

/// Says when the running operation should end, if like ones tell. It counts from now: what came before was waiting for
/// what only a person can give.
pub(super) fn expect(look: &mut Look<'_>) {
    let end = look.facts.typical.and_then(|typical| look.time().0.checked_add(typical).ok());
    if let Some(operation) = running(look) {
        operation.eta = end.map(Time);
    }
}

/// Ends the running operation.
pub(super) fn finish(look: &mut Look<'_>) {
    let now = look.time();
    let Some(operation) = running(look) else { return };
    end_step(operation, &now);
    operation.finished_at = Some(now);
    operation.eta = None;
    look.finished = Some(operation.clone());
}

fn running<'l>(look: &'l mut Look<'_>) -> Option<&'l mut Operation> {
    look.status.operation.as_mut().filter(|operation| operation.finished_at.is_none())
}

fn end_step(operation: &mut Operation, now: &Time) {
    if let Some(step) = operation.steps.last_mut().filter(|step| step.finished_at.is_none()) {
        step.finished_at = Some(now.clone());
    }
}
