//! The component catalog: which components there are, what each needs, and what is installed for it.
//!
//! A component is a folder, `templates/components/<name>/`, with `component.yaml`, `values.yaml.j2` and `manifests/`.
//! Nothing here names a component: a new folder is a new component. What depends on what is only written down here;
//! `lifecycle::graph` decides about it.

mod bundle;
mod component;
mod error;
mod selection;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use bundle::{Bundle, BundleContext, digest};
pub use component::{ComponentSummary, Need};
pub use error::Error;
pub use selection::{Features, Override, Selection};

use crate::render::Renderer;
use component::Component;

/// Most components. Each costs a condition in every cluster's status, and the graph is walked at each decision.
const COMPONENTS_MAX: usize = 64;

/// Every component that can be installed.
#[derive(Debug)]
pub struct Catalog {
    renderer: Arc<Renderer>,
    components: BTreeMap<String, Component>,
}

impl Catalog {
    /// Reads the catalog from the renderer's templates.
    ///
    /// # Errors
    /// When a description is wrong or names a component that does not exist. Cycles are the graph's to find.
    pub fn load(renderer: Arc<Renderer>) -> Result<Self, Error> {
        let mut components = BTreeMap::new();
        for name in renderer.library().folders("components") {
            components.insert(name.to_owned(), Component::load(renderer.library(), name)?);
        }
        if components.len() > COMPONENTS_MAX {
            return Err(Error::TooMany { count: components.len(), max: COMPONENTS_MAX });
        }
        let mut conditions: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, component) in &components {
            if let Some(need) = component.needs.iter().find(|need| !components.contains_key(&need.component)) {
                return Err(Error::UnknownNeed {
                    component: name.clone(),
                    need: need.component.clone(),
                    known: components.keys().cloned().collect(),
                });
            }
            if let Some(other) = conditions.insert(&component.condition, name) {
                return Err(Error::SharedCondition {
                    component: name.clone(),
                    other: other.to_owned(),
                    condition: component.condition.clone(),
                });
            }
        }
        Ok(Self { renderer, components })
    }

    /// The names of all components, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.components.keys().map(String::as_str)
    }

    /// What the graph is made from: every component, whether this cluster has it, and what it needs.
    ///
    /// # Errors
    /// Everything that is wrong, at once: a component's expression fails, an override names no component, or a component
    /// that is on has no version for this Kubernetes.
    pub fn summary(&self, selection: &Selection) -> Result<Vec<ComponentSummary>, Error> {
        let mut errors: Vec<Error> = selection.unknown(&self.components).collect();
        let mut summaries = Vec::with_capacity(self.components.len());
        for (name, component) in &self.components {
            match self.summarise(name, component, selection) {
                Ok(summary) => summaries.push(summary),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(summaries) } else { Err(Error::all(errors)) }
    }

    /// What is installed for one component.
    ///
    /// # Errors
    /// When there is no such component, no version for this Kubernetes, or a template fails.
    pub fn bundle(&self, component: &str, context: &BundleContext) -> Result<Bundle, Error> {
        let found = self.component(component)?;
        let version = found.version(component, &context.selection)?;
        bundle::render(&self.renderer, component, found, version, context)
    }

    fn summarise(&self, name: &str, component: &Component, selection: &Selection) -> Result<ComponentSummary, Error> {
        let enabled = self.enabled(name, component, selection)?;
        let version = if enabled { Some(component.version(name, selection)?) } else { None };
        Ok(ComponentSummary {
            name: name.to_owned(),
            condition: component.condition.clone(),
            needs: component.needs.iter().map(component::NeedEntry::to_need).collect(),
            enabled,
            version,
        })
    }

    fn component(&self, name: &str) -> Result<&Component, Error> {
        self.components.get(name).ok_or_else(|| Error::UnknownComponent {
            component: name.to_owned(),
            known: self.components.keys().cloned().collect(),
        })
    }

    fn enabled(&self, name: &str, component: &Component, selection: &Selection) -> Result<bool, Error> {
        if let Some(wanted) = selection.overrides.get(name).and_then(|wanted| wanted.enabled) {
            return Ok(wanted);
        }
        let path = component::description(name);
        Ok(self.renderer.engine().evaluate(&path, &component.enabled_when, &selection.view())?)
    }
}

#[cfg(test)]
mod tests;
