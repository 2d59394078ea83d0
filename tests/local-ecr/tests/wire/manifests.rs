use local_ecr::{LayerLag, LocalEcr, TagMutability, ViolationKind};

use crate::client::{Client, sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn descriptor(media_type: &str, digest: &str, size: usize) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
}

fn image(config: &str, layer: &str, more: &str) -> String {
    let config = descriptor("application/vnd.oci.image.config.v1+json", config, 2);
    let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip", layer, 5);
    format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{layer}]{more}}}"#)
}

/// A server with a repository that has an image's blobs, and the image.
fn with_blobs(builder: local_ecr::Builder) -> (LocalEcr, String) {
    let ecr = builder.repository("app").start().expect("starts");
    let image = image(&ecr.seed_blob("app", b"{}"), &ecr.seed_blob("app", b"layer"), "");
    (ecr, image)
}

#[test]
fn a_manifest_is_answered_without_location_and_read_without_digest() {
    let (ecr, image) = with_blobs(LocalEcr::builder());
    let client = Client::new(&ecr);
    let digest = sha256(image.as_bytes());
    client.get("/v2/app/manifests/v1").refuses(404, "MANIFEST_UNKNOWN", "Requested image not found");
    let got = client.put_manifest("app", "v1", MANIFEST, image.as_bytes());
    assert_eq!((got.status, got.header("location")), (201, None));
    assert_eq!(got.header("docker-content-digest"), Some(digest.as_str()));

    let got = client.get("/v2/app/manifests/v1");
    assert_eq!((got.status, got.header("docker-content-digest")), (200, None));
    assert_eq!((got.header("content-type"), got.text()), (Some(MANIFEST), image.clone()));
    let got = client.head(&format!("/v2/app/manifests/{digest}"));
    assert_eq!((got.status, got.header("docker-content-digest")), (200, Some(digest.as_str())));
    assert_eq!((got.header("content-length"), got.body.len()), (Some(image.len().to_string().as_str()), 0));
    assert_eq!(ecr.tag("app", "v1"), Some(digest));
    assert_eq!(ecr.registry_requests()[0].to_string(), "GET /v2/app/manifests/v1 404");
}

