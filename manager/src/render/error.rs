//! What can go wrong between a template and an object.

use lattice_protocol::reason::Reason;

/// Why something could not be rendered. Names the template, and the line where there is one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder of `--templates` cannot be read.
    #[error("reading templates from {path}")]
    ReadTemplates {
        /// The file or folder.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The templates folder is larger than any real one.
    #[error("templates at {path}: {limit}")]
    TemplatesTooMany {
        /// Where the limit was met.
        path: String,
        /// Which limit.
        limit: &'static str,
    },
    /// A template is not well-formed, or does what no template may do.
    #[error("template {template}, line {line}: {problem}")]
    Template {
        /// Path below `templates/`.
        template: String,
        /// Line in the template, from 1; 0 where none is known.
        line: usize,
        /// What is wrong, for a person.
        problem: String,
    },
    /// `provider.yaml` or `component.yaml` is not what it must be.
    #[error("{path}: {problem}")]
    Description {
        /// Path below `templates/`.
        path: String,
        /// What is wrong, for a person.
        problem: String,
    },
    /// There is no folder for the provider.
    #[error("no templates for provider {provider:?}; there are {}", known.join(", "))]
    NoProvider {
        /// The provider's type.
        provider: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A template rendered to something that is no acceptable object.
    #[error("template {template} made {object}: {problem}")]
    Object {
        /// Path below `templates/`.
        template: String,
        /// Kind and name as far as they are known.
        object: String,
        /// What is wrong, for a person.
        problem: String,
    },
    /// What we add to a machine's user data is too large.
    #[error("cluster {cluster}: {bytes} bytes of user data, at most {max} are allowed: {largest}")]
    UserData {
        /// The cluster.
        cluster: String,
        /// How many bytes there are.
        bytes: usize,
        /// How many there may be.
        max: usize,
        /// The largest parts, for a person.
        largest: String,
    },
    /// A value of the spec cannot be put on a machine.
    #[error("{path}: {problem}")]
    Value {
        /// Path in the LatticeCluster's spec.
        path: String,
        /// What is wrong and what to write instead.
        problem: String,
    },
}

impl Error {
    /// The reason that conditions, Events and metrics carry.
    pub fn reason(&self) -> Reason {
        match self {
            Error::Value { .. } => Reason::InvalidSpec,
            Error::NoProvider { .. } => Reason::NotYetSupported,
            Error::ReadTemplates { .. }
            | Error::TemplatesTooMany { .. }
            | Error::Template { .. }
            | Error::Description { .. }
            | Error::Object { .. }
            | Error::UserData { .. } => Reason::RenderFailed,
        }
    }

    /// The error with secrets taken out of its words: a wrong template may put one where a kind or a name belongs.
    pub(super) fn without(mut self, secrets: &[&str]) -> Self {
        if let Error::Template { problem, .. } | Error::Object { problem, .. } = &mut self {
            redact(problem, secrets);
        }
        if let Error::Object { object, .. } = &mut self {
            redact(object, secrets);
        }
        self
    }

    /// An error of a template from the engine's; values of the context never get into it.
    pub(crate) fn engine(error: &minijinja::Error) -> Self {
        // The innermost error knows the template that really failed when one includes another.
        let mut inner = error;
        while let Some(next) =
            std::error::Error::source(inner).and_then(|source| source.downcast_ref::<minijinja::Error>())
        {
            inner = next;
        }
        let kind = inner.kind();
        let problem = inner.detail().map_or_else(|| kind.to_string(), |detail| format!("{kind}: {detail}"));
        Error::Template {
            template: inner.name().unwrap_or("<unnamed>").to_owned(),
            line: inner.line().unwrap_or(0),
            problem,
        }
    }
}

fn redact(text: &mut String, secrets: &[&str]) {
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        if text.contains(secret) {
            *text = text.replace(secret, "[redacted]");
        }
    }
}
