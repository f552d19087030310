//! The cases.

use serde_json::{Value, json};

use super::harness::{Case, Step, ask};

const APPLY: &str = "application/apply-patch+yaml";
const JSON: &str = "application/json-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const PARTIAL: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}})
}

fn pod(image: &str) -> Value {
    json!({"containers": [{"name": "c", "image": image}]})
}

/// Returns every case, its paths in a namespace.
#[expect(clippy::too_many_lines, reason = "a table of cases")]
pub(super) fn all(namespace: &str) -> Vec<Case> {
    let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
    let group = format!("{namespace}.example.com");
    let things = format!("/apis/{group}/v1/namespaces/{namespace}/things");
    let thing = |spec: Value| json!({"apiVersion": format!("{group}/v1"), "kind": "Thing", "metadata": {"name": "t"}, "spec": spec});
    let case = |group: &'static str, claim: &'static str, steps: Vec<Step>| Case { group, claim, steps };
    let made = || ask("POST", &maps, 201).send(&map("a"));
    let deployments = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
    let deployment = |image: &str| {
        json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod(image)}}})
    };
    let apply = |manager: &str, more: &str, value: &str| {
        ask("PATCH", format!("{maps}/s?fieldManager={manager}{more}"), 200).header("content-type", APPLY).send(&json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s"}, "data": {"k": value}}))
    };
    let with = |mut step: Step, status: u16| {
        step.status = status;
        step
    };
    let mut out = vec![
        case(
            "admission",
            "a policy without constraints is refused",
            vec![
                ask("POST", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies", 422)
                    .send(&json!({"metadata": {"name": namespace}, "spec": {"validations": [{"expression": "true"}]}}))
                    .at("/details/causes/0/field", "spec.matchConstraints"),
            ],
        ),
        case(
            "admission",
            "a webhook is served with defaults",
            vec![
                ask("POST", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations?dryRun=All", 201)
                    .send(
                        &json!({"metadata": {"name": namespace}, "webhooks": [{"name": "a.b.c", "sideEffects": "None",
                    "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://127.0.0.1:1"}}]}),
                    )
                    .at("/webhooks/0/failurePolicy", "Fail")
                    .at("/webhooks/0/timeoutSeconds", 10),
            ],
        ),
        case(
            "apply",
            "two managers of one field are in conflict until one is forced",
            vec![
                with(apply("a", "", "1"), 201).at("/metadata/managedFields/0/operation", "Apply"),
                with(apply("b", "", "2"), 409).at("/details/causes/0/reason", "FieldManagerConflict"),
                apply("b", "&force=true", "2").at("/data/k", "2"),
            ],
        ),
        case(
            "apply",
            "a field that the schema does not have is refused",
            vec![
                with(apply("a", "", "1"), 500)
                    .send(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s"}, "nope": 1}))
                    .says("field not declared in schema"),
            ],
        ),
        case(
            "auth",
            "nobody in particular may not list",
            vec![
            ask("POST", REVIEWS, 201)
                .send(&json!({"spec": {"user": "nobody", "resourceAttributes": {"verb": "list", "resource": "pods"}}}))
                .at("/status/allowed", false),
            ask("GET", &maps, 403).header("impersonate-user", "nobody").says("cannot list resource"),
        ],
        ),
        case(
            "auth",
            "a token of an account is its user",
            vec![
                ask("POST", format!("/api/v1/namespaces/{namespace}/serviceaccounts"), 201)
                    .send(&json!({"metadata": {"name": "robot"}})),
                ask("POST", format!("/api/v1/namespaces/{namespace}/serviceaccounts/robot/token"), 201)
                    .send(&json!({"spec": {"expirationSeconds": 600}}))
                    .at("/spec/expirationSeconds", 600),
                ask("POST", format!("/api/v1/namespaces/{namespace}/serviceaccounts/robot/token"), 422)
                    .send(&json!({"spec": {"expirationSeconds": 10}})),
            ],
        ),
        case(
            "builtins",
            "a Deployment is defaulted and its selector stays",
            vec![
                ask("POST", &deployments, 201)
                    .send(&deployment("i"))
                    .at("/spec/replicas", 1)
                    .at("/spec/strategy/rollingUpdate/maxSurge", "25%")
                    .at("/spec/template/spec/containers/0/imagePullPolicy", "Always"),
                ask("PATCH", format!("{deployments}/d"), 422)
                    .send(&json!({"spec": {"selector": {"matchLabels": {"a": "c"}}}}))
                    .says("field is immutable"),
            ],
        ),
        case(
            "builtins",
            "a Service has an address and valid ports",
            vec![
                ask("POST", format!("/api/v1/namespaces/{namespace}/services"), 201)
                    .send(&json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}))
                    .at("/spec/ports/0/targetPort", 80)
                    .at("/spec/type", "ClusterIP"),
                ask("POST", format!("/api/v1/namespaces/{namespace}/services"), 422)
                    .send(&json!({"metadata": {"name": "x"}, "spec": {"ports": [{"port": 0}]}})),
            ],
        ),
        case(
            "concurrency",
            "a stale revision conflicts",
            vec![
                made(),
                ask("PUT", format!("{maps}/a"), 409)
                    .send(&json!({"metadata": {"name": "a", "resourceVersion": "1"}}))
                    .at("/reason", "Conflict"),
                ask("DELETE", format!("{maps}/a"), 409).send(&json!({"preconditions": {"uid": "x"}})),
            ],
        ),
        case(
            "crds",
            "objects are defaulted, pruned and validated",
            vec![
                ask("POST", &things, 201)
                    .send(&thing(json!({"nope": 1, "note": "a"})))
                    .at("/spec/size", 1)
                    .at("/spec/nope", Value::Null),
                ask("PATCH", format!("{things}/t"), 422)
                    .send(&json!({"spec": {"size": -1}}))
                    .at("/details/causes/0/field", "spec.size"),
                ask("PATCH", format!("{things}/t"), 422).send(&json!({"spec": {"note": "b"}})).says("stays"),
            ],
        ),
        case(
            "crds",
            "a rule that names a field that is not there is refused",
            vec![
                ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", 422)
                    .send(&json!({"metadata": {"name": format!("others.{group}")}, "spec": {"group": group,
                    "scope": "Namespaced", "names": {"plural": "others", "kind": "Other"},
                    "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                        "type": "object", "x-kubernetes-validations": [{"rule": "self.nope > 0"}]}}}]}}))
                    .says("undefined field 'nope'"),
            ],
        ),
        case(
            "crud",
            "what is there twice, and what is not, is told",
            vec![
                made().at("/metadata/namespace", namespace),
                ask("POST", &maps, 409).send(&map("a")).at("/reason", "AlreadyExists"),
                ask("GET", format!("{maps}/b"), 404).at("/details/name", "b"),
                ask("PUT", format!("{maps}/b"), 404).send(&map("b")),
                ask("POST", format!("{maps}?fieldValidation=Strict"), 400)
                    .send(&json!({"metadata": {"name": "c"}, "nope": 1}))
                    .says("unknown field"),
            ],
        ),
        case(
            "delete",
            "a finalizer holds an object",
            vec![
                ask("POST", &maps, 201).send(&json!({"metadata": {"name": "a", "finalizers": ["example.com/x"]}})),
                ask("DELETE", format!("{maps}/a"), 200).at("/kind", "ConfigMap"),
                ask("POST", &maps, 409).send(&map("a")).says("object is being deleted"),
                ask("PATCH", format!("{maps}/a"), 200).send(&json!({"metadata": {"finalizers": null}})),
                ask("GET", format!("{maps}/a"), 404),
            ],
        ),
        case(
            "delete",
            "a Job's dependents stay unless somebody says otherwise",
            vec![
                ask("POST", format!("/apis/batch/v1/namespaces/{namespace}/jobs"), 201).send(&json!({
                "metadata": {"name": "j"}, "spec": {"template": {"spec": {"restartPolicy": "Never",
                    "containers": [{"name": "c", "image": "i"}]}}}})),
                ask("DELETE", format!("/apis/batch/v1/namespaces/{namespace}/jobs/j"), 200)
                    .at("/metadata/finalizers/0", "orphan"),
            ],
        ),
        case(
            "discovery",
            "groups and their kinds are listed",
            vec![
                ask("GET", format!("/apis/{group}"), 200).at("/preferredVersion/version", "v1"),
                ask("GET", format!("/apis/{group}/v1"), 200).at("/resources/0/kind", "Thing"),
                ask("GET", "/apis/nope.example.com", 404),
                ask("GET", "/version", 200).at("/major", "1"),
            ],
        ),
        case(
            "encoding",
            "what is no object of a known form is refused",
            vec![
                ask("POST", &maps, 400).text("[]"),
                ask("POST", &maps, 415).header("content-type", "text/plain").text("x"),
                ask("GET", &maps, 406).header("accept", "text/plain"),
                ask("POST", &maps, 201)
                    .header("content-type", "application/yaml")
                    .text("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: yaml\n"),
            ],
        ),
        case(
            "list",
            "pages go on and selectors select",
            vec![
                made(),
                ask("POST", &maps, 201).send(&map("b")),
                ask("GET", format!("{maps}?limit=1"), 200)
                    .at("/metadata/remainingItemCount", 1)
                    .at("/items/1", Value::Null),
                ask("GET", format!("{maps}?fieldSelector=metadata.name%3Db"), 200).at("/items/0/metadata/name", "b"),
                ask("GET", format!("{maps}?labelSelector=a%3Db%3Dc"), 400),
                ask("GET", format!("{maps}?continue=abc"), 400).says("continue key is not valid"),
                ask("GET", format!("{maps}?resourceVersionMatch=Exact"), 422),
            ],
        ),
        case(
            "names",
            "names and labels have a form",
            vec![
                ask("POST", &maps, 422).send(&map("A_b")).at("/details/causes/0/field", "metadata.name"),
                ask("POST", &maps, 422).send(&json!({"metadata": {}})).says("name or generateName is required"),
                ask("POST", &maps, 422).send(&json!({"metadata": {"name": "a", "labels": {"a b": "c"}}})),
            ],
        ),
        case(
            "patches",
            "each kind of patch does its own",
            vec![
                made(),
                ask("PATCH", format!("{maps}/a"), 200).send(&json!({"data": {"k": null, "l": "1"}})).at("/data/l", "1"),
                ask("PATCH", format!("{maps}/a"), 200)
                    .header("content-type", JSON)
                    .send(&json!([{"op": "replace", "path": "/data/l", "value": "2"}]))
                    .at("/data/l", "2"),
                ask("PATCH", format!("{maps}/a"), 422)
                    .header("content-type", JSON)
                    .send(&json!([{"op": "test", "path": "/data/l", "value": "9"}])),
                ask("POST", &deployments, 201).send(&deployment("i")),
                ask("PATCH", format!("{deployments}/d"), 200)
                    .header("content-type", STRATEGIC)
                    .send(&json!({"spec": {"template": {"spec": {"containers": [{"name": "n", "image": "j"}]}}}}))
                    .at("/spec/template/spec/containers/1/name", "c"),
                ask("PATCH", format!("{things}/t"), 415).header("content-type", STRATEGIC).text("{}"),
            ],
        ),
        case(
            "subresources",
            "status and scale are written apart",
            vec![
                ask("POST", &things, 201).send(&thing(json!({"replicas": 1}))).at("/metadata/generation", 1),
                ask("PATCH", format!("{things}/t/status"), 200)
                    .send(&json!({"spec": {"size": 9}, "status": {"phase": "x"}}))
                    .at("/spec/size", 1)
                    .at("/metadata/generation", 1),
                ask("PATCH", format!("{things}/t/scale"), 200)
                    .send(&json!({"spec": {"replicas": 3}}))
                    .at("/kind", "Scale"),
                ask("GET", format!("{things}/t"), 200).at("/spec/replicas", 3).at("/metadata/generation", 2),
            ],
        ),
        case(
            "tables",
            "lists come as tables and as metadata alone",
            vec![
                ask("POST", &things, 201).send(&thing(json!({"size": 7}))),
                ask("GET", &things, 200)
                    .header("accept", TABLE)
                    .at("/kind", "Table")
                    .at("/columnDefinitions/1/name", "Size")
                    .at("/rows/0/cells/1", 7),
                ask("GET", format!("{things}/t"), 200).header("accept", PARTIAL).at("/spec", Value::Null),
            ],
        ),
        case(
            "watch",
            "a watch begins with what is there and ends in time",
            vec![
                made(),
                ask("GET", format!("{maps}?watch=true&timeoutSeconds=1&fieldSelector=metadata.name%3Da"), 200)
                    .at("/type", "ADDED")
                    .at("/object/metadata/name", "a"),
                ask("GET", format!("{maps}?watch=true&sendInitialEvents=true"), 422),
            ],
        ),
    ];
    out.extend(super::more::all(namespace));
    out.extend(super::variants::all(namespace));
    out.extend(super::neighbours::all(namespace));
    out.extend(super::readings::all(namespace));
    out.extend(super::fine::all(namespace));
    out.extend(super::refusals::all(namespace));
    out
}
