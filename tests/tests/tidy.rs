//! Holds what clippy cannot see: the table of rooms, file lengths, names, and that the documents list what the code has.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::format_push_string,
    reason = "a test that cannot read the checkout has failed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use lattice_protocol::reason::Reason;

/// Longest source file, tests apart. Past this a file is more than one room.
const LINES_MAX: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the checkout").to_path_buf()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below `dir` whose name ends in `ending`, build output and hidden folders apart.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    open.push(path);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<PathBuf> {
    files(&root(), ".rs")
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().into_owned()
}

/// The code of a file before its `#[cfg(test)]` module.
fn without_tests(text: &str) -> &str {
    text.find("\n#[cfg(test)]\nmod tests").map_or(text, |at| &text[..at])
}

fn assert_none(findings: &[String], rule: &str) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

#[test]
fn no_file_is_longer_than_a_room() {
    let long: Vec<_> = sources()
        .iter()
        .filter(|path| !relative(path).ends_with("tests.rs") && !relative(path).contains("/tests/"))
        .filter_map(|path| {
            let lines = without_tests(&read(path)).lines().count();
            (lines > LINES_MAX).then(|| format!("{} has {lines} lines", relative(path)))
        })
        .collect();
    assert_none(&long, &format!("files of at most {LINES_MAX} lines, tests apart"));
}

#[test]
fn every_file_says_what_is_in_it() {
    let silent: Vec<_> = sources()
        .iter()
        .filter(|path| !relative(path).ends_with("tests.rs") && !read(path).starts_with("//!"))
        .map(|path| relative(path))
        .collect();
    assert_none(&silent, "each file begins with a module doc");
}

#[test]
fn modules_are_named_by_their_file() {
    let found: Vec<_> =
        files(&root(), "mod.rs").iter().map(|path| relative(path)).filter(|p| p.ends_with("/mod.rs")).collect();
    assert_none(&found, "foo.rs and foo/, never mod.rs");
}

#[test]
fn names_say_something() {
    let banned = ["util", "utils", "helper", "helpers", "misc", "common"];
    let found: Vec<_> = sources()
        .iter()
        .filter(|path| banned.contains(&path.file_stem().unwrap().to_string_lossy().as_ref()))
        .map(|path| relative(path))
        .collect();
    assert_none(&found, "no file is called after nothing in particular");
}

#[test]
fn the_top_level_has_only_its_names() {
    let allowed: BTreeSet<&str> = [
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        "deny.toml",
        "manager",
        "agent",
        "protocol",
        "templates",
        "charts",
        "tests",
        "docs",
        "sandbox",
        "target",
    ]
    .into();
    let extra: Vec<_> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && !allowed.contains(name.as_str()))
        .collect();
    assert_none(&extra, "a new thing goes into a room that exists");
}

/// Reads the table of rooms from `docs/ARCHITECTURE.md`: room → the rooms it may use.
fn room_table() -> BTreeMap<String, BTreeSet<String>> {
    let text = read(root().join("docs/ARCHITECTURE.md"));
    let names = |cell: &str| -> BTreeSet<String> {
        cell.split('`').skip(1).step_by(2).map(|name| name.trim_end_matches('/').to_owned()).collect()
    };
    let rows: BTreeMap<_, _> = text
        .lines()
        .skip_while(|line| !line.starts_with("| room |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            assert_eq!(cells.len(), 3, "a row of the table of rooms has three cells: {line}");
            (names(cells[0]).into_iter().next().expect("a room has a name"), names(cells[2]))
        })
        .collect();
    assert!(rows.len() > 12, "docs/ARCHITECTURE.md has the table of rooms");
    rows
}

/// The room that a source file belongs to: the longest room whose path leads to it.
fn room_of<'a>(path: &str, rooms: &'a BTreeMap<String, BTreeSet<String>>) -> Option<&'a str> {
    let inside = |room: &str| {
        path.strip_prefix(room).is_some_and(|rest| rest.starts_with('/') || rest == ".rs" || rest.is_empty())
    };
    rooms.keys().map(String::as_str).filter(|room| inside(room)).max_by_key(|room| room.len())
}

