//! A registry that is far away, over TLS: nothing comes out otherwise than on the loopback.

use std::time::{Duration, Instant};

use local_ecr::{Fault, FaultKind, Link, TlsVersion};

use crate::support::layout::digest;
use crate::support::{Layout, Push, assert_arrived, builder, reference, requests, start};

const RTT: Duration = Duration::from_millis(20);

#[test]
fn an_image_arrives_over_either_version_of_tls_and_of_http() {
    let link = Link { rtt: RTT, connection_rate: Some(20_000_000), total_rate: Some(50_000_000) };
    for (versions, http2) in [(TlsVersion::V1_2, false), (TlsVersion::V1_3, false), (TlsVersion::V1_3, true)] {
        let ecr = start(builder().tls(true).tls_versions(&[versions]).http2(http2).link(link));
        let layout = Layout::of_layers(&[1_000_000, 300_000, 20]);
        let push = Push::of(layout.path()).at(&ecr).to("app:v1");
        let begun = Instant::now();
        push.run().exits(0).prints(&[&reference(&ecr, "app", &layout.root())]);
        // The API, the survey, a session, a blob, the manifest, the tag's check: each is a round trip at least.
        assert!(begun.elapsed() >= RTT * 6, "{:?}", begun.elapsed());
        assert_arrived(&ecr, "app", &layout, &layout.root());
        push.run().exits(0);
        assert_eq!(requests(&ecr, "PUT", "/manifests/").len(), 1);
    }
}

#[test]
fn an_authority_that_is_not_trusted_gets_no_request() {
    let (ecr, layout) = (start(builder().tls(true)), Layout::fixture("good/one-manifest"));
    let push = Push::of(layout.path()).at(&ecr).to("app:v1").without("AWS_CA_BUNDLE");
    push.run().says_one_error().prints(&[]);
    assert_eq!(ecr.journal(), []);
}

#[test]
fn a_reply_that_comes_in_drops_is_waited_for() {
    let drops = || FaultKind::SlowReply { bytes: 50, every: Duration::from_millis(1) };
    let ecr = start(builder().fault(Fault::api().does(drops())).fault(Fault::at(1).times(u64::MAX).does(drops())));
    let layout = Layout::fixture("good/index");
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    assert_arrived(&ecr, "app", &layout, &layout.root());
}

#[test]
fn a_status_in_the_middle_of_a_layer_is_answered_with_another_attempt() {
    let layout = Layout::empty();
    let layer = layout.layer(3_000_000);
    layout.list(&layout.image(std::slice::from_ref(&layer)), None);
    let hex = digest(&layer).trim_start_matches("sha256:");
    let ecr = start(builder().fault(Fault::on("PUT", hex).does(FaultKind::StatusAfter(400_000, 503))));
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0).says(["trying again"]);
    assert_arrived(&ecr, "app", &layout, &layout.root());
}
