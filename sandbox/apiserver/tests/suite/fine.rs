//! Fine print of writes, each line of it once answered otherwise than a real server answers it.

use serde_json::{Value, json};

use super::harness::{Case, Step, ask};

const APPLY: &str = "application/apply-patch+yaml";
const JSON: &str = "application/json-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

pub(super) fn all(namespace: &str) -> Vec<Case> {
    let case = |group, claim, steps| Case { group, claim, steps };
    vec![
        case("apply", "null says nothing about what a map holds, a key left out is empty", apply(namespace)),
        case("patches", "a JSON patch takes what is not there for null", json_patches(namespace)),
        case(
            "patches",
            "directives of a strategic merge count where there is something to merge",
            strategic(namespace),
        ),
        case("subresources", "the scale is patched like any object, and has its owners", subresources(namespace)),
        case("crud", "what is no revision counts as none, other versions and lists are known", crud(namespace)),
        case("delete", "options of a delete are read as they are written", delete(namespace)),
        case("crds", "a definition's body is read by the types of definitions alone", definitions()),
        case("names", "owners named twice by a patch, labels of pods", names(namespace)),
    ]
}

fn things(namespace: &str) -> String {
    format!("/apis/{namespace}.example.com/v1/namespaces/{namespace}/things")
}

fn thing(namespace: &str, spec: &Value) -> Value {
    json!({"apiVersion": format!("{namespace}.example.com/v1"), "kind": "Thing", "metadata": {"name": "t"}, "spec": spec})
}

fn workload(kind: &str, container: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}}})
}

fn apply(namespace: &str) -> Vec<Step> {
    let things = things(namespace);
    let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
    let deployments = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
    let applied =
        |path: &str, status| ask("PATCH", format!("{path}?fieldManager=m"), status).header("content-type", APPLY);
    let owned = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a",
        "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "o"}]}});
    vec![
        applied(&format!("{things}/t"), 201).send(&thing(namespace, &json!({"color": "red"}))),
        applied(&format!("{things}/t"), 200)
            .send(&thing(namespace, &Value::Null))
            .at("/spec", json!({"size": 1}))
            .at("/metadata/managedFields/0/fieldsV1", json!({"f:spec": {}})),
        applied(&format!("{deployments}/d"), 422)
            .send(&workload("Deployment", &json!({"image": "i"})))
            .at("/details/causes/0/field", "spec.template.spec.containers[0].name"),
        applied(&format!("{maps}/a"), 422).send(&owned).says("metadata.ownerReferences.uid"),
        applied(&format!("{maps}/a"), 400)
            .text(r#"{"apiVersion":"v1""#)
            .says("line 1: did not find expected ',' or '}'"),
        // What comes twice is read all the same.
        applied(&format!("{deployments}/e"), 500)
            .send(
                &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "e"}, "spec": {"template":
                {"spec": {"containers": [{"name": "c"}, {"name": "c", "bogus": 1}]}}}}),
            )
            .says("[name=\\\"c\\\"].bogus: field not declared in schema"),
        applied(&format!("{things}/u"), 422)
            .send(
                &json!({"apiVersion": format!("{namespace}.example.com/v1"), "kind": "Thing", "metadata": {"name": "u"},
                "spec": {"color": null}}),
            )
            .at("/details/causes/1/reason", "FieldValueNotSupported"),
        // Where both are wrong, what does not fit the schema is told before what came twice.
        ask("PATCH", format!("{maps}/a?fieldManager=m&fieldValidation=Strict"), 500)
            .header("content-type", APPLY)
            .text(r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"a":"b","a":1}}"#)
            .says(".data.a: expected string"),
        ask("PATCH", format!("{maps}/a?fieldManager=m&fieldValidation=Strict"), 400)
            .header("content-type", APPLY)
            .text("{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\n\"metadata\":{\"name\":\"a\",\"name\":\"a\"}}")
            .says("line 2: key \\\"name\\\" already set in map"),
    ]
}

