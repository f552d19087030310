//! More cases: what was found out by asking a real server.

use serde_json::{Value, json};

use super::harness::{Case, Step, ask};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?dryRun=All";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies?dryRun=All";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings?dryRun=All";
const WEBHOOKS: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations?dryRun=All";
const APPLY: &str = "application/apply-patch+yaml";
const JSON: &str = "application/json-patch+json";

fn case(group: &'static str, claim: &'static str, steps: Vec<Step>) -> Case {
    Case { group, claim, steps }
}

/// Asks for a definition whose objects have this `spec`.
fn define(group: &str, spec: &Value, status: u16) -> Step {
    ask("POST", DEFINITIONS, status).send(&json!({
        "metadata": {"name": format!("others.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "others", "kind": "Other"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": spec}}}}]},
    }))
}

fn ruled(schema: &Value, rule: &str) -> Value {
    let mut out = schema.clone();
    out["x-kubernetes-validations"] = json!([{"rule": rule}]);
    out
}

pub(super) fn all(namespace: &str) -> Vec<Case> {
    let mut out = costs(&format!("{namespace}.example.com"));
    out.extend(admission(namespace));
    out.extend(objects(namespace));
    out.extend(builtins(namespace));
    out.extend(requests(namespace));
    out
}

fn costs(group: &str) -> Vec<Case> {
    let text = json!({"type": "string"});
    let item = json!({"type": "object", "properties": {
        "a": {"type": "array", "maxItems": 1000, "items": {"type": "string", "maxLength": 1000}}}});
    let bounded = json!({"type": "array", "maxItems": 1000, "items": ruled(&item, "self.a.all(x, x.contains('a'))")});
    let texts = json!({"type": "array", "items": ruled(&text, "self.matches('^a+$')")});
    let map = ruled(&json!({"type": "object", "additionalProperties": text}), "self.all(k, self[k].startsWith('a'))");
    let formats = ruled(&text, "format.dns1123Label().validate(self).hasValue() == false");
    let keys = ruled(
        &json!({"type": "object", "maxProperties": 32, "additionalProperties": text}),
        "self.all(k, k.size() <= 20 && k.matches('^[a-z]([-a-z]*[a-z])?$') && k != 'x')",
    );
    let of = |field: &Value| json!({"type": "object", "properties": {"f": field}});
    vec![
        case(
            "crds",
            "what a rule costs follows from the limits of its schema",
            vec![
                define(group, &of(&bounded), 422).says("estimated rule cost exceeds budget by factor of 40.4x"),
                define(group, &of(&texts), 422).says("exceeds budget by factor of more than 100x"),
                define(group, &of(&formats), 422).says("exceeds budget by factor of 1.006634x"),
                define(group, &of(&map), 201),
                define(group, &of(&keys), 201),
            ],
        ),
        case(
            "crds",
            "rules see only names of metadata, and field paths no items",
            vec![
                define(group, &ruled(&json!({"type": "object"}), "self.metadata.name != ''"), 422),
                define(
                    group,
                    &json!({"type": "object", "properties": {"s-t": text},
                        "x-kubernetes-validations": [{"rule": "true", "fieldPath": "['s-t']"}]}),
                    201,
                ),
                define(
                    group,
                    &json!({"type": "object", "properties": {"l": {"type": "array", "items": text}},
                        "x-kubernetes-validations": [{"rule": "true", "fieldPath": ".l[0]"}]}),
                    422,
                )
                .says("must be a valid path"),
            ],
        ),
    ]
}

fn policy(spec: Value) -> Value {
    let mut spec = spec;
    if spec.get("matchConstraints").is_none() {
        spec["matchConstraints"] = json!({"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
            "operations": ["CREATE"], "resources": ["configmaps"]}]});
    }
    json!({"metadata": {"name": "suite"}, "spec": spec})
}

