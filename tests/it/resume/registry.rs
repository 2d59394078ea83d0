//! docker-registry behind a line that breaks: it keeps no session that was cut.

use super::MIB;
use crate::support::servers::{Cutter, DockerRegistry, Guard, Tool, left_out};
use crate::support::{Layout, Push};

#[test]
fn a_registry_that_throws_cut_sessions_away_gets_a_new_one_for_each_cut() {
    if left_out(&[Tool::DockerRegistry]) {
        return;
    }
    for cuts in [1, 3] {
        let registry = DockerRegistry::start(Guard::Open);
        let cutter = Cutter::start(registry.address(), 18 * MIB, cuts);
        let (layout, _) = Layout::of_mebibytes(20);
        let push = Push::of(layout.path()).to_reference(format!("{}/app:v1", cutter.address()));
        push.run().exits(0).says(["trying again"]);
        assert_eq!(cutter.cuts(), cuts);
        assert_eq!(registry.tags("app"), ["v1"]);
        // One is the config's, one the layer's first.
        let opened = registry.requests().iter().filter(|request| request.method == "POST").count();
        assert!(opened <= 2 + cuts, "{opened} sessions for {cuts} cuts");
    }
}