fn json_patches(namespace: &str) -> Vec<Step> {
    let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
    let patched = |status, operations: Value| {
        ask("PATCH", format!("{maps}/a"), status).header("content-type", JSON).send(&operations)
    };
    vec![
        ask("POST", &maps, 201).send(&json!({"metadata": {"name": "a"}, "data": {"k": "v"}})),
        patched(200, json!([{"op": "copy", "from": "/data/none", "path": "/data/x"}])).at("/data/x", ""),
        patched(200, json!([{"op": "replace", "path": "/data/k"}])).at("/data/k", ""),
        patched(422, json!([{"op": "test", "path": "/none/x", "value": null}])),
        patched(422, json!([{"op": "copy", "from": "", "path": "/data/y"}])),
        ask("PATCH", format!("{maps}/a"), 422)
            .send(&json!({"metadata": {"labels": "x"}}))
            .says(r#"\\\"managedFields\\\":[{\\\"manager\\\":"#),
        ask("PATCH", format!("{maps}/a"), 422)
            .send(&json!({"kind": "Secret", "data": {"k": "%"}}))
            .says("illegal base64 data"),
        ask("PATCH", format!("{}/t", things(namespace)), 404).send(&json!({})),
    ]
}

fn strategic(namespace: &str) -> Vec<Step> {
    let deployments = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
    let pod = |spec: Value| json!({"spec": {"template": {"spec": spec}}});
    let patched = |status, patch: &Value| {
        ask("PATCH", format!("{deployments}/d"), status).header("content-type", STRATEGIC).send(patch)
    };
    let selected = "/spec/template/spec/nodeSelector";
    let order = json!({"$setElementOrder/containers": [{"name": "x"}], "containers": [{"name": "c"}]});
    vec![
        ask("POST", &deployments, 201).send(&workload("Deployment", &json!({"name": "c", "image": "i"}))),
        patched(200, &pod(json!({"nodeSelector": {"$patch": "replace", "a": "b"}}))).at(selected, Value::Null),
        patched(200, &pod(json!({"nodeSelector": {"a": "b"}}))).at(selected, json!({"a": "b"})),
        patched(200, &pod(json!({"nodeSelector": {"$patch": "replace", "c": "d"}}))).at(selected, json!({"c": "d"})),
        patched(500, &json!({"spec": {"$patch": "merge"}})).says("unknown patch type: merge"),
        patched(
            400,
            &json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate", "rollingUpdate": {}}}}),
        )
        .says("invalid patch format of retainKeys"),
        patched(500, &pod(order)).says("doesn't match $setElementOrder list"),
        patched(422, &json!({"spec": {"replicas": "x"}})).says("unrecognized type: int32"),
        patched(422, &pod(json!({"restartPolicy": 5}))).says("cannot convert int64 to v1.RestartPolicy"),
    ]
}

fn subresources(namespace: &str) -> Vec<Step> {
    let things = things(namespace);
    let core = format!("/api/v1/namespaces/{namespace}");
    let conditions =
        json!({"status": {"conditions": [{"type": "A", "status": "True"}, {"type": "A", "status": "False"}]}});
    let deployments = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
    vec![
        ask("POST", &things, 201).send(&thing(namespace, &json!({"replicas": 1}))),
        ask("PATCH", format!("{things}/t/scale?fieldValidation=Strict"), 422)
            .send(&json!({"spec": {"bogus": 1}}))
            .says(r#"\\\"apiVersion\\\":\\\"autoscaling/v1\\\",\\\"time\\\":"#),
        ask("PUT", format!("{things}/t/scale"), 409)
            .send(&json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "t", "uid": "x"}}))
            .says("UID in precondition: x"),
        // A scale that comes back as it was parts its count from what else its owner has.
        ask("PATCH", format!("{things}/t/scale"), 200).send(&json!({})),
        ask("GET", format!("{things}/t"), 200)
            .at("/metadata/managedFields/0/fieldsV1", json!({"f:spec": {"f:replicas": {}}}))
            .at("/metadata/managedFields/0/time", Value::Null),
        ask("PUT", format!("{things}/t/scale"), 200)
            .send(&json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "t"},
                "spec": {"replicas": 2, "bogus": 1}}))
            .warns("unknown field \\\"spec.bogus\\\""),
        ask("PATCH", format!("{things}/t/status"), 422)
            .send(&json!({"status": {"replicas": 1.5}}))
            .at("/details/causes/1/field", "status"),
        ask("POST", &deployments, 201).send(&workload("Deployment", &json!({"name": "c", "image": "i"}))),
        // Items that cannot be told apart have one owner.
        ask("PATCH", format!("{deployments}/d/status"), 200)
            .send(&conditions)
            .at("/metadata/managedFields/1/fieldsV1/f:status/f:conditions/k:{\"type\":\"A\"}", json!({})),
        ask("POST", format!("{core}/serviceaccounts"), 201).send(&json!({"metadata": {"name": "default"}})),
        ask("POST", format!("{core}/pods"), 201)
            .send(&json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})),
        ask("PATCH", format!("{core}/pods/p/status"), 200)
            .send(&json!({"status": {"podIP": "10.0.0.1"}}))
            .at("/status/podIPs", json!([{"ip": "10.0.0.1"}])),
    ]
}

