//! The contract, stated in Rust: what a Kubernetes API server answers, group by group.
//!
//! It is told to a server of our own, or to the one whose kubeconfig `LATTICE_CONTRACT_KUBECONFIG` names, so that a real
//! one can be put under it. Nothing in it depends on controllers, and every case works in a namespace of its own.

#[cfg(test)]
mod suite {
    #[path = "cases.rs"]
    mod cases;
    #[path = "fine.rs"]
    mod fine;
    #[path = "harness.rs"]
    mod harness;
    #[path = "more.rs"]
    mod more;
    #[path = "neighbours.rs"]
    mod neighbours;
    #[path = "readings.rs"]
    mod readings;
    #[path = "refusals.rs"]
    mod refusals;
    #[path = "variants.rs"]
    mod variants;

    use harness::tell;

    macro_rules! groups {
        ($($group:ident),* $(,)?) => {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $group() {
                tell(stringify!($group)).await;
            }
        )*};
    }

    groups![
        admission,
        apply,
        auth,
        builtins,
        concurrency,
        crds,
        crud,
        delete,
        discovery,
        encoding,
        list,
        names,
        patches,
        subresources,
        tables,
        watch,
    ];
}
