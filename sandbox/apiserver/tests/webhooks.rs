//! Webhooks as those who run them meet them: an HTTPS server that is asked, changes objects, and refuses.

#[cfg(test)]
mod webhooks {
    use std::convert::Infallible;
    use std::sync::Arc;

    use base64::Engine as _;
    use http_body_util::{BodyExt as _, Full};
    use hyper::body::{Bytes, Incoming};
    use hyper_util::rt::TokioIo;
    use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{DynamicObject, PostParams};
    use kube::{Api, Client};
    use lattice_apiserver::{ApiServer, Config};
    use lattice_protocol::task::{self, Kind};
    use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use serde_json::{Value, json};

    fn encoded(bytes: impl AsRef<[u8]>) -> String {
        base64::engine::general_purpose::STANDARD.encode(bytes)
    }

    /// Answers a review by the path that was asked.
    fn answer(path: &str, review: &Value) -> Value {
        let asked = &review["request"];
        let patch = json!([{"op": "add", "path": "/data/hooked", "value": asked["userInfo"]["username"]}]).to_string();
        let mut response = match path {
            "/mutate" => json!({"allowed": true, "patchType": "JSONPatch", "patch": encoded(patch), "warnings": ["w"]}),
            "/explain" => json!({"allowed": false, "status": {"code": 403, "reason": "Forbidden", "message": "no"}}),
            "/success" => json!({"allowed": false, "status": {"code": 200}}),
            "/tell" => json!({"allowed": false, "status": {"code": 422, "message": asked.to_string()}}),
            _ => json!({"allowed": true}),
        };
        response["uid"] = if path == "/stranger" { "x".into() } else { asked["uid"].clone() };
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }

    async fn serve(request: http::Request<Incoming>) -> Result<http::Response<Full<Bytes>>, Infallible> {
        let path = request.uri().path().to_owned();
        let bytes = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let review: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(http::Response::new(Full::new(Bytes::from(answer(&path, &review).to_string()))))
    }

    /// Starts the server; answers its address and the certificate to trust.
    async fn start() -> (String, String) {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(task::spawn("test.webhooks", Kind::Service, async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                drop(task::spawn("test.webhook", Kind::Request, async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(serve);
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                }));
            }
        }));
        (address, encoded(own.cert.pem()))
    }

    fn hook(address: &str, bundle: &str, path: &str) -> Value {
        json!({
            "name": "hook.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": format!("https://{address}{path}"), "caBundle": bundle},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
            "matchConditions": [{"name": "not-free", "expression": "object.metadata.name != 'free'"}],
        })
    }

    /// Makes a server with one validating webhook on a path.
    async fn validated(path: &str) -> Client {
        let (address, bundle) = start().await;
        let client = ApiServer::new(Config::default()).unwrap().client();
        let configuration: ValidatingWebhookConfiguration =
            serde_json::from_value(json!({"metadata": {"name": "v"}, "webhooks": [hook(&address, &bundle, path)]}))
                .unwrap();
        Api::all(client.clone()).create(&PostParams::default(), &configuration).await.unwrap();
        client
    }

    async fn create(client: &Client, name: &str) -> Result<ConfigMap, kube::core::Status> {
        let map = serde_json::from_value(json!({"metadata": {"name": name}, "data": {"k": "v"}})).unwrap();
        match Api::<ConfigMap>::default_namespaced(client.clone()).create(&PostParams::default(), &map).await {
            Ok(made) => Ok(made),
            Err(kube::Error::Api(status)) => Err(*status),
            Err(other) => panic!("{other}"),
        }
    }

    #[tokio::test]
    async fn a_mutating_webhook_changes_what_is_stored() {
        let (address, bundle) = start().await;
        let client = ApiServer::new(Config::default()).unwrap().client();
        let configuration: MutatingWebhookConfiguration = serde_json::from_value(
            json!({"metadata": {"name": "m"}, "webhooks": [hook(&address, &bundle, "/mutate")]}),
        )
        .unwrap();
        Api::all(client.clone()).create(&PostParams::default(), &configuration).await.unwrap();
        let made = create(&client, "a").await.unwrap();
        assert_eq!(made.data.unwrap()["hooked"], "kubernetes-admin");
        let owned = serde_json::to_string(&made.metadata.managed_fields).unwrap();
        assert!(!owned.contains("hooked"), "the webhook's field has an owner: {owned}");
        assert_eq!(create(&client, "free").await.unwrap().data.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_refusal_carries_the_webhooks_code_and_words() {
        let client = validated("/explain").await;
        let refused = create(&client, "a").await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (403, "Forbidden"));
        assert_eq!(refused.message, "admission webhook \"hook.example.com\" denied the request: no");
        create(&client, "free").await.unwrap();
    }

    #[tokio::test]
    async fn a_refusal_is_never_told_as_a_success() {
        let refused = create(&validated("/success").await, "a").await.unwrap_err();
        assert_eq!(refused.code, 400);
        assert!(refused.message.ends_with("denied the request without explanation"), "{}", refused.message);
    }

    #[tokio::test]
    async fn an_answer_to_another_review_counts_as_no_answer() {
        let refused = create(&validated("/stranger").await, "a").await.unwrap_err();
        assert_eq!(refused.code, 500);
        assert!(
            refused.message.contains("received invalid webhook response: expected response.uid"),
            "{}",
            refused.message
        );
    }

    #[tokio::test]
    async fn a_review_names_who_wants_what() {
        let refused = create(&validated("/tell").await, "a").await.unwrap_err();
        let (_, told) = refused.message.split_once("denied the request: ").unwrap();
        let asked: Value = serde_json::from_str(told).unwrap();
        assert_eq!(asked["operation"], "CREATE");
        assert_eq!(asked["resource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
        assert_eq!((&asked["name"], &asked["namespace"]), (&json!("a"), &json!("default")));
        assert_eq!(asked["object"]["data"]["k"], "v");
        assert_eq!(asked["oldObject"], Value::Null);
        let object: DynamicObject = serde_json::from_value(asked["object"].clone()).unwrap();
        assert_eq!(object.types.unwrap().kind, "ConfigMap");
    }
}