fn admission(namespace: &str) -> Vec<Case> {
    let wrong = |spec: Value, field: &'static str, says: &'static str| {
        ask("POST", POLICIES, 422).send(&policy(spec)).at("/details/causes/0/field", field).says(says)
    };
    let checks = |expression: &str| json!({"validations": [{"expression": expression}]});
    let rules =
        |rule: Value| json!({"validations": [{"expression": "true"}], "matchConstraints": {"resourceRules": [rule]}});
    let hook = |more: Value| {
        let mut hook = json!({"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://127.0.0.1:1"}});
        for (key, value) in more.as_object().into_iter().flatten() {
            hook[key] = value.clone();
        }
        json!({"metadata": {"name": namespace}, "webhooks": [hook]})
    };
    let refused = |more: Value, field: &'static str| {
        ask("POST", WEBHOOKS, 422).send(&hook(more)).at("/details/causes/0/field", field)
    };
    let bound = |reference: Value| {
        json!({"metadata": {"name": namespace}, "spec": {"policyName": "p",
        "validationActions": ["Deny"], "paramRef": reference}})
    };
    vec![
        case(
            "admission",
            "the expressions of a policy are compiled when it is written",
            vec![
                wrong(checks("1 + 1"), "spec.validations[0].expression", "must evaluate to bool but got int"),
                wrong(checks("foo == 1"), "spec.validations[0].expression", "undeclared reference to 'foo'"),
                wrong(checks("params.x == 1"), "spec.validations[0].expression", "undeclared reference to 'params'"),
                wrong(
                    json!({"validations": [{"expression": "true", "reason": "Unauthorized"}]}),
                    "spec.validations[0].reason",
                    "supported values: \\\"Forbidden\\\", \\\"Invalid\\\", \\\"RequestEntityTooLarge\\\"",
                ),
                wrong(
                    json!({"variables": [{"name": "b", "expression": "variables.a + 1"}], "validations": [{"expression": "true"}]}),
                    "spec.variables[0].expression",
                    "undefined field 'a'",
                ),
            ],
        ),
        case(
            "admission",
            "in the rules of a policy a wildcard stands alone",
            vec![
                wrong(
                    rules(
                        json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*", "CREATE"], "resources": ["a"]}),
                    ),
                    "spec.matchConstraints.resourceRules[0].operations",
                    "if '*' is present, must not specify other operations",
                ),
                wrong(
                    rules(
                        json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["READ"], "resources": ["a"]}),
                    ),
                    "spec.matchConstraints.resourceRules[0].operations[0]",
                    "Unsupported value",
                ),
            ],
        ),
        case(
            "admission",
            "a binding names its parameter in one way, and says what to do without it",
            vec![
                ask("POST", BINDINGS, 422)
                    .send(&bound(json!({"name": "a"})))
                    .says("parameterNotFoundAction: Required value"),
                ask("POST", BINDINGS, 422)
                    .send(&bound(json!({"parameterNotFoundAction": "Deny"})))
                    .says("one of name or selector must be specified"),
            ],
        ),
        case(
            "admission",
            "a webhook's settings are checked",
            vec![
                refused(json!({"timeoutSeconds": 31}), "webhooks[0].timeoutSeconds"),
                refused(json!({"sideEffects": "Some"}), "webhooks[0].sideEffects"),
                refused(json!({"failurePolicy": "x"}), "webhooks[0].failurePolicy"),
                refused(
                    json!({"matchConditions": [{"name": "a", "expression": "1"}]}),
                    "webhooks[0].matchConditions[0].expression",
                ),
                refused(json!({"admissionReviewVersions": ["v1", "v1"]}), "webhooks[0].admissionReviewVersions[1]"),
            ],
        ),
    ]
}

fn objects(namespace: &str) -> Vec<Case> {
    let things = format!("/apis/{namespace}.example.com/v1/namespaces/{namespace}/things");
    let thing = |more: Value| {
        let mut out =
            json!({"apiVersion": format!("{namespace}.example.com/v1"), "kind": "Thing", "metadata": {"name": "t"}});
        for (key, value) in more.as_object().into_iter().flatten() {
            out[key] = value.clone();
        }
        out
    };
    let apply = |path: String, manager: &str, object: &Value, status: u16| {
        ask("PATCH", format!("{path}?fieldManager={manager}"), status).header("content-type", APPLY).send(object)
    };
    let deployments = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
    let pods = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    vec![
        case(
            "subresources",
            "what a scale reads has to be a count",
            vec![
                ask("POST", &things, 422)
                    .send(&thing(json!({"spec": {"replicas": -1}})))
                    .says("should be a non-negative integer"),
                ask("POST", &things, 422)
                    .send(&thing(json!({"spec": []})))
                    .says(".spec.replicas accessor error: [] is of the type []interface {}"),
                ask("POST", format!("{things}/t/status"), 405).at("/details/kind", "things"),
            ],
        ),
        case(
            "apply",
            "an apply of status says nothing about the rest",
            vec![
                apply(format!("{things}/t"), "m", &thing(json!({"spec": {"note": "a"}})), 201),
                apply(
                    format!("{things}/t/status"),
                    "s",
                    &thing(json!({"spec": {"note": "b"}, "status": {"phase": "x"}})),
                    200,
                )
                .at("/spec/note", "a")
                .at("/status/phase", "x"),
            ],
        ),
        case(
            "subresources",
            "annotations of a Deployment count as something wanted",
            vec![
                ask("POST", &deployments, 201).send(&json!({"metadata": {"name": "d"}, "spec": {
                    "selector": {"matchLabels": {"a": "b"}}, "template": pods}})),
                ask("PATCH", format!("{deployments}/d"), 200)
                    .send(&json!({"metadata": {"annotations": {"a": "b"}}}))
                    .at("/metadata/generation", 2),
                ask("PATCH", format!("{deployments}/d"), 200)
                    .send(&json!({"metadata": {"labels": {"a": "b"}}}))
                    .at("/metadata/generation", 2),
            ],
        ),
    ]
}

