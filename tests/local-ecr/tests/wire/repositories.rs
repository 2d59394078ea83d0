use local_ecr::{Encryption, LocalEcr, TagMutability, ViolationKind};
use serde_json::json;

use crate::client::Client;
use crate::signed::Api;

fn server(change: impl FnOnce(local_ecr::Builder) -> local_ecr::Builder) -> LocalEcr {
    let builder = LocalEcr::builder().allow("ecr:CreateRepository").allow("ecr:DescribeRepositories");
    change(builder).start().expect("starts")
}

#[test]
fn a_repository_keeps_what_it_was_made_with() {
    let ecr = server(|builder| builder);
    let api = Api::new(&ecr);
    let made = api.ask(
        "CreateRepository",
        &json!({
            "repositoryName": "team/app",
            "registryId": "123456789012",
            "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
            "imageTagMutabilityExclusionFilters": [{ "filterType": "WILDCARD", "filter": "latest*" }],
            "imageScanningConfiguration": { "scanOnPush": true },
            "encryptionConfiguration": { "encryptionType": "KMS", "kmsKey": "1234" },
            "tags": [{ "Key": "team", "Value": "ci" }],
        }),
    );
    let made = &made["repository"];
    assert_eq!(made["repositoryArn"], "arn:aws:ecr:ap-northeast-2:123456789012:repository/team/app");
    assert_eq!(made["repositoryUri"], "123456789012.dkr.ecr.ap-northeast-2.amazonaws.com/team/app");
    assert_eq!((&made["registryId"], &made["repositoryName"]), (&json!("123456789012"), &json!("team/app")));
    assert!(made["createdAt"].is_u64());
    assert_eq!(made["imageTagMutability"], "IMMUTABLE_WITH_EXCLUSION");
    assert_eq!(made["imageTagMutabilityExclusionFilters"], json!([{ "filterType": "WILDCARD", "filter": "latest*" }]));
    assert_eq!(made["imageScanningConfiguration"], json!({ "scanOnPush": true }));
    let key = "arn:aws:kms:ap-northeast-2:123456789012:key/1234";
    assert_eq!(made["encryptionConfiguration"], json!({ "encryptionType": "KMS", "kmsKey": key }));
    let told = api.ask("DescribeRepositories", &json!({ "repositoryNames": ["team/app"] }));
    assert_eq!(&told["repositories"], &json!([made]));

    let settings = ecr.here().repository_settings("team/app").expect("it was made");
    assert_eq!(settings.mutability, TagMutability::ImmutableWithExclusion(vec!["latest*".into()]));
    assert_eq!((settings.scan_on_push, settings.encryption), (true, Encryption::Kms { key: key.into() }));
    assert_eq!(settings.tags.into_iter().collect::<Vec<_>>(), [("team".to_owned(), "ci".to_owned())]);
}

#[test]
fn tags_obey_the_mode_that_a_repository_was_made_with() {
    let image = r#"{"schemaVersion":2,"manifests":[]}"#;
    let index = "application/vnd.oci.image.index.v1+json";
    for (mode, filters, [first, second]) in [
        ("MUTABLE", json!([]), [201, 201]),
        ("IMMUTABLE", json!([]), [400, 400]),
        ("MUTABLE_WITH_EXCLUSION", json!([{ "filterType": "WILDCARD", "filter": "v*" }]), [400, 201]),
        ("IMMUTABLE_WITH_EXCLUSION", json!([{ "filterType": "WILDCARD", "filter": "v*" }]), [201, 400]),
    ] {
        let ecr = server(|builder| builder);
        let input = json!({
            "repositoryName": "app", "imageTagMutability": mode, "imageTagMutabilityExclusionFilters": filters,
        });
        Api::new(&ecr).ask("CreateRepository", &input);
        let client = Client::new(&ecr);
        for (tag, status) in [("v1", first), ("latest", second)] {
            assert_eq!(client.put_manifest("app", tag, index, image.as_bytes()).status, 201);
            let other = format!("{image} ");
            assert_eq!(client.put_manifest("app", tag, index, other.as_bytes()).status, status, "{mode} {tag}");
        }
    }
}