fn crud(namespace: &str) -> Vec<Step> {
    let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
    let things = things(namespace);
    let old = json!({"apiVersion": "extensions/v1beta1", "kind": "Deployment", "metadata": {"name": "d"}});
    let service = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}});
    vec![
        ask("POST", &maps, 201).send(&json!({"metadata": {"name": "a", "resourceVersion": "x"}})),
        ask("POST", &maps, 201).send(&json!({"metadata": {"name": "b", "resourceVersion": "0"}})),
        ask("POST", &maps, 400)
            .send(&json!({"apiVersion": "v1", "kind": "ConfigMapList", "items": []}))
            .says("converting (v1.ConfigMapList) to (core.ConfigMap): unknown conversion"),
        ask("POST", format!("/apis/apps/v1/namespaces/{namespace}/deployments"), 400)
            .send(&old)
            .says("the API version in the data (extensions/v1beta1) does not match the expected API version (apps/v1)"),
        ask("PUT", format!("/api/v1/namespaces/{namespace}/services/s"), 201).send(&service),
        ask("POST", format!("/api/v1/namespaces/{namespace}/services"), 400)
            .send(&json!({"metadata": {"name": "t"}, "spec": {"ipFamilies": [5]}}))
            .says("Go struct field ServiceSpec.spec.ipFamilies of type v1.IPFamily"),
        ask("POST", format!("/api/v1/namespaces/{namespace}/pods"), 400)
            .send(&json!({"metadata": {"name": "t"}, "spec": {"volumes": [{"name": "v", "emptyDir": {"medium": 5}}]}}))
            .says("EmptyDirVolumeSource.spec.volumes.VolumeSource.emptyDir.medium of type v1.StorageMedium"),
        ask("POST", format!("{maps}?dryRun=all"), 415).header("content-type", "text/plain").text("hello"),
        ask("POST", format!("{maps}?fieldValidation=Strict"), 400)
            .text(r#"{"metadata":{"name":"c","x":1},"data":{"a":"1","a":"2"},"y":2}"#)
            .says(r#"unknown field \"metadata.x\", duplicate field \"data.a\", unknown field \"y\""#),
        ask("POST", &things, 400)
            .send(
                &json!({"apiVersion": format!("{namespace}.example.com/v2"), "kind": "Thing", "metadata": {"name": "t"},
                "spec": {}}),
            )
            .warns("unknown field \\\"spec\\\""),
        ask("POST", format!("{things}?fieldValidation=Ignore"), 400)
            .send(&json!({"metadata": {"name": "t"}}))
            .says("Thing in version \\\"v1\\\" cannot be handled as a Thing: Object 'Kind' is missing"),
    ]
}

fn delete(namespace: &str) -> Vec<Step> {
    let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
    let jobs = format!("/apis/batch/v1/namespaces/{namespace}/jobs");
    let held = json!({"metadata": {"name": "a", "finalizers": ["example.com/a"]}});
    let pod = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    vec![
        ask("POST", &maps, 201).send(&held),
        ask("DELETE", format!("{maps}/a?propagationPolicy="), 422).says("Unsupported value"),
        ask("DELETE", format!("{maps}/a?gracePeriodSeconds="), 400).says("strconv.ParseInt"),
        ask("DELETE", format!("{maps}/a"), 202).send(&json!({"orphanDependents": false})),
        ask("DELETE", format!("{maps}/a"), 200).text("null"),
        ask("DELETE", format!("{maps}?labelSelector=a%20in"), 400).send(&json!({"propagationPolicy": "x"})),
        ask("POST", &jobs, 201).send(&json!({"metadata": {"name": "j"}, "spec": {"template": pod}})),
        ask("DELETE", &jobs, 200).warns("child pods are preserved by default"),
    ]
}

fn definitions() -> Vec<Step> {
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let of = |version: &str, kind: &str| json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}});
    let flat = json!({"metadata": {"name": "things.x.example.com"}, "spec": {"group": "x.example.com", "versions": [
        {"name": "v1", "served": true, "storage": true, "subresources": {"status": []}}]}});
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    vec![
        ask("POST", definitions, 400).send(&of("v1", "ConfigMap")).says("apiextensions-apiserver/pkg/apiserver"),
        ask("POST", definitions, 400).send(&of("v1", "Status")).says("unknown conversion"),
        ask("POST", definitions, 400)
            .send(&of("apiextensions.k8s.io/v1beta1", "CustomResourceDefinition"))
            .says("does not match the expected API version"),
        ask("POST", definitions, 400).send(&flat).says("of type v1.CustomResourceSubresourceStatus"),
        ask("POST", reviews, 400)
            .send(&of("authentication.k8s.io/v1beta1", "TokenReview"))
            .says("does not match the expected API version"),
    ]
}

