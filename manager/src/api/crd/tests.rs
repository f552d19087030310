//! What the generated definitions promise.
use super::*;

#[test]
fn prints() {
    println!("{}", crds_yaml());
}
