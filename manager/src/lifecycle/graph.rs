//! The component graph: what may start now, and in which order all of it goes.
//!
//! Laws, each a property test over random graphs: a component starts only after all that it needs passed their gates;
//! everything that may run in parallel does; a cycle or unknown name is refused with its path; a sick component never
//! stops or removes its dependents or anything independent of it; removal runs in reverse.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Component;

/// Why a catalog makes no graph for a cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A component needs one that the catalog does not have.
    #[error("component {component} needs {needs}, which is not in the catalog")]
    Unknown {
        /// The component.
        component: String,
        /// What it needs.
        needs: String,
    },
    /// A component needs one that is turned off.
    #[error("component {component} needs {needs}, which is off: turn {needs} on or {component} off")]
    Disabled {
        /// The component.
        component: String,
        /// What it needs.
        needs: String,
    },
    /// Two entries have the same name.
    #[error("component {component} is in the catalog twice")]
    Twice {
        /// The component.
        component: String,
    },
    /// Components need each other in a circle.
    #[error("components need each other in a circle: {}", path.join(" → "))]
    Cycle {
        /// The circle; first and last are the same.
        path: Vec<String>,
    },
}

/// The enabled components of a cluster, with the edges that count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// Names in start order: each after all that it needs; by name among equals.
    order: Vec<String>,
    needs: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// Makes the graph of the enabled components.
    ///
    /// # Errors
    ///
    /// When the catalog makes none: [`Error`].
    pub fn new(components: &[Component]) -> Result<Self, Error> {
        let mut all: BTreeMap<&str, &Component> = BTreeMap::new();
        for component in components {
            if all.insert(&component.name, component).is_some() {
                return Err(Error::Twice { component: component.name.clone() });
            }
        }
        let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for component in components {
            for need in &component.needs {
                if !all.contains_key(need.name.as_str()) {
                    return Err(Error::Unknown { component: component.name.clone(), needs: need.name.clone() });
                }
            }
            if component.enabled {
                needs.insert(component.name.clone(), edges(component, &all)?);
            }
        }
        let order = order(&needs)?;
        Ok(Self { order, needs })
    }

    /// Names in start order.
    pub fn order(&self) -> &[String] {
        &self.order
    }

    /// Names in the order of removal: each before all that it needs.
    pub fn removal_order(&self) -> impl Iterator<Item = &str> {
        self.order.iter().rev().map(String::as_str)
    }

    /// What a component needs, of those that are enabled.
    pub fn needs(&self, name: &str) -> impl Iterator<Item = &str> {
        self.needs.get(name).into_iter().flatten().map(String::as_str)
    }

    /// Whether a component is part of the graph.
    pub fn contains(&self, name: &str) -> bool {
        self.needs.contains_key(name)
    }

    /// What a component still waits for: its needs whose gates have not passed.
    pub fn waiting_for(&self, name: &str, passed: impl Fn(&str) -> bool) -> Vec<String> {
        self.needs(name).filter(|need| !passed(need)).map(str::to_owned).collect()
    }

    /// Every component that may start now: not started, and all that it needs passed.
    pub fn startable(&self, started: impl Fn(&str) -> bool, passed: impl Fn(&str) -> bool) -> Vec<String> {
        self.order.iter().filter(|name| !started(name) && self.waiting_for(name, &passed).is_empty()).cloned().collect()
    }
}

/// The edges of a component that count: policy edges to what is off vanish.
fn edges(component: &Component, all: &BTreeMap<&str, &Component>) -> Result<BTreeSet<String>, Error> {
    let mut edges = BTreeSet::new();
    for need in &component.needs {
        if all.get(need.name.as_str()).is_some_and(|other| other.enabled) {
            edges.insert(need.name.clone());
        } else if !need.policy {
            return Err(Error::Disabled { component: component.name.clone(), needs: need.name.clone() });
        }
    }
    Ok(edges)
}

/// Kahn's order, smallest name first, or a circle.
fn order(needs: &BTreeMap<String, BTreeSet<String>>) -> Result<Vec<String>, Error> {
    let mut order: Vec<String> = Vec::with_capacity(needs.len());
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    while order.len() < needs.len() {
        let next = needs
            .iter()
            .find(|(name, edges)| !placed.contains(name.as_str()) && edges.iter().all(|e| placed.contains(e.as_str())));
        match next {
            Some((name, _)) => {
                placed.insert(name);
                order.push(name.clone());
            }
            None => return Err(Error::Cycle { path: circle(needs, &placed) }),
        }
    }
    Ok(order)
}

/// Walks along needs that cannot be placed until a name comes again.
fn circle(needs: &BTreeMap<String, BTreeSet<String>>, placed: &BTreeSet<&str>) -> Vec<String> {
    let mut path: Vec<&str> = Vec::new();
    let mut at = needs.keys().map(String::as_str).find(|name| !placed.contains(name));
    while let Some(name) = at {
        if let Some(start) = path.iter().position(|seen| *seen == name) {
            path.push(name);
            return path[start..].iter().map(|name| (*name).to_owned()).collect();
        }
        path.push(name);
        at = needs[name].iter().map(String::as_str).find(|need| !placed.contains(need));
    }
    path.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
