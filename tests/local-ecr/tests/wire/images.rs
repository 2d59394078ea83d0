use local_ecr::{ArchivedImage, Encryption, LocalEcr, TagMutability, TooManyTags};
use serde_json::{Value, json};

use crate::client::{Client, sha256};
use crate::signed::Api;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An index of nothing, another for each text.
fn index(text: &str) -> String {
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": { "text": text } }).to_string()
}

fn server(change: impl FnOnce(local_ecr::Builder) -> local_ecr::Builder) -> LocalEcr {
    let builder = LocalEcr::builder().repository("app").allow("ecr:DescribeImages").allow("ecr:ListImages");
    change(builder).start().expect("starts")
}

fn put(manifest: &str, tag: &str) -> Value {
    json!({ "repositoryName": "app", "imageManifest": manifest, "imageTag": tag })
}

#[test]
fn an_image_is_put_got_and_described() {
    let ecr = server(|builder| builder);
    let api = Api::new(&ecr);
    let (body, digest) = (index("a"), sha256(index("a").as_bytes()));
    let image = api.ask("PutImage", &put(&body, "v1"))["image"].clone();
    assert_eq!(image["imageId"], json!({ "imageDigest": digest, "imageTag": "v1" }));
    assert_eq!((&image["imageManifest"], &image["imageManifestMediaType"]), (&json!(body), &json!(INDEX)));
    assert_eq!(ecr.tag("app", "v1").as_deref(), Some(digest.as_str()));

    let untagged = ecr.seed_manifest("app", INDEX, index("b").as_bytes(), None);
    let got = api.ask(
        "BatchGetImage",
        &json!({ "repositoryName": "app", "imageIds": [
            { "imageTag": "v1" }, { "imageTag": "v2" }, { "imageDigest": "x" }, {},
            { "imageDigest": untagged, "imageTag": "v1" },
        ] }),
    );
    assert_eq!(got["images"], json!([image]));
    let codes: Vec<_> = got["failures"].as_array().expect("a list").iter().map(|f| &f["failureCode"]).collect();
    assert_eq!(codes, ["ImageNotFound", "InvalidImageDigest", "MissingDigestAndTag", "ImageTagDoesNotMatchDigest"]);

    let details = api.ask("DescribeImages", &json!({ "repositoryName": "app", "filter": { "tagStatus": "TAGGED" } }));
    let detail = &details["imageDetails"][0];
    assert_eq!((&detail["imageDigest"], &detail["imageTags"]), (&json!(digest), &json!(["v1"])));
    assert_eq!(details["imageDetails"].as_array().map(Vec::len), Some(1));
    assert!(detail["imagePushedAt"].is_u64());
    let listed = api.ask("ListImages", &json!({ "repositoryName": "app", "filter": { "tagStatus": "UNTAGGED" } }));
    assert_eq!(listed["imageIds"], json!([{ "imageDigest": untagged }]));
    let missing = json!({ "repositoryName": "app", "imageIds": [{ "imageTag": "v9" }] });
    api.refused("DescribeImages", &missing, "ImageNotFoundException", "imageTag:'v9'");
}

#[test]
fn an_image_is_refused_in_the_words_of_the_api() {
    let ecr = server(|builder| builder.immutability("app", TagMutability::Immutable).tag_limit(2));
    let api = Api::new(&ecr);
    let refused = |input: &Value, code: &str, message: &str| api.refused("PutImage", input, code, message);
    api.ask("PutImage", &put(&index("a"), "v1"));
    refused(&put(&index("a"), "v1"), "ImageAlreadyExistsException", "already exists");
    refused(&put(&index("b"), "v1"), "ImageTagAlreadyExistsException", "the tag is immutable");
    refused(&put("{", "v2"), "InvalidParameterException", "Invalid JSON syntax");
    refused(&put(&index("b"), "-"), "InvalidParameterException", "'imageTag'");
    refused(&put("", "v2"), "InvalidParameterException", "'imageManifest'");
    let mut wrong = put(&index("b"), "v2");
    wrong["imageDigest"] = sha256(b"other").into();
    refused(&wrong, "ImageDigestDoesNotMatchException", "does not match");
    let absent = sha256(b"absent");
    let descriptor = json!({ "mediaType": "application/json", "digest": absent, "size": 1 });
    let child = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor] }).to_string();
    refused(&put(&child, "v2"), "ReferencedImagesNotFoundException", &absent);
    let image = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor, "layers": [] }).to_string();
    refused(&put(&image, "v2"), "LayersNotFoundException", &absent);
    let mut elsewhere = put(&index("a"), "v1");
    elsewhere["repositoryName"] = "other".into();
    refused(&elsewhere, "RepositoryNotFoundException", "'other'");
    api.ask("PutImage", &put(&index("a"), "v2"));
    refused(&put(&index("a"), "v3"), "LimitExceededException", "tags per image");
}

