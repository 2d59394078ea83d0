//! The shared config and credentials files.

use local_ecr::{Role, Source};

use super::{KEY, METADATA_OFF, ROLE, SECRET, arrives, asking, fails, key_file, put, without_key};
use crate::support::{builder, ecr, reference, start};

#[test]
fn a_profile_is_read_from_the_shared_files() {
    let check = |args: &[&str], environment: &[(&str, &str)]| {
        let ecr = ecr();
        let (layout, push) = without_key(&ecr);
        put(&push, ".aws/credentials", &key_file(&ecr, "p"));
        // A region of the profile counts for nothing: the host names it.
        put(&push, ".aws/config", "[profile p]\nregion = eu-north-1\n");
        let push = environment.iter().fold(push.args(args), |push, (name, value)| push.env(name, value));
        push.run().exits(0).prints(&[&reference(&ecr, "app", &layout.root())]);
    };
    check(&["--profile", "p"], &[]);
    check(&[], &[("AWS_PROFILE", "p")]);
    check(&["--profile", "p"], &[("AWS_PROFILE", "q")]);
    check(&[], &[("ECR_PUSH_PROFILE", "p"), ("AWS_PROFILE", "q")]);
    check(&["--profile=q", "--profile=123456789012.dkr.ecr.ap-northeast-2.amazonaws.com=p"], &[]);
}

#[test]
fn a_profile_that_is_not_there_is_named() {
    let ecr = ecr();
    let (_layout, push) = without_key(&ecr);
    put(&push, ".aws/credentials", &key_file(&ecr, "p"));
    push.args(["--profile", "nobody"]).run().exits(4).prints(&[]).says(["nobody"]);
}

#[test]
fn a_profile_assumes_its_role() {
    let ecr = start(builder().role(Role::new(ROLE).external_id("id-1")));
    let (layout, push) = asking(&ecr);
    put(&push, ".aws/credentials", &key_file(&ecr, "base"));
    let more = "source_profile = base\nexternal_id = id-1\nrole_session_name = build-7\n";
    put(&push, ".aws/config", &format!("[profile p]\nrole_arn = {ROLE}\n{more}"));
    let ran = arrives(&ecr, &layout, &push.args(["--profile=p"]), Some(Source::AssumedRole));
    ran.says(["origin=\"profile p\""]);
    let [entry] = &ecr.identity_requests()[..] else { panic!("{:?}", ecr.identity_requests()) };
    let signed = entry.signed.as_ref().unwrap();
    assert_eq!((&*signed.access_key_id, &*signed.region), (ecr.access_key_id(), ecr.region()));
    assert_eq!((&*entry.parameters["ExternalId"], &*entry.parameters["RoleSessionName"]), ("id-1", "build-7"));
}

#[test]
fn a_profile_assumes_its_role_with_what_it_names_as_source() {
    let check = |name: &str, source: Option<Source>| {
        let ecr = start(builder().role(Role::new(ROLE)).instance_role("node"));
        let (layout, push) = asking(&ecr);
        put(&push, ".aws/config", &format!("[profile p]\nrole_arn = {ROLE}\ncredential_source = {name}\n"));
        let push = push.env(KEY, ecr.access_key_id()).env(SECRET, ecr.secret_access_key()).without(METADATA_OFF);
        let push = push.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", ecr.container_url());
        arrives(&ecr, &layout, &push.args(["--profile=p"]), Some(Source::AssumedRole));
        let requests = ecr.identity_requests();
        let by = &requests.last().unwrap().signed.as_ref().unwrap().access_key_id;
        let issued = ecr.issued_credentials();
        let found = issued.iter().find(|credentials| credentials.access_key_id == *by);
        assert_eq!(found.map(|credentials| credentials.source), source, "{name}");
    };
    check("Environment", None);
    check("EcsContainer", Some(Source::Container));
    check("Ec2InstanceMetadata", Some(Source::Instance));
}

#[test]
fn a_role_that_the_profile_does_not_get_is_said() {
    let ecr = start(builder());
    let (_layout, push) = asking(&ecr);
    put(&push, ".aws/credentials", &key_file(&ecr, "base"));
    put(&push, ".aws/config", &format!("[profile p]\nrole_arn = {ROLE}\nsource_profile = base\n"));
    let ran = fails(&ecr, &push.args(["--profile=p"]), 4);
    ran.says(["AccessDenied", "sts:AssumeRole", ROLE, "trust policy", "external_id"])
        .says_nothing_of(["--external-id"]);
}

#[test]
fn a_profile_that_is_wrong_is_said() {
    let check = |config: &str, words: &[&str]| {
        let ecr = start(builder());
        let (_layout, push) = asking(&ecr);
        put(&push, ".aws/config", config);
        fails(&ecr, &push.args(["--profile=p"]), 4).says(words.iter().copied()).says(["profile p"]);
    };
    check("[profile p]\nrole_arn = arn:aws:iam::123456789012:role/x\n", &["source_profile"]);
    check("[profile p]\nrole_arn = arn:aws:iam::123456789012:role/x\nsource_profile = q\n", &["q"]);
    check("[profile p]\nrole_arn = arn:aws:iam::123456789012:role/x\ncredential_source = Moon\n", &["Moon"]);
    check("[profile p\n", &["config"]);
}

#[test]
fn a_profile_of_aws_login_is_left_to_the_aws_cli() {
    let role = format!("[profile r]\nrole_arn = {ROLE}\nsource_profile = p\n");
    for name in ["p", "r"] {
        let ecr = start(builder());
        let (_layout, push) = asking(&ecr);
        let login = "[profile p]\nlogin_session = arn:aws:iam::123456789012:user/somebody\n";
        put(&push, ".aws/config", &format!("{login}{role}"));
        let ran = fails(&ecr, &push.env("AWS_PROFILE", name), 4);
        ran.says(["`aws login`", "aws configure export-credentials --profile p --format process"]);
    }
}

#[test]
fn a_profile_may_say_where_apis_are() {
    let ecr = start(builder().role(Role::new(ROLE)));
    let (layout, push) = asking(&ecr);
    put(&push, ".aws/credentials", &key_file(&ecr, "base"));
    let (api, sts) = (ecr.api_url(), ecr.identity_url());
    let services = format!("[services here]\necr =\n  endpoint_url = {api}\nsts =\n  endpoint_url = {sts}\n");
    let profile = format!("[profile p]\nrole_arn = {ROLE}\nsource_profile = base\nservices = here\n");
    put(&push, ".aws/config", &format!("{services}{profile}"));
    let push = push.without("AWS_ENDPOINT_URL_ECR").without("AWS_ENDPOINT_URL_STS").args(["--profile=p"]);
    arrives(&ecr, &layout, &push, Some(Source::AssumedRole));
}