#[test]
fn a_repository_is_not_made_for_many_reasons() {
    let key = "arn:aws:kms:ap-northeast-2:123456789012:key/gone";
    let ecr = server(|builder| builder.repository("app").repository_limit(2).unusable_kms_key(key));
    let api = Api::new(&ecr);
    let refused = |more: serde_json::Value, code: &str, message: &str| {
        let mut input = json!({ "repositoryName": "new" });
        input.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        api.refused("CreateRepository", &input, code, message);
    };
    let exists = "The repository with name 'app' already exists in the registry with id '123456789012'";
    refused(json!({ "repositoryName": "app" }), "RepositoryAlreadyExistsException", exists);
    for name in ["", "a", "App", "-app", "app/", "team//app"] {
        refused(json!({ "repositoryName": name }), "InvalidParameterException", "'repositoryName'");
    }
    refused(json!({ "imageTagMutability": "SOMETIMES" }), "InvalidParameterException", "'imageTagMutability'");
    let without = json!({ "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION" });
    refused(without, "InvalidParameterException", "'imageTagMutabilityExclusionFilters'");
    let wrong = json!([{ "filterType": "WILDCARD", "filter": "a b" }]);
    let wrong = json!({ "imageTagMutability": "MUTABLE_WITH_EXCLUSION", "imageTagMutabilityExclusionFilters": wrong });
    refused(wrong, "InvalidParameterException", "'imageTagMutabilityExclusionFilters'");
    refused(json!({ "registryId": "12" }), "InvalidParameterException", "'registryId'");
    refused(json!({ "encryptionConfiguration": { "encryptionType": "ROT13" } }), "InvalidParameterException", "enum");
    let broken = json!({ "encryptionConfiguration": { "encryptionType": "KMS", "kmsKey": key } });
    refused(broken, "KmsException", key);
    refused(json!({ "tags": [{ "Key": "aws:x", "Value": "" }] }), "InvalidTagParameterException", "its key");
    let many: Vec<_> = (0..51).map(|number| json!({ "Key": number.to_string(), "Value": "" })).collect();
    refused(json!({ "tags": many }), "TooManyTagsException", "50");
    refused(json!({ "repositoryName": 7 }), "SerializationException", "");
    api.ask("CreateRepository", &json!({ "repositoryName": "new" }));
    refused(json!({ "repositoryName": "newer" }), "LimitExceededException", "which is '2'");
}

#[test]
fn somebody_else_may_be_quicker() {
    let ecr = server(local_ecr::Builder::creation_race);
    let api = Api::new(&ecr);
    api.refused("CreateRepository", &json!({ "repositoryName": "app" }), "RepositoryAlreadyExistsException", "'app'");
    assert_eq!(ecr.here().repositories(), ["app"]);
    api.ask("CreateRepository", &json!({ "repositoryName": "other" }));
}

#[test]
fn repositories_are_told_page_by_page() {
    let ecr = server(|builder| builder.repository("aa").repository("bb").repository("cc"));
    let api = Api::new(&ecr);
    let names = |page: &serde_json::Value| {
        let page = page["repositories"].as_array().expect("a list").iter();
        page.map(|found| found["repositoryName"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    let first = api.ask("DescribeRepositories", &json!({ "maxResults": 2 }));
    assert_eq!(names(&first), ["aa", "bb"]);
    let second = api.ask("DescribeRepositories", &json!({ "maxResults": 2, "nextToken": first["nextToken"] }));
    assert_eq!((names(&second), &second["nextToken"]), (vec!["cc".to_owned()], &serde_json::Value::Null));
    let wrong = json!({ "nextToken": "x" });
    api.refused("DescribeRepositories", &wrong, "InvalidParameterException", "'nextToken'");
    let missing = json!({ "repositoryNames": ["aa", "xx"] });
    let message = "The repository with name 'xx' does not exist in the registry with id '123456789012'";
    api.refused("DescribeRepositories", &missing, "RepositoryNotFoundException", message);
}

#[test]
fn what_may_be_tried_is_no_violation() {
    let ecr = LocalEcr::builder().repository("app").start().expect("starts");
    let api = Api::new(&ecr);
    for (names, resource) in [(json!(["app"]), "repository/app"), (json!([]), "repository/*")] {
        let sentence = format!(
            "ecr:DescribeRepositories on resource: arn:aws:ecr:ap-northeast-2:123456789012:{resource} because no identity-based policy"
        );
        let named = json!({ "repositoryNames": names });
        api.refused("DescribeRepositories", &named, "AccessDeniedException", &sentence);
    }
    Client::new(&ecr).open("app");
    ecr.allow_open_sessions();
    assert_eq!(ecr.check(), Ok(()));
    api.refused("CreateRepository", &json!({ "repositoryName": "new" }), "AccessDeniedException", "repository/new");
    let found = ecr.check().expect_err("creating is no part of a push");
    assert_eq!(found[0].kind(), ViolationKind::ForbiddenAction);
    ecr.expect_violation(ViolationKind::ForbiddenAction);
}
