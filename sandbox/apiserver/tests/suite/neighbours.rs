//! Neighbours of the cases: the same kinds of questions about other kinds, verbs and faults, each once answered otherwise
//! than a real server answers it.

use serde_json::{Value, json};

use super::harness::{Case, Step, ask};

const APPLY: &str = "application/apply-patch+yaml";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const LABEL: &str = "a lowercase RFC 1123 label must consist of";

fn case(group: &'static str, claim: &'static str, steps: Vec<Step>) -> Case {
    Case { group, claim, steps }
}

pub(super) fn all(namespace: &str) -> Vec<Case> {
    let mut out = workloads(namespace);
    out.extend(objects(namespace));
    out.extend(things(namespace));
    out.extend(requests(namespace));
    out.extend(shown(namespace));
    out
}

fn selected(spec: Value) -> Value {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"a": "b"}});
    spec["template"] = json!({
        "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i",
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}]},
    });
    spec
}

fn workloads(namespace: &str) -> Vec<Case> {
    let apps = format!("/apis/apps/v1/namespaces/{namespace}");
    let jobs = format!("/apis/batch/v1/namespaces/{namespace}/jobs");
    let long = "x".repeat(64);
    let ended = json!({"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}});
    let deployment = json!({"metadata": {"name": "d"}, "spec": selected(json!({}))});
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "env": [
        {"name": "B", "value": "9"}, {"name": "C", "value": "3"}]}]}}}});
    let whole = deployment.to_string().replace("\"spec\":{\"selector", "\"spec\":{\"replicas\":2.0,\"selector");
    vec![
        case(
            "patches",
            "a strategic merge keeps what it does not name before what came after it",
            vec![
                ask("POST", format!("{apps}/deployments"), 201).send(&deployment),
                ask("PATCH", format!("{apps}/deployments/d"), 200)
                    .header("content-type", STRATEGIC)
                    .send(&patch)
                    .at("/spec/template/spec/containers/0/env/0/name", "A")
                    .at("/spec/template/spec/containers/0/env/1/value", "9")
                    .at("/spec/template/spec/containers/0/env/2/name", "C"),
            ],
        ),
        case(
            "names",
            "a StatefulSet's name is a label, a Job's need not be one but its pods' labels hold it",
            vec![
                ask("POST", format!("{apps}/statefulsets"), 422)
                    .send(&json!({"metadata": {"name": "A_b"}, "spec": selected(json!({"serviceName": "s"}))}))
                    .says(LABEL),
                ask("POST", &jobs, 422)
                    .send(&json!({"metadata": {"name": long}, "spec": ended}))
                    .at("/details/causes/0/field", "spec.template.labels")
                    .at("/details/causes/2", Value::Null),
                ask("POST", &jobs, 201)
                    .send(&json!({"metadata": {"name": "j"}, "spec": ended}))
                    .at("/metadata/labels/job-name", "j"),
            ],
        ),
        case(
            "encoding",
            "a number with a point is no integer of a built-in kind",
            vec![
                ask("POST", format!("{apps}/deployments"), 400).text(&whole).says(
                    "cannot unmarshal number 2.0 into Go struct field DeploymentSpec.spec.replicas of type int32",
                ),
            ],
        ),
        case(
            "list",
            "Jobs can be selected by how many of their pods succeeded",
            vec![
                ask("POST", &jobs, 201).send(&json!({"metadata": {"name": "j"}, "spec": ended})),
                ask("GET", format!("{jobs}?fieldSelector=status.successful%3D0"), 200)
                    .at("/items/0/metadata/name", "j"),
            ],
        ),
    ]
}

fn objects(namespace: &str) -> Vec<Case> {
    let core = format!("/api/v1/namespaces/{namespace}");
    let roles = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles");
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
    let uid = "11111111-2222-3333-4444-555555555555";
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
        "spec": {"renewTime": "2024-01-01T00:00:00Z"}});
    vec![
        case(
            "builtins",
            "an empty list that is always written comes back as null, and belongs to who sent it",
            vec![
                ask("POST", roles, 201)
                    .send(&json!({"metadata": {"name": "r"}, "rules": []}))
                    .at("/rules", Value::Null)
                    .at("/metadata/managedFields/0/fieldsV1", json!({"f:rules": {}})),
            ],
        ),
        case(
            "builtins",
            "an eviction that is tried only deletes nothing",
            vec![
                ask("POST", format!("{core}/serviceaccounts"), 201).send(&json!({"metadata": {"name": "s"}})),
                ask("POST", format!("{core}/pods"), 201).send(&json!({"metadata": {"name": "p"}, "spec": {
                    "serviceAccountName": "s", "containers": [{"name": "c", "image": "i"}]}})),
                ask("POST", format!("{core}/pods/p/eviction"), 201).send(&json!({"apiVersion": "policy/v1",
                    "kind": "Eviction", "metadata": {"name": "p"}, "deleteOptions": {"dryRun": ["All"]}})),
                ask("GET", format!("{core}/pods/p"), 200),
            ],
        ),
        case(
            "delete",
            "where a delete has a body its query counts for nothing",
            vec![
                ask("POST", format!("{core}/configmaps"), 201).send(&json!({"metadata": {"name": "a"}})),
                ask("DELETE", format!("{core}/configmaps/a?dryRun=All"), 200)
                    .send(&json!({"propagationPolicy": "Background"})),
                ask("GET", format!("{core}/configmaps/a"), 404),
                ask("DELETE", format!("{core}/configmaps/a"), 415).header("content-type", "text/plain").text("x"),
            ],
        ),
        case(
            "delete",
            "a namespace has words of its own for a precondition that does not hold",
            vec![
                ask("DELETE", core.clone(), 409)
                    .send(&json!({"preconditions": {"uid": uid}}))
                    .says("Precondition failed: UID in precondition: 11111111")
                    .at("/details/kind", "namespaces"),
            ],
        ),
        case(
            "apply",
            "an applied value that its type cannot hold answers 500",
            vec![
                ask("PATCH", format!("{leases}/l?fieldManager=m"), 500)
                    .header("content-type", APPLY)
                    .send(&lease)
                    .says("unable to convert unstructured object to coordination.k8s.io/v1, Kind=Lease: parsing time"),
            ],
        ),
    ]
}

