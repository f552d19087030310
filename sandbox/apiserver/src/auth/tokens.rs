//! Tokens of ServiceAccounts: signed by the server, valid while what they are bound to lives.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

use super::User;
use crate::core::Core;
use crate::error::Error;
use crate::json;
use crate::meta;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// How long a token holds that does not say so itself.
pub(crate) const EXPIRATION_SECONDS: i64 = 3600;
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// The key that signs tokens.
pub(crate) struct Tokens {
    key: hmac::Key,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens([redacted])")
    }
}

/// What a token is for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    pub(crate) namespace: String,
    pub(crate) account: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) seconds: i64,
    /// Kind, name and uid of the object that the token lives with.
    pub(crate) bound: Option<(String, String, String)>,
}

impl Tokens {
    /// Makes a key, or reads the one of the state folder.
    pub(crate) fn load_or_new(state: Option<&Path>) -> Result<Self, Error> {
        let fresh = || format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let secret = match state.map(|folder| folder.join("token.key")) {
            None => fresh(),
            Some(path) => match std::fs::read_to_string(&path) {
                Ok(secret) => secret,
                Err(_) => {
                    let secret = fresh();
                    crate::state::write_private(&path, secret.as_bytes())?;
                    secret
                }
            },
        };
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()) })
    }

    /// Issues a token of an account that is there.
    pub(crate) fn issue(&self, core: &Core, claims: &Claims) -> Option<String> {
        let account = core.builtin("serviceaccounts", &claims.namespace, &claims.account)?;
        let now = core.config.clock.now().as_second();
        let audiences = if claims.audiences.is_empty() { vec![ISSUER.to_owned()] } else { claims.audiences.clone() };
        let mut private = json!({
            "namespace": claims.namespace,
            "serviceaccount": {"name": claims.account, "uid": meta::uid(&account)},
        });
        if let Some((kind, name, uid)) = &claims.bound {
            private[kind.to_lowercase()] = json!({"name": name, "uid": uid});
        }
        let body = json!({
            "aud": audiences,
            "exp": now + claims.seconds,
            "iat": now,
            "iss": ISSUER,
            "jti": uuid::Uuid::new_v4().to_string(),
            "kubernetes.io": private,
            "nbf": now,
            "sub": format!("system:serviceaccount:{}:{}", claims.namespace, claims.account),
        });
        let text =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(serde_json::to_vec(&body).ok()?));
        let signature = hmac::sign(&self.key, text.as_bytes());
        Some(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }

    /// Returns the user of a token that is for one of the audiences (for the server itself, when none is named).
    pub(crate) fn authenticate(&self, core: &Core, token: &str, audiences: &[String]) -> Option<User> {
        let (text, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        hmac::verify(&self.key, text.as_bytes(), &signature).ok()?;
        let body: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text.split_once('.')?.1).ok()?).ok()?;
        let now = core.config.clock.now().as_second();
        let wanted = |audience: &Value| match audiences {
            [] => audience == ISSUER,
            list => list.iter().any(|wanted| audience == wanted.as_str()),
        };
        if body["exp"].as_i64()? < now || !json::list(&body, &["aud"]).iter().any(wanted) {
            return None;
        }
        let private = &body["kubernetes.io"];
        let namespace = json::text(private, &["namespace"]);
        let name = json::text(private, &["serviceaccount", "name"]);
        let account = core.builtin("serviceaccounts", namespace, name)?;
        if meta::uid(&account) != json::text(private, &["serviceaccount", "uid"]) {
            return None;
        }
        let mut user = User::account(namespace, name, meta::uid(&account));
        for (key, storage) in [("secret", "secrets"), ("pod", "pods"), ("node", "nodes")] {
            let Some(bound) = private.get(key) else { continue };
            let scope = if key == "node" { "" } else { namespace };
            let found = core.builtin(storage, scope, json::text(bound, &["name"]))?;
            if meta::uid(&found) != json::text(bound, &["uid"]) {
                return None;
            }
            if key != "secret" {
                let path = format!("authentication.kubernetes.io/{key}");
                user.extra.insert(format!("{path}-name"), vec![json::text(bound, &["name"]).to_owned()]);
                user.extra.insert(format!("{path}-uid"), vec![json::text(bound, &["uid"]).to_owned()]);
            }
        }
        let id = format!("JTI={}", json::text(&body, &["jti"]));
        user.extra.insert("authentication.kubernetes.io/credential-id".to_owned(), vec![id]);
        Some(user)
    }

    /// Reads for whom a token says it is; whether that is true is not checked.
    pub(crate) fn audiences(token: &str) -> Vec<String> {
        let body = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let body: Value = body.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        json::list(&body, &["aud"]).iter().filter_map(Value::as_str).map(String::from).collect()
    }

    /// Returns who issues tokens.
    pub(crate) fn issuer() -> &'static str {
        ISSUER
    }
}