fn names(namespace: &str) -> Vec<Step> {
    let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
    let limits = format!("/api/v1/namespaces/{namespace}/limitranges");
    let owner = json!({"apiVersion": "v1", "kind": "A", "name": "a", "uid": "x"});
    let mut deployment = workload("Deployment", &json!({"name": "c", "image": "i"}));
    deployment["spec"]["template"]["metadata"]["labels"]["a b"] = json!("c");
    vec![
        ask("POST", &maps, 201).send(&json!({"metadata": {"name": "a"}})),
        ask("PATCH", format!("{maps}/a"), 200)
            .send(&json!({"metadata": {"ownerReferences": [owner, owner]}}))
            .at("/metadata/ownerReferences/1", Value::Null)
            .warns("contains duplicate entries after mutating admission happens"),
        ask("POST", format!("/apis/apps/v1/namespaces/{namespace}/deployments"), 422)
            .send(&deployment)
            .at("/details/causes/0/field", "spec.template.labels"),
        // How often an error is found differs from kind to kind.
        ask("POST", &limits, 201).send(&json!({"metadata": {"name": "l"}, "spec": {"limits": []}})),
        ask("PATCH", format!("{limits}/l"), 422)
            .send(&json!({"metadata": {"finalizers": ["a b/c"]}}))
            .at("/details/causes/2", Value::Null),
        ask("PATCH", format!("{limits}/l"), 422)
            .send(&json!({"metadata": {"uid": "x"}}))
            .at("/details/causes/1", Value::Null),
        ask("POST", things(namespace), 201).send(&thing(namespace, &json!({}))),
        ask("PATCH", format!("{}/t", things(namespace)), 422)
            .send(&json!({"apiVersion": format!("{namespace}.example.com/v2")}))
            .warns("unknown field \\\"spec\\\""),
    ]
}
