//! EC2's instance metadata service.

use std::time::{Duration, Instant};

use local_ecr::{Fault, FaultKind, Role, Source};

use super::{METADATA_OFF, ROLE, arrives, asked, asking, fails, put};
use crate::support::{builder, start};

/// Nothing listens there.
const CLOSED: &str = "http://127.0.0.1:9";

const ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";

/// Where silence is waited for, for so long and little more; a machine that does much else is allowed for.
const SILENCE: Duration = Duration::from_secs(6);

#[test]
fn the_role_of_the_instance_pushes() {
    let ecr = start(builder().instance_role("node"));
    let (layout, push) = asking(&ecr);
    let ran = arrives(&ecr, &layout, &push.without(METADATA_OFF), Some(Source::Instance));
    ran.says(["origin=\"instance metadata\""]);
    let folder = "GET /latest/meta-data/iam/security-credentials/";
    let wanted = ["PUT /latest/api/token 200".to_owned(), format!("{folder} 200"), format!("{folder}node 200")];
    assert_eq!(asked(&ecr), wanted);
}

#[test]
fn a_service_that_is_one_hop_too_far_away_is_explained_soon() {
    let ecr = start(builder().instance_role("node").metadata_out_of_reach());
    let (_layout, push) = asking(&ecr);
    let since = Instant::now();
    let ran = fails(&ecr, &push.without(METADATA_OFF), 4);
    ran.says(["no AWS credentials", "instance metadata: no answer", "hop limit is 2 or more"]);
    assert!(since.elapsed() < SILENCE, "it took {:?}", since.elapsed());
}

#[test]
fn a_service_that_a_profile_names_is_waited_for_no_longer() {
    let ecr = start(builder().role(Role::new(ROLE)).instance_role("node").metadata_out_of_reach());
    let (_layout, push) = asking(&ecr);
    put(&push, ".aws/config", &format!("[profile p]\nrole_arn = {ROLE}\ncredential_source = Ec2InstanceMetadata\n"));
    let since = Instant::now();
    let ran = fails(&ecr, &push.without(METADATA_OFF).args(["--profile=p"]), 4);
    ran.says(["hop limit is 2 or more"]);
    assert!(since.elapsed() < SILENCE, "it took {:?}", since.elapsed());
}

#[test]
fn where_there_is_no_service_that_is_known_at_once() {
    let ecr = start(builder());
    let (_layout, push) = asking(&ecr);
    let since = Instant::now();
    let ran = fails(&ecr, &push.without(METADATA_OFF).env(ENDPOINT, CLOSED), 4);
    ran.says(["no AWS credentials", "instance metadata: ", "refused", "AWS_ACCESS_KEY_ID"])
        .says_nothing_of(["hop limit"]);
    assert!(since.elapsed() < Duration::from_secs(3), "it took {:?}", since.elapsed());
}

#[test]
fn an_instance_without_a_role_is_said() {
    let ecr = start(builder());
    let (_layout, push) = asking(&ecr);
    fails(&ecr, &push.without(METADATA_OFF), 4).says(["no AWS credentials", "instance metadata: ", "404"]);
}

#[test]
fn a_service_that_is_switched_off_is_not_asked() {
    let ecr = start(builder().instance_role("node"));
    let (_layout, push) = asking(&ecr);
    fails(&ecr, &push, 4).says(["instance metadata: ", METADATA_OFF]);
    assert_eq!(ecr.identity_requests(), []);
}

#[test]
fn a_service_in_trouble_is_asked_again_and_named() {
    let trouble = |times| Fault::identity("/security-credentials/node").times(times).does(FaultKind::status(500));
    let ecr = start(builder().instance_role("node").fault(trouble(1)));
    let (layout, push) = asking(&ecr);
    arrives(&ecr, &layout, &push.without(METADATA_OFF), Some(Source::Instance));

    let ecr = start(builder().instance_role("node").fault(trouble(u64::MAX)));
    let (_layout, push) = asking(&ecr);
    let ran = fails(&ecr, &push.without(METADATA_OFF), 6);
    ran.says(["instance metadata", "500"]).says_nothing_of(["Headers", "errors"]);
}

#[test]
fn a_service_that_forbids_is_said() {
    let ecr = start(builder().fault(Fault::identity("/latest/api/token").does(FaultKind::status(403))));
    let (_layout, push) = asking(&ecr);
    fails(&ecr, &push.without(METADATA_OFF), 4).says(["instance metadata"]);
}