/// The rooms that a line of code names: `crate::x` inside a crate, `lattice_x` across crates.
fn used_rooms(path: &str, line: &str) -> Vec<String> {
    let mut used = Vec::new();
    if let Some(krate) = path.split("/src/").next().filter(|_| path.starts_with("manager/src/")) {
        for piece in line.split("crate::").skip(1) {
            let name: String = piece.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            if !name.is_empty() {
                used.push(format!("{krate}/src/{name}"));
            }
        }
    }
    for (name, room) in [
        ("lattice_protocol", "protocol"),
        ("lattice_manager", "manager"),
        ("lattice_agent", "agent"),
        ("lattice_sandbox", "sandbox"),
        ("lattice_apiserver", "sandbox/apiserver"),
        ("lattice_nodes", "sandbox/nodes"),
    ] {
        if line.contains(&format!("{name}::")) {
            used.push(room.to_owned());
        }
    }
    used
}

#[test]
fn rooms_use_only_what_the_table_allows() {
    let rooms = room_table();
    let mut wrong = Vec::new();
    for path in sources() {
        let name = relative(&path);
        if name.starts_with("tests/")
            || name.ends_with("/tests.rs")
            || name.contains("/tests/")
            || name.contains("/examples/")
        {
            continue;
        }
        let Some(room) = room_of(&name, &rooms) else {
            wrong.push(format!("{name} is in no room of the table"));
            continue;
        };
        let allowed = &rooms[room];
        for (number, line) in without_tests(&read(&path)).lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for used in used_rooms(&name, line) {
                let known = rooms.contains_key(&used);
                if known && used != room && !allowed.contains(&used) && !allowed.contains("all") {
                    wrong.push(format!("{name}:{} uses {used}, which {room} may not", number + 1));
                }
            }
        }
    }
    assert_none(&wrong, "one-way rooms (the table in docs/ARCHITECTURE.md)");
}

#[test]
fn decisions_do_no_input_or_output() {
    let banned = [
        "std::fs",
        "std::net",
        "tokio::",
        "kube::Client",
        "kube::Api",
        "tracing::",
        "rand::",
        "clock::now",
        "std::process",
    ];
    let mut wrong = Vec::new();
    for path in sources() {
        let name = relative(&path);
        if !name.starts_with("manager/src/lifecycle") || name.ends_with("/tests.rs") || name.contains("/tests/") {
            continue;
        }
        for (number, line) in without_tests(&read(&path)).lines().enumerate() {
            if !line.trim_start().starts_with("//") {
                wrong.extend(
                    banned.iter().filter(|b| line.contains(**b)).map(|b| format!("{name}:{} uses {b}", number + 1)),
                );
            }
        }
    }
    assert_none(&wrong, "lifecycle/ is pure");
}

#[test]
fn every_reason_is_documented() {
    let mut page = String::from(
        "# Reasons\n\nEvery reason that a condition, an Event, a metric or `status.lastError` can carry, what it means, and what to check\nfirst. Made from `protocol/src/reason.rs`; a test holds the two together.\n",
    );
    for reason in Reason::ALL {
        page.push_str(&format!("\n## {reason}\n\n{}\n\n**Check first:** {}\n", reason.meaning(), reason.check_first()));
    }
    let file = root().join("docs/reasons.md");
    if std::env::var_os("LATTICE_UPDATE_DOCS").is_some() {
        fs::write(&file, &page).unwrap();
    }
    assert!(read(&file) == page, "docs/reasons.md is out of date: run with LATTICE_UPDATE_DOCS=1 to write it");
}

#[test]
fn documents_name_no_place_of_their_making() {
    let banned = ["/work/", "/root/", "crates.io/api", "index.crates.io", "127.0.0.1:3128"];
    let mut wrong = Vec::new();
    for ending in [".rs", ".md", ".toml", ".yaml", ".j2", ".sh", ".proto"] {
        for path in files(&root(), ending) {
            let name = relative(&path);
            if name == "tests/tests/tidy.rs" {
                continue;
            }
            for (number, line) in read(&path).lines().enumerate() {
                wrong.extend(
                    banned.iter().filter(|b| line.contains(**b)).map(|b| format!("{name}:{} has {b}", number + 1)),
                );
            }
        }
    }
    assert_none(&wrong, "nothing depends on one machine");
}
