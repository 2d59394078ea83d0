use local_ecr::{LocalEcr, MissingPermission, MissingRepository, ViolationKind};

use crate::client::{Client, sha256};

const MIB: usize = 1024 * 1024;

fn server() -> LocalEcr {
    LocalEcr::builder().repository("app").allow_pull().start().expect("starts")
}

#[test]
fn a_blob_goes_up_in_two_requests_and_comes_back() {
    let ecr = server();
    let client = Client::new(&ecr);
    let got = client.send("POST", "/v2/app/blobs/uploads/", &[], b"");
    assert_eq!(got.status, 202);
    assert_eq!(got.header("oci-chunk-min-length"), Some("10485760"));
    assert_eq!(got.header("docker-upload-uuid"), None);
    assert_eq!(got.header("docker-distribution-api-version"), Some("registry/2.0"));
    assert!(got.header("location").is_some_and(|place| place.starts_with(&ecr.registry_url())));

    let bytes = vec![7; MIB];
    let digest = sha256(&bytes);
    let got = client.send("PUT", &format!("{}?digest={digest}", got.location()), &[], &bytes);
    assert_eq!(got.status, 201, "{}", got.text());
    assert!(ecr.has_blob("app", &digest));
    assert_eq!(ecr.open_sessions(), 0);

    let path = format!("/v2/app/blobs/{digest}");
    let got = client.head(&path);
    assert_eq!((got.status, got.header("content-length"), got.body.len()), (200, Some("1048576"), 0));
    assert_eq!(got.header("docker-content-digest"), Some(digest.as_str()));
    assert_eq!(client.get(&path).body, bytes);
    assert_eq!(client.head(&format!("/v2/app/blobs/{}", sha256(b"other"))).status, 404);
    let entry = &ecr.registry_requests()[1];
    assert_eq!(
        (entry.bytes, entry.actions.as_slice()),
        (1_048_576, &["ecr:UploadLayerPart", "ecr:CompleteLayerUpload"][..])
    );
}

#[test]
fn parts_are_answered_201_with_a_range_that_stays() {
    let ecr = server();
    let client = Client::new(&ecr);
    let part = vec![1; 6 * MIB];
    let session = client.open("app");
    for (range, expected) in [("0-6291455", "0-6291455"), ("6291456-12582911", "0-6291455")] {
        let got = client.send("PATCH", &session, &[("Content-Range", range)], &part);
        assert_eq!((got.status, got.header("range")), (201, Some(expected)));
    }
    client.send("PATCH", &session, &[("Content-Range", "0-6291455")], &part).refuses(
        416,
        "BLOB_UPLOAD_INVALID",
        "First byte of the layer part is 0 instead of 12582912",
    );
    // A whole body that is sent once more counts as beginning at 0.
    client.send("PATCH", &session, &[], &part).refuses(416, "BLOB_UPLOAD_INVALID", "is 0 instead of 12582912");
    assert_eq!(client.get(&session).status, 404);
    let digest = sha256(&[part.clone(), part].concat());
    assert_eq!(client.send("PUT", &format!("{session}?digest={digest}"), &[], b"").status, 201);
}

#[test]
fn a_short_part_fails_at_the_end() {
    let ecr = server();
    let client = Client::new(&ecr);
    let session = client.open("app");
    assert_eq!(client.send("PATCH", &session, &[], b"short").status, 201);
    assert_eq!(client.send("PATCH", &session, &[("Content-Range", "5-8")], b"tail").status, 201);
    let finish = format!("{session}?digest={}", sha256(b"shorttail"));
    client.send("PUT", &finish, &[], b"").refuses(400, "BLOB_UPLOAD_INVALID", "at least 5MB");
    assert_eq!(client.send("DELETE", &session, &[], b"").status, 204);
}

#[test]
fn what_came_before_a_cut_stays() {
    let ecr = LocalEcr::builder().repository("app").short_after_cut(true).start().expect("starts");
    let client = Client::new(&ecr);
    let session = client.open("app");
    client.hang_up("PATCH", &session, &[2; 1000]);
    client.send("PATCH", &session, &[], &[2; 1500]).refuses(416, "BLOB_UPLOAD_INVALID", "is 0 instead of 1000");
    let finish = format!("{session}?digest={}", sha256(&[2; 1500]));
    assert_eq!(client.send("PUT", &finish, &[("Content-Range", "1000-1499")], &[2; 500]).status, 201);
}

#[test]
fn what_a_cut_left_behind_may_be_too_short_for_a_part() {
    for (length, status) in [(1000, 400), (6 * MIB, 201)] {
        let ecr = LocalEcr::builder().repository("app").short_after_cut(false).start().expect("starts");
        let client = Client::new(&ecr);
        let session = client.open("app");
        client.hang_up("PATCH", &session, &vec![2; length]);
        client.send("PATCH", &session, &[], &[2; 1500]).refuses(
            416,
            "BLOB_UPLOAD_INVALID",
            &format!("is 0 instead of {length}"),
        );
        let finish = format!("{session}?digest={}", sha256(&vec![2; length + 500]));
        let range = format!("{length}-{}", length + 499);
        let got = client.send("PUT", &finish, &[("Content-Range", &range)], &[2; 500]);
        assert_eq!(got.status, status, "{}", got.text());
        if status == 400 {
            assert_eq!(client.send("DELETE", &session, &[], b"").status, 204);
        }
    }
}

