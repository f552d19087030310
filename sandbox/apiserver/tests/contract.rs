//! Likeness to a real API server: recorded requests and stories, told to this one.
//!
//! The recordings are not part of the repository: `LATTICE_API_CONTRACT_DIR` names the folder of requests,
//! `LATTICE_KUBECTL_CONTRACT_DIR` that of the stories told with `kubectl`.

#[cfg(test)]
mod likeness {
    use std::path::{Path, PathBuf};
    use std::process::Stdio;

    use lattice_apiserver::{ApiServer, Config};
    use tokio::process::Command;

    /// Tells a folder's recordings to a fresh server; `None` where the variable does not name one.
    async fn replay(variable: &str, config: Config, more: &[&str]) -> Option<String> {
        let Some(folder) = std::env::var_os(variable).map(PathBuf::from) else {
            eprintln!("SKIPPED: {variable} does not name the folder of recordings; likeness was NOT tested");
            return None;
        };
        let server = ApiServer::new(config).unwrap();
        let serving = server.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let place = tempfile::tempdir().unwrap();
        let kubeconfig = place.path().join("kubeconfig");
        std::fs::write(&kubeconfig, server.kubeconfig(&serving.addr()).unwrap()).unwrap();
        Some(run(&folder.join("replay.py"), &kubeconfig, more).await)
    }

    async fn run(script: &Path, kubeconfig: &Path, more: &[&str]) -> String {
        let output = Command::new("python3")
            .arg(script)
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(more)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn requests_are_answered_as_a_real_server_answers_them() {
        let Some(said) = replay("LATTICE_API_CONTRACT_DIR", Config::default(), &["--jobs", "4"]).await else { return };
        let last = said.lines().last().unwrap_or_default();
        assert!(last.contains(" 0 failed"), "{said}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn kubectl_tells_the_same_stories() {
        let config = Config { controllers: true, ..Config::default() };
        let stories = "LATTICE_KUBECTL_CONTRACT_DIR";
        let Some(mut said) = replay(stories, config.clone(), &[]).await else { return };
        if let Some(only) = raced(&said) {
            said = replay(stories, config, &["--only", &only]).await.unwrap();
        }
        let last = said.lines().last().unwrap_or_default();
        assert!(last.ends_with(" 0 failed"), "{said}");
    }

    /// Names the stories that failed, where `kubectl` alone is to blame: when its `wait` runs out, it now and then takes
    /// the end of its own watch for the server's, on a real server too, and says so.
    fn raced(said: &str) -> Option<String> {
        let failed: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("FAIL ")).collect();
        let ids: Option<Vec<&str>> = failed
            .iter()
            .map(|line| line.split_once(": ").filter(|(_, why)| why.contains(" reflector.go:")).map(|(id, _)| id))
            .collect();
        ids.filter(|ids| !ids.is_empty()).map(|ids| format!("^({})$", ids.join("|")))
    }

    #[test]
    fn a_story_is_told_again_only_for_what_kubectl_did_wrong() {
        let race =
            "FAIL wait: step 6: kubectl wait: stderr: want 'timed out', got 'W1130 07:00:07 1 reflector.go:492] k8s'";
        assert_eq!(raced(&format!("{race}\n1 passed, 1 failed\n")), Some("^(wait)$".to_owned()));
        assert_eq!(raced(&format!("{race}\nFAIL get: step 0: kubectl get: rc: want '0', got '1'\n")), None);
        assert_eq!(raced("2 passed, 0 failed\n"), None);
    }
}