#[test]
fn an_image_has_so_many_tags_and_no_more() {
    for (how, status, code) in
        [(TooManyTags::Unsupported, 405, "UNSUPPORTED"), (TooManyTags::TagInvalid, 400, "TAG_INVALID")]
    {
        let ecr = server(|builder| builder.tag_limit(2).too_many_tags(how));
        let client = Client::new(&ecr);
        let put = |tag: &str| client.put_manifest("app", tag, INDEX, index("a").as_bytes());
        assert_eq!([put("v1").status, put("v2").status, put("v2").status], [201; 3]);
        put("v3").refuses(status, code, "Limit on number of tags per image exceeded");
        assert_eq!(ecr.tags("app"), ["v1", "v2"]);
    }
}

#[test]
fn an_archived_image_is_absent_or_inaccessible() {
    for (how, [got, put], failure) in [
        (ArchivedImage::NotFound, [404, 201], "ImageNotFound"),
        (ArchivedImage::Inaccessible, [405, 405], "ImageInaccessible"),
    ] {
        let ecr = server(|builder| builder.archived_image(how));
        let digest = ecr.seed_manifest("app", INDEX, index("a").as_bytes(), Some("v1"));
        ecr.here().archive_image("app", &digest);
        let client = Client::new(&ecr);
        assert_eq!(client.head("/v2/app/manifests/v1").status, got, "{how:?}");
        let named = json!({ "repositoryName": "app", "imageIds": [{ "imageTag": "v1" }] });
        let api = Api::new(&ecr);
        assert_eq!(api.ask("BatchGetImage", &named)["failures"][0]["failureCode"], failure);
        assert_eq!(api.ask("DescribeImages", &named)["imageDetails"][0]["imageStatus"], "ARCHIVED");
        assert_eq!(client.put_manifest("app", "v1", INDEX, index("a").as_bytes()).status, put, "{how:?}");
    }
}

#[test]
fn nothing_is_written_where_the_key_is_unusable() {
    let key = "arn:aws:kms:ap-northeast-2:123456789012:key/gone";
    let ecr = server(|builder| {
        builder.encryption("app", Encryption::Kms { key: key.into() }).unusable_kms_key(key).repository("open")
    });
    let client = Client::new(&ecr);
    client.send("POST", "/v2/app/blobs/uploads/", &[], b"").refuses(400, "BLOB_UPLOAD_INVALID", "KmsException");
    let got = client.put_manifest("app", "v1", INDEX, index("a").as_bytes());
    got.refuses(400, "MANIFEST_INVALID", key);
    Api::new(&ecr).refused("PutImage", &put(&index("a"), "v1"), "KmsException", key);
    assert_eq!(client.put_manifest("open", "v1", INDEX, index("a").as_bytes()).status, 201);
}

#[test]
fn layers_are_told_a_hundred_at_once() {
    let ecr = server(|builder| builder);
    let api = Api::new(&ecr);
    let [there, archived] = [b"there".as_slice(), b"archived"].map(|bytes| ecr.seed_blob("app", bytes));
    ecr.here().archive_blob("app", &archived);
    let absent = sha256(b"absent");
    let asked = json!({ "repositoryName": "app", "layerDigests": [there, archived, absent, "md5:1", ""] });
    let told = api.ask("BatchCheckLayerAvailability", &asked);
    let layers = told["layers"].as_array().expect("a list");
    let found: Vec<_> = layers.iter().map(|layer| (&layer["layerDigest"], &layer["layerAvailability"])).collect();
    let expected = [
        (json!(there), json!("AVAILABLE")),
        (json!(archived), json!("ARCHIVED")),
        (json!(absent), json!("UNAVAILABLE")),
    ];
    assert_eq!(found, expected.iter().map(|(digest, availability)| (digest, availability)).collect::<Vec<_>>());
    assert_eq!(layers[0]["layerSize"], 5);
    let codes: Vec<_> = told["failures"].as_array().expect("a list").iter().map(|f| &f["failureCode"]).collect();
    assert_eq!(codes, ["InvalidLayerDigest", "MissingLayerDigest"]);
    let missing = json!({ "repositoryName": "xx", "layerDigests": [absent] });
    api.refused("BatchCheckLayerAvailability", &missing, "RepositoryNotFoundException", "xx");
    let hundred = json!({ "repositoryName": "app", "layerDigests": vec![&absent; 100] });
    assert_eq!(api.ask("BatchCheckLayerAvailability", &hundred)["layers"].as_array().map(Vec::len), Some(100));
    for digests in [vec![], vec![there; 101]] {
        let wrong = json!({ "repositoryName": "app", "layerDigests": digests });
        api.refused("BatchCheckLayerAvailability", &wrong, "InvalidParameterException", "'layerDigests'");
    }
    // Archived counts as absent, and an upload brings it back.
    let client = Client::new(&ecr);
    let path = format!("/v2/app/blobs/{archived}");
    assert_eq!(client.head(&path).status, 404);
    client.upload("app", b"archived");
    assert_eq!(client.head(&path).status, 200);
}
