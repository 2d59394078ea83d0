use local_ecr::{Encryption, LocalEcr, UploadStatus};

use crate::client::{Client, sha256};

#[test]
fn a_session_tells_how_far_it_is_or_doesnt() {
    for (how, status) in [(UploadStatus::NotFound, 404), (UploadStatus::Progress, 204)] {
        let ecr = LocalEcr::builder().repository("app").upload_status(how).start().expect("starts");
        let client = Client::new(&ecr);
        let session = client.open("app");
        assert_eq!(client.send("PATCH", &session, &[], b"12345").status, 201);
        let got = client.get(&session);
        assert_eq!(got.status, status);
        if status == 204 {
            assert_eq!((got.header("range"), got.location()), (Some("0-4"), session.clone()));
            assert_eq!(client.get("/v2/app/blobs/uploads/none").status, 404);
        }
        assert_eq!(client.send("DELETE", &session, &[], b"").status, 204);
    }
}

#[test]
fn a_blob_goes_up_in_one_request_or_doesnt() {
    for (taken, status) in [(false, 202), (true, 201)] {
        let ecr = LocalEcr::builder().repository("app").single_post(taken).start().expect("starts");
        let client = Client::new(&ecr);
        let digest = sha256(b"layer");
        let path = format!("/v2/app/blobs/uploads/?digest={digest}");
        let got = client.send("POST", &path, &[], b"layer");
        assert_eq!(got.status, status, "{}", got.text());
        assert_eq!(ecr.has_blob("app", &digest), taken);
        if taken {
            let wrong = format!("/v2/app/blobs/uploads/?digest={}", sha256(b"other"));
            client.send("POST", &wrong, &[], b"layer").refuses(400, "BLOB_UPLOAD_INVALID", "calculated layer digest");
            assert_eq!(ecr.open_sessions(), 0);
        } else {
            assert_eq!(client.send("DELETE", &got.location(), &[], b"").status, 204);
        }
    }
}

#[test]
fn referrers_may_need_a_right_of_their_own() {
    let path = format!("/v2/app/referrers/{}", sha256(b"x"));
    for (own, allowed, status) in [(false, false, 200), (true, false, 403), (true, true, 200)] {
        let mut builder = LocalEcr::builder().repository("app").referrers_own_right(own);
        if allowed {
            builder = builder.allow("ecr:ListImageReferrers");
        }
        let ecr = builder.start().expect("starts");
        assert_eq!(Client::new(&ecr).get(&path).status, status);
    }
}

#[test]
fn a_mount_needs_the_right_and_the_same_encryption() {
    let config = |digest: &str| {
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/json","digest":"{digest}","size":2}},"layers":[]}}"#
        )
    };
    let key = || Encryption::Kms { key: "arn:aws:kms:ap-northeast-2:123456789012:key/1".into() };
    for (right, denied, source, target, status) in [
        (true, false, Encryption::Aes256, Encryption::Aes256, 201),
        (true, true, key(), key(), 201),
        (true, true, key(), Encryption::Aes256, 202),
        // Refused, silently or not, and no violation.
        (false, false, Encryption::Aes256, Encryption::Aes256, 202),
        (false, true, Encryption::Aes256, Encryption::Aes256, 403),
    ] {
        let mut builder = LocalEcr::builder().repository("base").repository("app").blob_mounting(true);
        builder = builder.mount_denied(denied);
        builder = builder.encryption("base", source).encryption("app", target);
        if right {
            builder = builder.allow_pull();
        }
        let ecr = builder.start().expect("starts");
        let digest = ecr.seed_blob("base", b"{}");
        ecr.seed_manifest("base", "application/vnd.oci.image.manifest.v1+json", config(&digest).as_bytes(), None);
        let client = Client::new(&ecr);
        let got = client.send("POST", &format!("/v2/app/blobs/uploads/?mount={digest}&from=base"), &[], b"");
        assert_eq!(got.status, status, "{}", got.text());
        if status == 202 {
            assert_eq!(client.send("DELETE", &got.location(), &[], b"").status, 204);
        }
        assert_eq!(ecr.check(), Ok(()));
    }
}

#[test]
fn a_name_has_its_form() {
    let ecr = LocalEcr::builder().start().expect("starts");
    let client = Client::new(&ecr);
    for name in ["App", "a", "-app", "team//app"] {
        client.get(&format!("/v2/{name}/manifests/v1")).refuses(400, "NAME_INVALID", "'repositoryName'");
    }
}