fn builtins(namespace: &str) -> Vec<Case> {
    let core = format!("/api/v1/namespaces/{namespace}");
    let pods_that_end = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    vec![
        case(
            "builtins",
            "a quota counts, a limit gives defaults and refuses",
            vec![
                ask("POST", format!("{core}/resourcequotas"), 201)
                    .send(&json!({"metadata": {"name": "q"}, "spec": {"hard": {"count/configmaps": "1"}}})),
                ask("PATCH", format!("{core}/resourcequotas/q/status"), 200).send(&json!({"status": {
                    "hard": {"count/configmaps": "1"}, "used": {"count/configmaps": "1"}}})),
                ask("POST", format!("{core}/configmaps"), 403)
                    .send(&json!({"metadata": {"name": "b"}}))
                    .says("exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=1"),
                ask("POST", format!("{core}/limitranges"), 201).send(&json!({"metadata": {"name": "l"}, "spec": {"limits": [
                    {"type": "Container", "default": {"cpu": "1"}, "max": {"cpu": "2"}}]}})),
                ask("POST", format!("{core}/serviceaccounts"), 201).send(&json!({"metadata": {"name": "default"}})),
                ask("POST", format!("{core}/pods"), 201)
                    .send(&json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}))
                    .at("/spec/containers/0/resources/limits/cpu", "1"),
                ask("POST", format!("{core}/pods"), 403)
                    .send(&json!({"metadata": {"name": "x"}, "spec": {"containers": [
                        {"name": "c", "image": "i", "resources": {"limits": {"cpu": "5"}}}]}}))
                    .says("maximum cpu usage per Container is 2, but limit is 5"),
            ],
        ),
        case(
            "builtins",
            "what is not switched on is left out, and what cannot be is refused",
            vec![
                ask("POST", format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"), 201)
                    .send(&json!({"metadata": {"name": "l"}, "spec": {"preferredHolder": "a"}}))
                    .at("/spec/preferredHolder", Value::Null),
                ask("POST", format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"), 422)
                    .send(&json!({"metadata": {"name": "n"}, "spec": {"podSelector": {}, "ingress": [{"from": [{}]}]}}))
                    .says("must specify a peer"),
                ask("POST", format!("/apis/batch/v1/namespaces/{namespace}/jobs"), 201)
                    .send(&json!({"metadata": {"name": "j"}, "spec": {"template": pods_that_end}}))
                    .at("/spec/manualSelector", false),
                ask("POST", format!("{core}/pods/p/binding"), 400)
                    .send(&json!({"metadata": {"name": "q"}, "target": {"kind": "Node", "name": "n"}})),
            ],
        ),
        case(
            "builtins",
            "a CronJob's jobs are not defaulted before they are made",
            vec![
                ask("POST", format!("/apis/batch/v1/namespaces/{namespace}/cronjobs"), 201)
                    .send(&json!({"metadata": {"name": "c"}, "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {
                        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}}}))
                    .at("/spec/jobTemplate/spec/backoffLimit", Value::Null)
                    .at("/spec/jobTemplate/spec/template/spec/dnsPolicy", "ClusterFirst"),
            ],
        ),
    ]
}

fn requests(namespace: &str) -> Vec<Case> {
    let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    let patch = |operations: Value, status: u16| {
        ask("PATCH", format!("{maps}/a"), status).header("content-type", JSON).send(&operations)
    };
    vec![
        case(
            "patches",
            "a JSON patch is read before it is applied",
            vec![
                ask("POST", &maps, 201).send(&map),
                patch(json!(null), 200),
                patch(json!([1]), 400).says("Go value of type handlers.jsonPatchOp"),
                patch(json!([{"op": 1}]), 400).says("jsonPatchOp.op of type string"),
                patch(json!([{"op": "add", "path": "/data/n"}]), 200).at("/data/n", ""),
                patch(json!([{"op": "add", "path": "", "value": map}]), 422),
            ],
        ),
        case(
            "auth",
            "a patch does not let create",
            vec![
                ask("POST", format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles"), 201).send(&json!({
                    "metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]}]})),
                ask("POST", format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings"), 201).send(&json!({
                    "metadata": {"name": "r"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
                    "subjects": [{"kind": "User", "name": "suite-user"}]})),
                ask("PATCH", format!("{maps}/new?fieldManager=m"), 403)
                    .header("content-type", APPLY)
                    .header("impersonate-user", "suite-user")
                    .send(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new"}})),
            ],
        ),
        case(
            "list",
            "a selector says what it is about",
            vec![
                ask("GET", format!("{maps}?labelSelector=a%3D-b"), 400).says("values[0][a]: Invalid value"),
                ask("GET", format!("{maps}?labelSelector=a%20in%20(b"), 400).says("found '', expected: ',' or ')'"),
            ],
        ),
        case(
            "encoding",
            "kind and version of a body are texts",
            vec![
                ask("POST", &maps, 400).send(&json!({"apiVersion": 1, "kind": "ConfigMap"})).says("struct field .apiVersion"),
                ask("GET", "/healthz/none", 404),
                ask("DELETE", "/version", 405),
            ],
        ),
    ]
}
