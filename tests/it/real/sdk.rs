//! AWS's own SDK against local-ecr: what it reads in the answers and refusals is what they mean.

use aws_credential_types::Credentials;
use aws_sdk_ecr::config::{BehaviorVersion, Region};
use aws_sdk_ecr::error::ProvideErrorMetadata;
use aws_sdk_ecr::types as ecr;
use local_ecr::{Finding, LocalEcr, Scanning};

const INDEX: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

fn credentials(ecr: &LocalEcr) -> Credentials {
    Credentials::new(ecr.access_key_id(), ecr.secret_access_key(), None, None, "test")
}

fn private(ecr: &LocalEcr) -> aws_sdk_ecr::Client {
    let config = aws_sdk_ecr::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(ecr.region().to_owned()))
        .endpoint_url(ecr.api_url())
        .credentials_provider(credentials(ecr));
    aws_sdk_ecr::Client::from_conf(config.build())
}

fn public(ecr: &LocalEcr) -> aws_sdk_ecrpublic::Client {
    let config = aws_sdk_ecrpublic::Config::builder()
        .behavior_version(aws_sdk_ecrpublic::config::BehaviorVersion::latest())
        .region(aws_sdk_ecrpublic::config::Region::new("us-east-1"))
        .endpoint_url(ecr.api_url())
        .credentials_provider(credentials(ecr));
    aws_sdk_ecrpublic::Client::from_conf(config.build())
}

fn allowing(actions: &[&str]) -> local_ecr::Builder {
    actions.iter().fold(LocalEcr::builder(), |builder, action| builder.allow(action))
}

fn finding(name: &str) -> Finding {
    Finding::new(name, "HIGH", "openssl", "3.0").fixed_in("3.1")
}

#[tokio::test]
async fn repositories_and_images() {
    let actions = ["CreateRepository", "DescribeRepositories", "DescribeImages", "ListImages", "GetAccountSetting"];
    let ecr = allowing(&actions.map(|action| format!("ecr:{action}")).each_ref().map(String::as_str));
    let ecr = ecr.blob_mounting(true).start().unwrap();
    let client = private(&ecr);

    let token = client.get_authorization_token().send().await.unwrap();
    assert_eq!(token.authorization_data().len(), 1);
    assert!(token.authorization_data()[0].expires_at().is_some());

    let filter = ecr::ImageTagMutabilityExclusionFilter::builder()
        .filter_type(ecr::ImageTagMutabilityExclusionFilterType::Wildcard)
        .filter("latest*");
    let encryption = ecr::EncryptionConfiguration::builder().encryption_type(ecr::EncryptionType::Kms);
    let create = || client.create_repository().repository_name("app").set_image_tag_mutability(None);
    create()
        .image_tag_mutability(ecr::ImageTagMutability::ImmutableWithExclusion)
        .image_tag_mutability_exclusion_filters(filter.build().unwrap())
        .image_scanning_configuration(ecr::ImageScanningConfiguration::builder().scan_on_push(true).build())
        .encryption_configuration(encryption.build().unwrap())
        .tags(ecr::Tag::builder().key("team").value("ci").build().unwrap())
        .send()
        .await
        .unwrap();
    let again = create().send().await.unwrap_err().into_service_error();
    assert!(again.is_repository_already_exists_exception(), "{again:?}");

    let told = client.describe_repositories().repository_names("app").send().await.unwrap();
    let [app] = told.repositories() else { panic!("{told:?}") };
    assert_eq!(app.image_tag_mutability(), Some(&ecr::ImageTagMutability::ImmutableWithExclusion));
    assert_eq!(app.image_tag_mutability_exclusion_filters()[0].filter(), "latest*");
    assert!(app.image_scanning_configuration().is_some_and(ecr::ImageScanningConfiguration::scan_on_push));
    let encryption = app.encryption_configuration().unwrap();
    assert_eq!(encryption.encryption_type(), &ecr::EncryptionType::Kms);
    assert!(encryption.kms_key().is_some_and(|key| key.starts_with("arn:aws:kms:")));
    assert!(app.created_at().is_some_and(|at| at.secs() > 0));

    let put = || client.put_image().repository_name("app").image_manifest(INDEX).image_tag("v1");
    let image = put().send().await.unwrap().image.unwrap();
    let digest = image.image_id().and_then(|id| id.image_digest()).unwrap().to_owned();
    assert!(put().send().await.unwrap_err().into_service_error().is_image_already_exists_exception());
    let id = |tag: &str| ecr::ImageIdentifier::builder().image_tag(tag).build();
    let got = client.batch_get_image().repository_name("app").image_ids(id("v1")).image_ids(id("v2"));
    let got = got.send().await.unwrap();
    assert_eq!(got.images()[0].image_manifest(), Some(INDEX));
    assert_eq!(got.failures()[0].failure_code(), Some(&ecr::ImageFailureCode::ImageNotFound));
    let details = client.describe_images().repository_name("app").send().await.unwrap();
    assert_eq!(details.image_details()[0].image_digest(), Some(digest.as_str()));
    assert_eq!(details.image_details()[0].image_tags(), ["v1"]);
    let ids = client.list_images().repository_name("app").send().await.unwrap();
    assert_eq!(ids.image_ids()[0].image_tag(), Some("v1"));

    let layer = ecr.seed_blob("app", b"layer");
    let checked = client.batch_check_layer_availability().repository_name("app");
    let checked = checked.layer_digests(layer).layer_digests("none").send().await.unwrap();
    assert_eq!(checked.layers()[0].layer_availability(), Some(&ecr::LayerAvailability::Available));
    assert_eq!(checked.failures()[0].failure_code(), Some(&ecr::LayerFailureCode::InvalidLayerDigest));
    let setting = client.get_account_setting().name("BLOB_MOUNTING").send().await.unwrap();
    assert_eq!(setting.value(), Some("ENABLED"));
}