#[test]
fn parsing_is_strict() {
    let (ecr, image) = with_blobs(LocalEcr::builder());
    let client = Client::new(&ecr);
    let syntax = "Invalid parameter at 'ImageManifest' failed to satisfy constraint: 'Invalid JSON syntax'";
    let put = |media_type: &str, body: &str| client.put_manifest("app", "v1", media_type, body.as_bytes());
    put(MANIFEST, &image.replacen('{', r#"{"history":[],"#, 1)).refuses(405, "UNSUPPORTED", syntax);
    put("application/vnd.oci.artifact.manifest.v1+json", &image).refuses(405, "UNSUPPORTED", syntax);
    client.send("PUT", "/v2/app/manifests/v1", &[], image.as_bytes()).refuses(405, "UNSUPPORTED", syntax);
    put(MANIFEST, &image.replace(MANIFEST, INDEX)).refuses(400, "MANIFEST_INVALID", "media type");
    put(MANIFEST, &" ".repeat(4 * 1024 * 1024 + 1)).refuses(405, "UNSUPPORTED", "4194304");
    client.put_manifest("app", &sha256(b"other"), MANIFEST, image.as_bytes()).refuses(400, "DIGEST_INVALID", "");
}

#[test]
fn children_and_layers_must_be_there() {
    let (ecr, whole) = with_blobs(LocalEcr::builder());
    let client = Client::new(&ecr);
    let absent = sha256(b"absent");
    client.put_manifest("app", "v1", MANIFEST, image(&sha256(b"{}"), &absent, "").as_bytes()).refuses(
        404,
        "BLOB_UPLOAD_UNKNOWN",
        &format!("Layers with digests '[{absent}]' required for pushing image into repository with name 'app' in the registry with id '123456789012' do not exist"),
    );
    let child = sha256(whole.as_bytes());
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, descriptor(MANIFEST, &child, whole.len()));
    client.put_manifest("app", "v1", INDEX, index.as_bytes()).refuses(
        400,
        "MANIFEST_BLOB_UNKNOWN",
        &format!("Images with digests '[{child}]' required"),
    );
    assert_eq!(client.put_manifest("app", &child, MANIFEST, whole.as_bytes()).status, 201);
    assert_eq!(client.put_manifest("app", "v1", INDEX, index.as_bytes()).status, 201);
    let foreign = whole
        .replace("oci.image.layer.v1.tar", "oci.image.layer.nondistributable.v1.tar")
        .replace(&sha256(b"layer"), &absent);
    assert_eq!(client.put_manifest("app", "v2", MANIFEST, foreign.as_bytes()).status, 201);
}

#[test]
fn layers_may_lag_behind() {
    let ecr = LocalEcr::builder().repository("app").layer_lag(LayerLag::Refusals(2)).start().expect("starts");
    let client = Client::new(&ecr);
    let image = image(&client.upload("app", b"{}"), &client.upload("app", b"layer"), "");
    for status in [404, 404, 201, 201] {
        assert_eq!(client.put_manifest("app", "v1", MANIFEST, image.as_bytes()).status, status);
    }
}

#[test]
fn an_immutable_tag_stays() {
    for (mutability, status) in [
        (TagMutability::Mutable, 201),
        (TagMutability::Immutable, 400),
        (TagMutability::MutableWithExclusion(vec!["v*".into()]), 400),
        (TagMutability::ImmutableWithExclusion(vec!["v*".into()]), 201),
    ] {
        let (ecr, image) = with_blobs(LocalEcr::builder().immutability("app", mutability.clone()));
        let client = Client::new(&ecr);
        for _ in 0..2 {
            assert_eq!(client.put_manifest("app", "v1", MANIFEST, image.as_bytes()).status, 201);
        }
        let got = client.put_manifest("app", "v1", MANIFEST, format!("{image} ").as_bytes());
        assert_eq!(got.status, status, "{mutability:?}");
        if status == 400 {
            got.refuses(400, "TAG_INVALID", "The image tag 'v1' already exists in the 'app' repository and cannot be overwritten because the tag is immutable.");
        }
    }
    let builder = LocalEcr::builder().immutability("app", TagMutability::Immutable).same_digest_refused(true);
    let (ecr, image) = with_blobs(builder);
    let client = Client::new(&ecr);
    assert_eq!(client.put_manifest("app", "v1", MANIFEST, image.as_bytes()).status, 201);
    assert_eq!(client.put_manifest("app", "v1", MANIFEST, image.as_bytes()).status, 400);
}

#[test]
fn referrers_are_an_index() {
    for there in [true, false] {
        let (ecr, image) = with_blobs(LocalEcr::builder().referrers_api(there).oci_subject_header(true));
        let client = Client::new(&ecr);
        let subject = sha256(image.as_bytes());
        assert_eq!(client.put_manifest("app", "v1", MANIFEST, image.as_bytes()).status, 201);
        let more = format!(
            r#"{{"artifactType":"text/sbom","annotations":{{"a":"b"}},"subject":{},"#,
            descriptor(MANIFEST, &subject, image.len())
        );
        let referrer = image.replacen('{', &more, 1);
        let digest = sha256(referrer.as_bytes());
        let got = client.put_manifest("app", &digest, MANIFEST, referrer.as_bytes());
        assert_eq!((got.status, got.header("oci-subject")), (201, there.then_some(subject.as_str())));
        let got = client.get(&format!("/v2/app/referrers/{subject}"));
        assert_eq!(got.status, if there { 200 } else { 404 });
        if there {
            assert_eq!(got.header("content-type"), Some(INDEX));
            let index: serde_json::Value = serde_json::from_slice(&got.body).expect("JSON");
            let found = &index["manifests"][0];
            assert_eq!((&found["digest"], &found["artifactType"]), (&digest.into(), &"text/sbom".into()));
            assert_eq!((&found["size"], &found["annotations"]["a"]), (&referrer.len().into(), &"b".into()));
        }
    }
}

#[test]
fn a_tag_on_an_incomplete_image_is_a_violation() {
    let ecr = LocalEcr::builder().repository("app").start().expect("starts");
    let image = image(&sha256(b"{}"), &sha256(b"layer"), "");
    ecr.seed_manifest("app", MANIFEST, image.as_bytes(), Some("v1"));
    let found = ecr.check().expect_err("nothing of it is there");
    assert_eq!(found[0].kind(), ViolationKind::IncompleteTag);
    ecr.expect_violation(ViolationKind::IncompleteTag);
}