fn things(namespace: &str) -> Vec<Case> {
    let group = format!("{namespace}.example.com");
    let things = format!("/apis/{group}/v1/namespaces/{namespace}/things");
    let thing = |name: &str, spec: Value| {
        let version = format!("{group}/v1");
        json!({"apiVersion": version, "kind": "Thing", "metadata": {"name": name}, "spec": spec})
    };
    let definition = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.{group}");
    let large = thing("l", json!({})).to_string().replace("{}", "{\"size\":12345678901234567890}");
    vec![
        case(
            "crds",
            "the answer to a definition's delete says that it is going",
            vec![
                ask("DELETE", definition, 200)
                    .at("/status/conditions/2/type", "Terminating")
                    .at("/status/conditions/2/reason", "InstanceDeletionPending"),
            ],
        ),
        case(
            "encoding",
            "what no 64-bit integer holds is no integer",
            vec![
                ask("POST", &things, 422)
                    .text(&large)
                    .says("Checked value must be of type integer (default format) in spec.size"),
            ],
        ),
        case(
            "subresources",
            "replicas that nobody owned are owned by nobody after a scale",
            vec![
                ask("POST", &things, 201).send(&thing("t", json!({"size": 2}))),
                ask("PATCH", format!("{things}/t/scale"), 200).send(&json!({"spec": {"replicas": 3}})),
                ask("GET", format!("{things}/t"), 200)
                    .at("/spec/replicas", 3)
                    .at("/metadata/managedFields/1", Value::Null),
                ask("PUT", format!("{things}/t/scale"), 400)
                    .send(&thing("t", json!({})))
                    .says("no kind is registered for the type v1.Scale"),
            ],
        ),
        case(
            "apply",
            "what is there need not be named again, and types come before names",
            vec![
                ask("POST", &things, 201).send(&thing("t", json!({"size": 2}))),
                ask("PATCH", format!("{things}/t?fieldManager=m"), 200)
                    .header("content-type", APPLY)
                    .send(&json!({"apiVersion": format!("{group}/v1"), "kind": "Thing", "spec": {"color": "red"}}))
                    .at("/spec/color", "red"),
                ask("PATCH", format!("{things}/none?fieldManager=m"), 500)
                    .header("content-type", APPLY)
                    .send(&json!({"apiVersion": format!("{group}/v1"), "kind": "Thing", "spec": "x"}))
                    .says(".spec: expected map, got"),
            ],
        ),
        case(
            "patches",
            "a custom resource cannot lose its version",
            vec![
                ask("POST", &things, 201).send(&thing("t", json!({}))),
                ask("PATCH", format!("{things}/t"), 500)
                    .send(&json!({"apiVersion": null}))
                    .says("Object 'apiVersion' is missing"),
            ],
        ),
    ]
}

fn requests(namespace: &str) -> Vec<Case> {
    let core = format!("/api/v1/namespaces/{namespace}");
    vec![
        case(
            "discovery",
            "paths that lead nowhere",
            vec![
                ask("GET", "/api/v1//pods", 404),
                ask("GET", format!("{core}/namespaces"), 404),
                ask("GET", format!("{core}/pods/p/status/more"), 404),
                ask("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews/x", 404).send(&json!({})),
            ],
        ),
        case(
            "crud",
            "a version of three parts is none, and nothing is exported any more",
            vec![
                ask("GET", format!("{core}/configmaps/a?export=true"), 400).says("is no longer supported"),
                ask("POST", format!("{core}/configmaps"), 400)
                    .text("{\"metadata\":{\"name\":\"\\x\"}}")
                    .says("json parse error: invalid"),
                ask("POST", format!("{core}/configmaps"), 400)
                    .send(&json!({"apiVersion": "a/b/c", "kind": "ConfigMap", "metadata": {"name": "a"}}))
                    .says("unexpected GroupVersion string: a/b/c"),
            ],
        ),
        case(
            "watch",
            "a watch that asks for an exact version is told both faults",
            vec![
                ask("GET", format!("{core}/configmaps?watch=true&resourceVersionMatch=Exact&resourceVersion=1"), 422)
                    .at("/details/causes/1/reason", "FieldValueNotSupported"),
            ],
        ),
        case(
            "auth",
            "a request for a token of another name tells whose it is",
            vec![
                ask("POST", format!("{core}/serviceaccounts"), 201).send(&json!({"metadata": {"name": "s"}})),
                ask("POST", format!("{core}/serviceaccounts/s/token"), 422)
                    .send(&json!({"metadata": {"name": "x"}, "spec": {}}))
                    .at("/details/name", "s"),
                ask("POST", format!("{core}/serviceaccounts/s/token"), 400)
                    .send(&json!({"spec": []}))
                    .says("cannot unmarshal array into Go struct field TokenRequest.spec"),
            ],
        ),
    ]
}

