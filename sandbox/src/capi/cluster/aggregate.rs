//! Conditions that sum up those of other objects.

use std::sync::Arc;

use kube::api::DynamicObject;

use super::super::conditions::{Condition, Status, entry};
use super::super::kind::Kind;
use super::super::object::Look as _;

/// Whether the condition `name` is True on any of the objects.
///
/// Objects that have not reported make it Unknown, except a control plane: until it reports nothing goes on there.
pub(crate) fn any<'a>(name: &str, objects: impl Iterator<Item = (Kind, &'a Arc<DynamicObject>)>) -> Condition {
    let (mut on, mut unknown) = (Vec::new(), Vec::new());
    for (kind, object) in objects {
        let title = format!("{} {}", kind.name(), object.name());
        match object.condition(name).map(Condition::read) {
            Some(condition) if condition.status == Status::True => on.push(entry(&title, &condition.message)),
            Some(_) => {}
            None if kind == Kind::ControlPlane => {}
            None => unknown.push(entry(&title, &format!("Condition {name} not yet reported"))),
        }
    }
    if !on.is_empty() {
        Condition::flag(name, true, on.join("\n"))
    } else if unknown.is_empty() {
        Condition::flag(name, false, "")
    } else {
        Condition::unknown(name, &format!("{name}Unknown"), unknown.join("\n"))
    }
}

/// Whether every worker group is available; True without any.
pub(crate) fn workers_available(deployments: &[Arc<DynamicObject>]) -> Condition {
    let name = "WorkersAvailable";
    if deployments.is_empty() {
        return Condition::yes(name, "NoWorkers");
    }
    let (mut bad, mut unknown) = (Vec::new(), Vec::new());
    for object in deployments {
        let title = format!("MachineDeployment {}", object.name());
        match object.condition("Available").map(Condition::read) {
            Some(condition) => match condition.status {
                Status::True => {}
                Status::False => bad.push(entry(&title, &condition.message)),
                Status::Unknown => unknown.push(entry(&title, &condition.message)),
            },
            None => unknown.push(entry(&title, "Condition Available not yet reported")),
        }
    }
    if !bad.is_empty() {
        bad.extend(unknown);
        Condition::no(name, "NotAvailable", bad.join("\n"))
    } else if unknown.is_empty() {
        Condition::yes(name, "Available")
    } else {
        Condition::unknown(name, "AvailableUnknown", unknown.join("\n"))
    }
}

/// The condition `of` summed up over machines, as condition `name`; True without any.
pub(crate) fn machines(name: &str, of: &str, machines: &[Arc<DynamicObject>]) -> Condition {
    if machines.is_empty() {
        return Condition::yes(name, "NoReplicas");
    }
    let (mut bad, mut unknown): (Groups, Groups) = (Groups::default(), Groups::default());
    for machine in machines {
        match machine.condition(of).map(Condition::read) {
            Some(condition) => match condition.status {
                Status::True => {}
                Status::False => bad.add(machine.name(), &condition.message),
                Status::Unknown => unknown.add(machine.name(), &condition.message),
            },
            None => unknown.add(machine.name(), &format!("Condition {of} not yet reported")),
        }
    }
    if !bad.0.is_empty() {
        Condition::no(name, &format!("Not{of}"), bad.text() + &unknown.more())
    } else if unknown.0.is_empty() {
        Condition::yes(name, of)
    } else {
        Condition::unknown(name, &format!("{of}Unknown"), unknown.text())
    }
}

/// Machines with the same message, together.
#[derive(Default)]
struct Groups(Vec<(String, Vec<String>)>);

impl Groups {
    fn add(&mut self, machine: &str, message: &str) {
        match self.0.iter_mut().find(|(text, _)| text == message) {
            Some((_, names)) => names.push(machine.to_owned()),
            None => self.0.push((message.to_owned(), vec![machine.to_owned()])),
        }
    }

    fn text(&self) -> String {
        let line = |(message, names): &(String, Vec<String>)| {
            let mut names = names.clone();
            names.sort();
            let title = if names.len() == 1 { "Machine" } else { "Machines" };
            entry(&format!("{title} {}", names.join(", ")), message)
        };
        self.0.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn more(&self) -> String {
        if self.0.is_empty() { String::new() } else { format!("\n{}", self.text()) }
    }
}
