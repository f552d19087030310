//! The template engine: minijinja, with every template checked and compiled before the first one is rendered.
//!
//! What keeps values harmless: in `*.yaml.j2` every value is printed as JSON, in `*.sh.j2` as a shell word in single
//! quotes, in anything else a value is refused. Filters that lift this do not exist here, and the check refuses
//! placeholders that stand inside quotes or beside other text, where the printed value would not be a value any more.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, Output, State, UndefinedBehavior, Value};
use serde::Serialize;

use super::Error;
use super::library::{Library, template_of};

/// Instructions that one rendering may take. A real template takes some thousands; higher lets a loop run for minutes.
const FUEL: u64 = 2_000_000;

/// Includes and macros within each other. Real templates need two.
const RECURSION_MAX: usize = 20;

/// Name of the escaping for shell scripts.
const SHELL: &str = "shell";

/// Compiled templates.
#[derive(Debug)]
pub(crate) struct Engine {
    environment: Environment<'static>,
}

impl Engine {
    /// Compiles every `*.j2` file of the library.
    pub(crate) fn new(library: &Library) -> Result<Self, Error> {
        let mut environment = Environment::new();
        // Before the templates are added: a template keeps the syntax and escaping that it was compiled under.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
        environment.set_syntax(syntax.map_err(|error| Error::engine(&error))?);
        environment.set_auto_escape_callback(escaping);
        environment.set_formatter(format);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION_MAX);
        // Debug output would quote the context, and the agent's context holds a token.
        environment.set_debug(false);
        // Each gives text that is printed as it is; what is joined to it is then printed as it is, too.
        for filter in ["safe", "escape", "e", "tojson"] {
            environment.remove_filter(filter);
        }
        environment.add_filter("json", json);
        environment.remove_global("debug");
        for (path, text) in library.files() {
            if template_of(path).is_some() {
                super::check::template(path, text)?;
                environment
                    .add_template_owned(path.to_owned(), text.to_owned())
                    .map_err(|error| Error::engine(&error))?;
            }
        }
        Ok(Self { environment })
    }

    /// Renders one template.
    pub(crate) fn render(&self, template: &str, context: &impl Serialize) -> Result<String, Error> {
        let compiled = self.environment.get_template(template).map_err(|error| Error::engine(&error))?;
        compiled.render(Value::from(Serde(context))).map_err(|error| Error::engine(&error))
    }

    /// Evaluates an expression such as `spec.services and not spec.backups.enabled`.
    pub(crate) fn evaluate(&self, path: &str, expression: &str, context: &impl Serialize) -> Result<bool, Error> {
        let failed = |error: minijinja::Error| Error::Description {
            path: path.to_owned(),
            problem: format!(
                "expression {expression:?}: {}",
                error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
            ),
        };
        let compiled = self.environment.compile_expression(expression).map_err(failed)?;
        let value = compiled.eval(Value::from(Serde(context))).map_err(failed)?;
        if value.is_undefined() {
            return Err(Error::Description {
                path: path.to_owned(),
                problem: format!("expression {expression:?} has no value"),
            });
        }
        Ok(value.is_true())
    }
}

fn escaping(name: &str) -> AutoEscape {
    if name.ends_with(".yaml.j2") { AutoEscape::Json } else { AutoEscape::Custom(SHELL.into()) }
}

fn format(out: &mut Output, state: &mut State, value: &Value) -> Result<(), minijinja::Error> {
    if !matches!(state.auto_escape(), AutoEscape::Custom(_)) {
        return minijinja::escape_formatter(out, state, value);
    }
    let word = shell_word(value).ok_or_else(|| {
        minijinja::Error::new(ErrorKind::BadEscape, "only text without NUL and numbers can be put into a script")
    })?;
    out.write_str(&word).map_err(minijinja::Error::from)
}

/// The filter `json`: the value as JSON text, for a configuration file inside an object. Unlike minijinja's own
/// `tojson` its result is text like any other and is escaped when it is printed.
fn json(value: &Value) -> Result<String, minijinja::Error> {
    serde_json::to_string(value)
        .map_err(|_| minijinja::Error::new(ErrorKind::BadSerialization, "the value has no JSON form"))
}

/// The value as one word of a POSIX shell.
fn shell_word(value: &Value) -> Option<String> {
    let text = match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_number() => value.to_string(),
        None => return None,
    };
    if text.contains('\0') {
        return None;
    }
    Some(format!("'{}'", text.replace('\'', r"'\''")))
}