fn shown(namespace: &str) -> Vec<Case> {
    let core = format!("/api/v1/namespaces/{namespace}");
    vec![
        case(
            "encoding",
            "keys of a custom resource come by name, those of others as their types have them",
            vec![
                ask("POST", format!("/apis/{namespace}.example.com/v1/namespaces/{namespace}/things"), 201).send(
                    &json!({
                        "spec": {"size": 2, "color": "red"}, "metadata": {"name": "t", "labels": {"a": "b"}},
                        "kind": "Thing", "apiVersion": format!("{namespace}.example.com/v1"),
                    }),
                ),
                ask("GET", format!("/apis/{namespace}.example.com/v1/namespaces/{namespace}/things"), 200)
                    .says("\"kind\":\"ThingList\",\"metadata\":{\"continue\":\"\",\"resourceVersion\":"),
                ask("GET", format!("/apis/{namespace}.example.com/v1/namespaces/{namespace}/things/t"), 200)
                    .says("},\"spec\":{\"color\":\"red\",\"size\":2}}"),
                ask("POST", format!("{core}/configmaps"), 201)
                    .send(&json!({"data": {}, "metadata": {"labels": {"a": "b"}, "name": "c"}})),
                ask("GET", format!("{core}/configmaps/c"), 200)
                    .says("{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"c\",\"namespace\":"),
            ],
        ),
        case(
            "discovery",
            "the description of a field ends with the texts that it may have",
            vec![
                ask("GET", "/openapi/v3/api/v1", 200)
                    .says("Possible enum values:\\n - `\\\"Always\\\"`\\n - `\\\"Never\\\"`\\n - `\\\"OnFailure\\\"`")
                    .at("/components/schemas/io.k8s.api.core.v1.Lifecycle/properties/stopSignal/enum/0", "SIGABRT"),
            ],
        ),
        case(
            "builtins",
            "a slice counts its labels, a class of attributes is held, a level lends nothing unless told to",
            vec![
                ask("POST", format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"), 201)
                    .send(&json!({"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": []})),
                ask("PATCH", format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/s"), 200)
                    .send(&json!({"metadata": {"labels": {"a": "b"}}}))
                    .at("/metadata/generation", 2),
                ask("POST", "/apis/storage.k8s.io/v1/volumeattributesclasses?dryRun=All", 201)
                    .send(&json!({"metadata": {"name": namespace}, "driverName": "d", "parameters": {"a": "b"}}))
                    .at("/metadata/finalizers", json!(["kubernetes.io/vac-protection"])),
                ask("POST", "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations?dryRun=All", 201)
                    .send(&json!({"metadata": {"name": namespace}, "spec": {
                        "type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}}))
                    .at("/spec/limited/nominalConcurrencyShares", 30)
                    .at("/spec/limited/lendablePercent", 0),
            ],
        ),
        case(
            "builtins",
            "an autoscaler is taken in both of its versions",
            ["v1", "v2"]
                .map(|version| {
                    let path = format!("/apis/autoscaling/{version}/namespaces/{namespace}/horizontalpodautoscalers");
                    ask("POST", path, 201).send(&json!({
                        "apiVersion": format!("autoscaling/{version}"), "kind": "HorizontalPodAutoscaler",
                        "metadata": {"name": version}, "spec": {"maxReplicas": 3,
                            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}},
                    }))
                })
                .to_vec(),
        ),
        case(
            "builtins",
            "claims of devices are served, with defaults and their state",
            vec![
                ask("GET", "/apis/resource.k8s.io/v1", 200).at("/resources/2/name", "resourceclaims/status"),
                ask("POST", format!("/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaims"), 201)
                    .send(&json!({"metadata": {"name": "a"}, "spec": {"devices": {"requests": [
                        {"name": "one", "exactly": {"deviceClassName": "c", "tolerations": [{"key": "a"}]}}]}}}))
                    .at("/spec/devices/requests/0/exactly/allocationMode", "ExactCount")
                    .at("/spec/devices/requests/0/exactly/count", 1)
                    .at("/spec/devices/requests/0/exactly/tolerations/0/operator", "Equal")
                    .at("/metadata/generation", Value::Null),
                ask("GET", format!("/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaims/a"), 200)
                    .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
                    .at("/rows/0/cells/1", "pending"),
            ],
        ),
    ]
}
