//! The seven phases and the legal moves between them.

use crate::api::Phase;

/// Whether a cluster may go from one phase to another. `None` is an object that nobody has looked at.
///
/// Never back to an earlier phase for health; from anywhere to Deleting; nothing leaves Deleting.
pub fn is_legal(from: Option<Phase>, to: Phase) -> bool {
    use Phase::{Bootstrapping, Deleting, Pending, Provisioning, Ready, Scaling, Upgrading};
    match (from, to) {
        (None, Pending | Deleting)
        | (Some(Pending), Provisioning)
        | (Some(Provisioning), Bootstrapping)
        | (Some(Bootstrapping | Scaling | Upgrading), Ready)
        | (Some(Ready), Scaling | Upgrading)
        | (Some(Pending | Provisioning | Bootstrapping | Ready | Scaling | Upgrading), Deleting) => true,
        (
            None | Some(Pending | Provisioning | Bootstrapping | Ready | Scaling | Upgrading | Deleting),
            Pending | Provisioning | Bootstrapping | Ready | Scaling | Upgrading | Deleting,
        ) => false,
    }
}
