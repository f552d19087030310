//! What can go wrong between the catalog and a bundle.

use lattice_protocol::reason::Reason;

use crate::render;

/// Why a component cannot be described or rendered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A template or description of the catalog is wrong.
    #[error(transparent)]
    Render(#[from] render::Error),
    /// The catalog is larger than any real one.
    #[error("{count} components, at most {max} are allowed")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// A component needs one that does not exist.
    #[error("component {component} needs {need:?}, which does not exist; there are {}", known.join(", "))]
    UnknownNeed {
        /// The component.
        component: String,
        /// What it needs.
        need: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// Two components would write one condition.
    #[error("components {other} and {component} both have condition {condition}")]
    SharedCondition {
        /// The component.
        component: String,
        /// The other one.
        other: String,
        /// Their condition.
        condition: String,
    },
    /// The spec or a caller names a component that does not exist.
    #[error("spec.components.{component}: no such component; there are {}", known.join(", "))]
    UnknownComponent {
        /// The name.
        component: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// The catalog has no version of a component for this Kubernetes.
    #[error("component {component} has no version for Kubernetes {kubernetes}; there are versions for {}", known.join(", "))]
    NoVersion {
        /// The component.
        component: String,
        /// The cluster's Kubernetes version.
        kubernetes: String,
        /// The minors that there are versions for.
        known: Vec<String>,
    },
    /// The spec asks for a version that the catalog does not have.
    #[error("spec.components.{component}.version: {version:?} is not in the catalog; there are {}", known.join(", "))]
    UnknownVersion {
        /// The component.
        component: String,
        /// What was asked for.
        version: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// Several things are wrong at once.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<Error>),
    /// The spec sets a value that the component does not have, or one of another type.
    #[error("spec.components.{component}.values{path}: {problem}")]
    Value {
        /// The component.
        component: String,
        /// JSON pointer below `values`.
        path: String,
        /// What is wrong and what there is instead.
        problem: String,
    },
}

impl Error {
    /// One error of several.
    pub(super) fn all(mut errors: Vec<Error>) -> Self {
        if errors.len() == 1 { errors.remove(0) } else { Error::Several(errors) }
    }

    /// The errors that this one is made of.
    pub fn singly(&self) -> impl Iterator<Item = &Error> {
        match self {
            Error::Several(errors) => errors.iter(),
            one => std::slice::from_ref(one).iter(),
        }
    }

    /// The reason that conditions, Events and metrics carry.
    pub fn reason(&self) -> Reason {
        match self {
            Error::Render(error) => error.reason(),
            Error::TooMany { .. } | Error::UnknownNeed { .. } | Error::SharedCondition { .. } => Reason::RenderFailed,
            Error::Several(errors) => match errors.first().map(Error::reason) {
                Some(reason) if errors.iter().all(|error| error.reason() == reason) => reason,
                _ => Reason::InvalidSpec,
            },
            Error::UnknownComponent { .. } | Error::Value { .. } => Reason::InvalidSpec,
            Error::NoVersion { .. } | Error::UnknownVersion { .. } => Reason::VersionNotSupported,
        }
    }
}
