//! Connections and their number, and ECR's quotas: how much goes on at once.

use std::time::{Duration, Instant};

use local_ecr::{Answer, Connection, Entry, Fault, FaultKind, LocalEcr, Side};

use crate::support::{Layout, Push, assert_arrived, builder, reference, requests, start};

/// Connections to the registry.
fn connections(ecr: &LocalEcr) -> Vec<Connection> {
    ecr.connections().into_iter().filter(|connection| connection.side == Side::Registry).collect()
}

/// Requests that were refused for want of patience.
fn throttled(ecr: &LocalEcr) -> Vec<String> {
    let all = ecr.journal().into_iter().filter(|entry| entry.answer == Answer::Status(429));
    all.map(|entry| entry.to_string()).collect()
}

/// Most requests of these that began within a second.
fn most_in_a_second(entries: &[Entry]) -> usize {
    let within = |first: &Entry| {
        entries.iter().filter(|entry| entry.at >= first.at && entry.at < first.at + Duration::from_secs(1)).count()
    };
    entries.iter().map(within).max().unwrap_or_default()
}

#[test]
fn connections_are_opened_while_the_token_is_on_its_way() {
    let ecr = start(builder().tls(true).fault(Fault::api().does(FaultKind::Stall)));
    let layout = Layout::of_layers(&[100_000; 4]);
    let running = Push::of(layout.path()).at(&ecr).to("app:v1").start();
    let bound = Instant::now() + Duration::from_secs(20);
    // One for each blob, the config among them.
    while connections(&ecr).len() < 5 {
        assert!(Instant::now() < bound, "{:?}", ecr.connections());
        std::thread::yield_now();
    }
    assert_eq!(ecr.registry_requests(), [], "nothing can be asked without a token");
    running.signal("TERM");
    running.wait().exits(143);
}

#[test]
fn what_is_opened_ahead_is_used_and_kept() {
    let ecr = start(builder().tls(true));
    let layout = Layout::of_layers(&[100_000; 40]);
    Push::of(layout.path()).at(&ecr).to("app:v1").args(["--jobs", "4"]).run().exits(0);
    // Four uploads have four connections, and whatever else is asked has these.
    let (connections, requests) = (connections(&ecr).len(), ecr.registry_requests().len());
    assert!(requests > 80, "{requests}");
    assert!(connections <= 8 + 16, "{connections} connections for {requests} requests");
}

#[test]
fn later_connections_resume_the_tls_session_of_earlier_ones() {
    let ecr = start(builder().tls(true));
    let layout = Layout::of_layers(&[2_000_000; 24]);
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    let connections = connections(&ecr);
    assert!(connections.iter().any(|connection| connection.resumed), "{connections:?}");
}

#[test]
fn manifests_and_tags_keep_to_what_ecr_takes_in_a_second() {
    let ecr = start(builder().quotas());
    let layout = Layout::empty();
    let children: Vec<_> = (0..12).map(|at| layout.image(&[layout.layer(1000 + at)])).collect();
    layout.list(&layout.index_of(&children), None);
    let tags: Vec<String> = (0..12).map(|at| format!("v{at}")).collect();
    let push = tags.iter().fold(Push::of(layout.path()).at(&ecr).to("app"), |push, tag| push.args(["--tag", tag]));
    push.run().exits(0).prints(&[&reference(&ecr, "app", &layout.root())]);
    assert_eq!(throttled(&ecr), Vec::<String>::new());
    let puts = requests(&ecr, "PUT", "/manifests/");
    assert_eq!(puts.len(), 24);
    assert!(most_in_a_second(&puts) <= 10, "{puts:#?}");
    assert_arrived(&ecr, "app", &layout, &layout.root());
}

#[test]
fn destinations_on_one_host_share_its_quota() {
    let ecr = start(builder().repository("other").quotas());
    let layout = Layout::empty();
    let children: Vec<_> = (0..7).map(|at| layout.image(&[layout.layer(1000 + at)])).collect();
    layout.list(&layout.index_of(&children), None);
    Push::of(layout.path()).at(&ecr).to("app:v1").to("other:v1").run().exits(0);
    assert_eq!(throttled(&ecr), Vec::<String>::new());
    assert!(most_in_a_second(&requests(&ecr, "PUT", "/manifests/")) <= 10);
}

#[test]
fn many_small_layers_keep_to_the_quota_of_sessions() {
    let ecr = start(builder().quotas().layer_limit(1000));
    let layout = Layout::of_layers(&(0..220).map(|at| 100 + at).collect::<Vec<_>>());
    Push::of(layout.path()).at(&ecr).to("app:v1").run().exits(0);
    assert_eq!(throttled(&ecr), Vec::<String>::new());
    assert_arrived(&ecr, "app", &layout, &layout.root());
}

#[test]
fn a_registry_that_has_enough_gets_less_at_once() {
    // Far below what is expected of ECR, so that it is the answers that are heeded.
    let ecr = start(builder().rate("ecr:InitiateLayerUpload", 4, 12.0));
    let layout = Layout::of_layers(&(0..40).map(|at| 100 + at).collect::<Vec<_>>());
    Push::of(layout.path()).at(&ecr).to("app:v1").args(["--retries", "20"]).run().exits(0);
    assert_arrived(&ecr, "app", &layout, &layout.root());
    let refused = throttled(&ecr).len();
    assert!((1..90).contains(&refused), "{refused} requests were refused");
}
