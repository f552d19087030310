use serde_json::json;

use super::*;

fn open(folder: &Path) -> Store {
    let store = Store::open(Some(folder), History::default()).unwrap();
    store.add_kind(&Arc::from("configmaps"));
    store
}

fn write(store: &Store, name: &str, size: usize, turn: usize) {
    let value = json!({"metadata": {"name": name}, "data": {"turn": turn.to_string(), "filling": "x".repeat(size)}});
    match store.get("configmaps", &Key::new("default", name)) {
        Some(seen) => store.replace("configmaps", &seen, value).unwrap(),
        None => store.create("configmaps", Key::new("default", name), value).unwrap(),
    };
}

/// A server that ran for months had a log of all that it ever wrote.
#[test]
fn the_log_stays_near_the_size_of_what_is_live() {
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path());
    for turn in 0..400 {
        write(&store, "busy", 100_000, turn);
    }
    write(&store, "last", 1, 400);
    let size = std::fs::metadata(place.path().join("objects.log")).unwrap().len();
    assert!(size < 10 << 20, "40 MB were written, 100 kB are live, the log has {size} bytes");
    let revision = store.revision();
    drop(store);
    let again = open(place.path());
    assert_eq!(again.revision(), revision);
    let turn =
        |name: &str| again.get("configmaps", &Key::new("default", name)).unwrap().value()["data"]["turn"].clone();
    assert_eq!((turn("busy"), turn("last")), (json!("399"), json!("400")));
}

/// A process that is killed in the middle of a line leaves half of it.
#[test]
fn half_a_last_line_costs_only_that_line() {
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path());
    write(&store, "whole", 1, 0);
    drop(store);
    let path = place.path().join("objects.log");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("{\"r\":9,\"k\":\"configmaps\",\"n\":\"defa");
    std::fs::write(&path, text).unwrap();
    let again = open(place.path());
    assert!(again.get("configmaps", &Key::new("default", "whole")).is_some());
    write(&again, "next", 1, 1);
    drop(again);
    assert!(open(place.path()).get("configmaps", &Key::new("default", "next")).is_some());
}
