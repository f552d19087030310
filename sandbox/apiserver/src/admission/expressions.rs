//! CEL expressions over requests: their values, and what is wrong where there is none.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kube_cel::KubeCelExt as _;
use kube_cel::cel::objects::{Key, Map};
use kube_cel::cel::{Context, Program, Value as Cel};
use serde_json::{Value, json};

use super::policies::Request;
use crate::json;
use crate::meta;
use crate::rest::serve;

/// What expressions about one request are evaluated over.
pub(super) struct Scope {
    context: Context<'static>,
    /// What the variables came to that have a value.
    variables: HashMap<Key, Cel>,
    /// Why others have none.
    failed: BTreeMap<String, String>,
}

impl Scope {
    /// Binds a request, and what parametrises it.
    pub(super) fn new(request: &Request<'_>, params: Option<&Value>) -> Self {
        let mut context = Context::default().with_all();
        let null = Value::Null;
        let namespace = namespace(request).unwrap_or(Value::Null);
        context.add_variable_from_value("object", value(request.new.unwrap_or(&null)));
        context.add_variable_from_value("oldObject", value(request.old.unwrap_or(&null)));
        context.add_variable_from_value("namespaceObject", value(&namespace));
        context.add_variable_from_value("request", value(&described(request)));
        if let Some(params) = params {
            context.add_variable_from_value("params", value(params));
        }
        Self { context, variables: HashMap::new(), failed: BTreeMap::new() }
    }

    /// Adds the variables of a policy; each may use those before it.
    pub(super) fn with_variables(mut self, policy: &Value) -> Self {
        let all = json::list(policy, &["spec", "variables"]);
        for variable in all {
            let name = json::text(variable, &["name"]);
            match self.evaluate(json::text(variable, &["expression"])) {
                Ok(found) => {
                    self.variables.insert(Key::String(Arc::new(name.to_owned())), found);
                }
                Err(why) => {
                    self.failed.insert(name.to_owned(), why);
                }
            }
            let known = Cel::Map(Map { map: Arc::new(self.variables.clone()) });
            self.context.add_variable_from_value("variables", known);
        }
        self
    }

    /// Evaluates an expression.
    fn evaluate(&self, text: &str) -> Result<Cel, String> {
        let program = Program::compile(&crate::rules::plain(text)).map_err(|error| error.to_string())?;
        program.execute(&self.context).map_err(|error| {
            let why = crate::rules::cel_error(&error.to_string());
            let variable = why.strip_prefix("no such key: ").and_then(|name| Some((name, self.failed.get(name)?)));
            match variable {
                Some((name, inner)) => format!("composited variable {name:?} fails to evaluate: {inner}"),
                None => why,
            }
        })
    }

    /// Tells whether something holds.
    ///
    /// # Errors
    /// Why that cannot be told.
    pub(super) fn holds(&self, text: &str) -> Result<bool, String> {
        match self.evaluate(text) {
            Ok(Cel::Bool(holds)) => Ok(holds),
            Ok(_) => Ok(false),
            Err(why) => Err(format!("expression '{text}' resulted in error: {why}")),
        }
    }

    /// Returns the text that an expression comes to.
    pub(super) fn text(&self, text: &str) -> Option<String> {
        match self.evaluate(text) {
            Ok(Cel::String(found)) => Some(found.to_string()),
            _ => None,
        }
    }
}

/// Finds the namespace that a request is about.
fn namespace(request: &Request<'_>) -> Option<Value> {
    if !request.write.resource.namespaced {
        return None;
    }
    let kind = request.core.registry.now().of_kind("", "v1", "Namespace")?;
    let stored = request.core.stored(&kind, "", request.write.namespace).ok()?;
    Some(serve::served(&kind, &stored))
}

/// Describes a request as expressions see it.
fn described(request: &Request<'_>) -> Value {
    let write = request.write;
    let resource = write.resource;
    let kind = json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
    let plural = json!({"group": resource.group, "version": resource.version, "resource": resource.plural});
    let user = &write.user;
    let mut described = json!({
        "operation": request.operation.name(),
        "name": request.new.or(request.old).map(meta::name).unwrap_or_default(),
        "namespace": write.namespace,
        "dryRun": write.options.dry_run,
        "kind": kind, "resource": plural, "requestKind": kind, "requestResource": plural,
        "subResource": write.subresource, "requestSubResource": write.subresource,
    });
    let mut asking = json!({"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra});
    leave_out_empty(&mut described);
    leave_out_empty(&mut asking);
    json::set(&mut described, &["userInfo"], asking);
    described
}

/// Takes away fields that say nothing: expressions find out with `has` whether there is one.
fn leave_out_empty(described: &mut Value) {
    if let Value::Object(fields) = described {
        fields.retain(|_, field| match field {
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(inner) => !inner.is_empty(),
            Value::Null => false,
            _ => true,
        });
    }
}

/// Brings a value into the engine's form; keys stay as they are.
fn value(from: &Value) -> Cel {
    match from {
        Value::Null => Cel::Null,
        Value::Bool(set) => Cel::Bool(*set),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Cel::Int(whole),
            (None, Some(whole)) => Cel::UInt(whole),
            (None, None) => Cel::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(value).collect())),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, field)| (Key::String(Arc::new(key.clone())), value(field)));
            Cel::Map(Map { map: Arc::new(fields.collect()) })
        }
    }
}
