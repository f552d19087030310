use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::node::folder::{NodeFile, prepare};

fn machine() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let node = NodeFile { control: "/nowhere".into(), namespace: "ns".to_owned(), machine: "m".to_owned() };
    prepare(folder.path(), Path::new("/bin/false"), &node).unwrap();
    folder
}

async fn execute(folder: &Path, yaml: &str) -> Result<(), Error> {
    CloudConfig::parse(&format!("#cloud-config\n{yaml}"), &BTreeMap::new()).unwrap().execute(folder, None).await
}

fn read(folder: &Path, path: &str) -> String {
    std::fs::read_to_string(folder.join(path)).unwrap_or_default()
}

#[tokio::test]
async fn files_land_with_their_permissions_and_scripts_see_their_own_paths() {
    let folder = machine();
    let script = "#!/bin/sh\nset -eu\n[ -f /etc/lattice/token ]\ncat /etc/lattice/token > /run/out\n";
    let encoded = base64::engine::general_purpose::STANDARD.encode(script);
    let yaml = format!(
        "write_files:\n- {{path: /etc/lattice/token, permissions: '0600', content: secret}}\n\
         - {{path: /etc/lattice/x.sh, permissions: '0755', encoding: base64, content: {encoded}}}\n\
         runcmd:\n- /etc/lattice/x.sh\n- [sh, -c, 'echo done > /run/second']\n"
    );
    execute(folder.path(), &yaml).await.unwrap();
    assert_eq!(read(folder.path(), "run/out"), "secret");
    assert_eq!(read(folder.path(), "run/second"), "done\n");
    let mode = std::fs::metadata(folder.path().join("etc/lattice/token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn an_unknown_command_fails_the_machine_and_is_named() {
    let folder = machine();
    let error = execute(folder.path(), "runcmd: ['true', 'no-such-program --now', 'echo never > /run/never']")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("command 2 of 3"), "{error}");
    assert!(error.contains("not found") && error.contains("no-such-program --now"), "{error}");
    assert_eq!(read(folder.path(), "run/never"), "", "nothing runs after the failure");
}

#[tokio::test]
async fn programs_of_the_host_that_a_lean_image_lacks_are_not_found() {
    let folder = machine();
    let error = execute(folder.path(), "runcmd: ['systemctl stop everything']").await.unwrap_err().to_string();
    assert!(error.contains("127"), "{error}");
}

#[tokio::test]
async fn the_hosts_environment_does_not_leak() {
    let folder = machine();
    execute(folder.path(), "runcmd: ['env > /run/env']").await.unwrap();
    let env = read(folder.path(), "run/env");
    assert!(!env.contains("CARGO"), "{env}");
    assert!(env.contains("HOME="), "{env}");
}

#[test]
fn templates_see_the_machines_own_data_and_leave_other_braces() {
    let metadata = BTreeMap::from([("instance_id".to_owned(), "i-1".to_owned())]);
    let text = "## template: jinja\n#cloud-config\nruncmd: [\"a '{{ ds.meta_data.instance_id }}' {{ other }}\"]\n";
    let config = CloudConfig::parse(text, &metadata).unwrap();
    assert_eq!(config.runcmd[0], "a 'i-1' {{ other }}");
}

#[test]
fn a_parse_error_shows_nothing_of_the_data() {
    let error = CloudConfig::parse("#cloud-config\nruncmd: {a: 'topsecret', [}\n", &BTreeMap::new()).unwrap_err();
    assert!(!error.to_string().contains("topsecret"), "{error}");
    assert!(CloudConfig::parse("runcmd: []", &BTreeMap::new()).is_err());
}
