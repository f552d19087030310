//! What only kubelets can answer about pods: the embedder brings them.

use std::sync::{Arc, PoisonError, RwLock};

use futures::future::BoxFuture;

use crate::http::Body;

/// A request for a subresource that a pod's kubelet answers: `log`, `exec`, `attach` or `portforward`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCall {
    /// Namespace of the pod.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Which subresource.
    pub subresource: String,
}

type Answer = dyn Fn(PodCall, http::Request<Body>) -> BoxFuture<'static, http::Response<Body>> + Send + Sync;

/// The kubelets of a server, once there are some.
#[derive(Clone, Default)]
pub(crate) struct Kubelets(Arc<RwLock<Option<Arc<Answer>>>>);

impl std::fmt::Debug for Kubelets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kubelets")
    }
}

impl Kubelets {
    /// Sets who answers.
    pub(crate) fn set(&self, answer: Arc<Answer>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    /// Hands a request over; `None` where there are no kubelets.
    pub(crate) fn answer(
        &self,
        call: PodCall,
        request: impl FnOnce() -> http::Request<Body>,
    ) -> Option<BoxFuture<'static, http::Response<Body>>> {
        let answer = self.0.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(answer(call, request()))
    }
}