#[test]
fn empty_and_wrong_blobs_are_refused() {
    let ecr = server();
    let client = Client::new(&ecr);
    let session = client.open("app");
    client.send("PUT", &format!("{session}?digest={}", sha256(b"")), &[], b"").refuses(
        400,
        "BLOB_UPLOAD_INVALID",
        "cannot be completed because it does not have any parts",
    );
    client.send("PUT", &format!("{session}?digest={}", sha256(b"a")), &[], b"b").refuses(
        400,
        "BLOB_UPLOAD_INVALID",
        "None of the provided layer digests match the calculated layer digest",
    );
    // That ended the session.
    assert_eq!(client.send("DELETE", &session, &[], b"").status, 404);
}

#[test]
fn sha512_is_a_switch() {
    for (taken, status) in [(false, 400), (true, 201)] {
        let ecr = LocalEcr::builder().repository("app").sha512(taken).start().expect("starts");
        let client = Client::new(&ecr);
        let got = client.send("PUT", &format!("{}?digest=sha512:{}", client.open("app"), sha512_of_a()), &[], b"a");
        assert_eq!(got.status, status, "{}", got.text());
    }
}

/// From `printf a | sha512sum`.
fn sha512_of_a() -> &'static str {
    "1f40fc92da241694750979ee6cf582f2d5d7d28e18335de05abc54d0560e0f5302860c652bf08d560252aa5e74210546f369fbbbce8c12cfc7957b2652fe9a75"
}

#[test]
fn a_missing_repository_has_three_answers() {
    for (how, status) in [
        (MissingRepository::NotFound, 404),
        (MissingRepository::CloseConnection, 0),
        (MissingRepository::CreateOnPush, 202),
    ] {
        let ecr = LocalEcr::builder().missing_repository(how).start().expect("starts");
        let client = Client::new(&ecr);
        let got = client.send("POST", "/v2/team/app/blobs/uploads/", &[], b"");
        assert_eq!(got.status, status, "{how:?}");
        match how {
            MissingRepository::CreateOnPush => {
                assert_eq!(client.send("DELETE", &got.location(), &[], b"").status, 204);
            }
            _ => client.get("/v2/team/app/manifests/v1").refuses(
                404,
                "NAME_UNKNOWN",
                "The repository with name 'team/app' does not exist in the registry with id '123456789012'",
            ),
        }
    }
}

#[test]
fn a_missing_permission_is_a_sentence_or_a_closed_connection() {
    let builder = || LocalEcr::builder().repository("app").deny("ecr:InitiateLayerUpload");
    let ecr = builder().start().expect("starts");
    Client::new(&ecr).send("POST", "/v2/app/blobs/uploads/", &[], b"").refuses(
        403,
        "DENIED",
        "User: arn:aws:iam::123456789012:user/local-ecr is not authorized to perform: ecr:InitiateLayerUpload on resource: arn:aws:ecr:ap-northeast-2:123456789012:repository/app because no identity-based policy allows the ecr:InitiateLayerUpload action",
    );
    let ecr = builder().missing_permission(MissingPermission::CloseConnection).start().expect("starts");
    assert_eq!(Client::new(&ecr).send("POST", "/v2/app/blobs/uploads/", &[], b"").status, 0);
}

#[test]
fn a_mount_needs_setting_right_and_manifest() {
    let image = |config: &str| {
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{config}","size":2}},"layers":[]}}"#
        )
    };
    let ecr = LocalEcr::builder().repository("app").repository("base").blob_mounting(true).allow_pull();
    let ecr = ecr.start().expect("starts");
    let client = Client::new(&ecr);
    let digest = ecr.seed_blob("base", b"{}");
    let mount = format!("/v2/app/blobs/uploads/?mount={digest}&from=base");
    let got = client.send("POST", &mount, &[], b"");
    assert_eq!(got.status, 202, "no manifest names it yet");
    client.send("DELETE", &got.location(), &[], b"");
    ecr.seed_manifest("base", "application/vnd.oci.image.manifest.v1+json", image(&digest).as_bytes(), None);
    assert_eq!(client.send("POST", &mount, &[], b"").status, 201);
    assert!(ecr.has_blob("app", &digest));
}

#[test]
fn an_open_session_is_a_violation_unless_nobody_knows_of_it() {
    use local_ecr::{Fault, FaultKind};
    let fault = Fault::on("POST", "/uploads/").does(FaultKind::CutReply);
    let ecr = LocalEcr::builder().repository("app").fault(fault).start().expect("starts");
    let client = Client::new(&ecr);
    assert_eq!(client.send("POST", "/v2/app/blobs/uploads/", &[], b"").status, 0);
    assert_eq!(ecr.open_sessions(), 1);
    assert_eq!(ecr.check(), Ok(()));
    client.open("app");
    let found = ecr.check().expect_err("one is known");
    assert_eq!(found.iter().map(local_ecr::Violation::kind).collect::<Vec<_>>(), [ViolationKind::OpenSession]);
    ecr.allow_open_sessions();
}

#[test]
#[should_panic(expected = "invariants are broken")]
fn the_drop_speaks_up() {
    let ecr = server();
    Client::new(&ecr).open("app");
}