#[tokio::test]
async fn scans() {
    let actions = ["ecr:StartImageScan", "ecr:DescribeImageScanFindings"];
    for scanning in [Scanning::Manual, Scanning::Enhanced] {
        let builder = allowing(&actions).repository("app").scanning(scanning).page_limit(2);
        let names = ["CVE-1", "CVE-2", "CVE-3"];
        let ecr = names.iter().fold(builder, |builder, name| builder.finding(finding(name))).start().unwrap();
        let config = ecr.seed_blob("app", b"{}");
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/json","digest":"{config}","size":2}},"layers":[]}}"#
        );
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let digest = ecr.seed_manifest("app", media_type, manifest.as_bytes(), None);
        let client = private(&ecr);
        let id = ecr::ImageIdentifier::builder().image_digest(&digest).build();
        let describe = || client.describe_image_scan_findings().repository_name("app").image_id(id.clone());
        let started = client.start_image_scan().repository_name("app").image_id(id.clone()).send().await;
        let status = if scanning == Scanning::Manual {
            assert!(started.is_ok(), "{started:?}");
            ecr::ScanStatus::Complete
        } else {
            assert_eq!(started.unwrap_err().code(), Some("ValidationException"));
            ecr::ScanStatus::Active
        };
        let mut found = Vec::new();
        let mut next = None;
        loop {
            let page = describe().set_next_token(next).send().await.unwrap();
            assert_eq!(page.image_scan_status().and_then(|status| status.status()), Some(&status));
            let findings = page.image_scan_findings().unwrap();
            assert_eq!(findings.finding_severity_counts().unwrap()[&ecr::FindingSeverity::High], 3);
            found.extend(findings.findings().iter().filter_map(|finding| finding.name()).map(str::to_owned));
            let details = findings.enhanced_findings().iter().filter_map(|one| one.package_vulnerability_details());
            for details in details {
                assert_eq!(details.vulnerable_packages()[0].fixed_in_version(), Some("3.1"));
                found.extend(details.vulnerability_id().map(str::to_owned));
            }
            next = page.next_token().map(str::to_owned);
            if next.is_none() {
                break;
            }
        }
        assert_eq!(found, names);
    }
}

#[tokio::test]
async fn ecr_public() {
    let ecr = allowing(&["ecr-public:CreateRepository", "ecr-public:DescribeRepositories"]).public("alias");
    let ecr = ecr.start().unwrap();
    let client = public(&ecr);
    let data = client.get_authorization_token().send().await.unwrap().authorization_data.unwrap();
    assert!(data.authorization_token().is_some() && data.expires_at().is_some());
    let create = || client.create_repository().repository_name("app").send();
    let made = create().await.unwrap().repository.unwrap();
    assert_eq!(made.repository_uri(), Some("public.ecr.aws/alias/app"));
    assert!(create().await.unwrap_err().into_service_error().is_repository_already_exists_exception());
    let told = client.describe_repositories().repository_names("app").send().await.unwrap();
    assert_eq!(told.repositories(), [made]);
    let missing = client.describe_repositories().repository_names("other").send().await.unwrap_err();
    assert!(missing.into_service_error().is_repository_not_found_exception());
}
