//! Every form of host: whose API is asked, where the registry is looked for, and what gets no credentials at all.
//!
//! A proxy sees it: each request over https begins with a line that names host and port.

use crate::support::servers::{Front, Said};
use crate::support::{Layout, Push};

/// Runs a push to `host` through a proxy that lets nothing pass, and gives the places that were asked for.
fn asked_for(host: &str, change: impl FnOnce(Push) -> Push) -> (i32, Vec<String>, String) {
    let layout = Layout::fixture("good/one-manifest");
    let proxy = Front::start(|_| Said::status(502));
    let push = Push::of(layout.path())
        .to_reference(format!("{host}/team/app:v1"))
        .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
        .env("HTTPS_PROXY", format!("http://{}", proxy.address()))
        .args(["--retries=0"]);
    let ran = change(push).run();
    let mut places: Vec<String> = Vec::new();
    for asked in proxy.asked() {
        assert_eq!(asked.method, "CONNECT", "{host}");
        if places.last() != Some(&asked.target) {
            places.push(asked.target);
        }
    }
    (ran.status, places, ran.stderr)
}

/// The places beside the registry itself, to which a connection is opened while the token is on its way.
fn elsewhere<'a>(places: &'a [String], host: &str) -> Vec<&'a str> {
    let registry = format!("{}:443", host.trim_end_matches(":443"));
    places.iter().filter(|place| **place != registry).map(String::as_str).collect()
}

#[test]
fn each_form_of_ecr_names_its_api() {
    let rows = [
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com", "api.ecr.us-east-1.amazonaws.com"),
        ("123456789012.dkr.ecr.us-west-2.amazonaws.com", "api.ecr.us-west-2.amazonaws.com"),
        ("123456789012.dkr.ecr.ap-northeast-2.amazonaws.com", "api.ecr.ap-northeast-2.amazonaws.com"),
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com:443", "api.ecr.eu-central-1.amazonaws.com"),
        ("000000000000.dkr.ecr.af-south-1.amazonaws.com", "api.ecr.af-south-1.amazonaws.com"),
        ("123456789012.dkr.ecr.us-gov-west-1.amazonaws.com", "api.ecr.us-gov-west-1.amazonaws.com"),
        ("123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", "api.ecr-fips.us-east-1.amazonaws.com"),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "api.ecr-fips.us-gov-west-1.amazonaws.com"),
        ("123456789012.dkr-ecr.us-west-2.on.aws", "ecr.us-west-2.api.aws"),
        ("123456789012.dkr-ecr-fips.us-west-2.on.aws", "ecr-fips.us-west-2.api.aws"),
        ("123456789012.dkr.ecr.us-west-2.on.aws", "ecr.us-west-2.api.aws"),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "api.ecr.cn-north-1.amazonaws.com.cn"),
        ("123456789012.dkr.ecr.cn-northwest-1.amazonaws.com.cn", "api.ecr.cn-northwest-1.amazonaws.com.cn"),
        ("123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", "ecr.cn-north-1.api.amazonwebservices.com.cn"),
        ("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", "api.ecr.eusc-de-east-1.amazonaws.eu"),
        ("123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov", "api.ecr.us-iso-east-1.c2s.ic.gov"),
        ("123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov", "api.ecr.us-isob-east-1.sc2s.sgov.gov"),
        ("123456789012.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk", "api.ecr.eu-isoe-west-1.cloud.adc-e.uk"),
        ("123456789012.dkr.ecr.us-isof-south-1.csp.hci.ic.gov", "api.ecr.us-isof-south-1.csp.hci.ic.gov"),
        // Of the form of a region, and not known: new ones come.
        ("123456789012.dkr.ecr.xx-future-9.amazonaws.com", "api.ecr.xx-future-9.amazonaws.com"),
        ("public.ecr.aws", "api.ecr-public.us-east-1.amazonaws.com"),
        ("ecr-public.aws.com", "api.ecr-public.us-east-1.amazonaws.com"),
    ];
    for (host, api) in rows {
        // What the environment says of regions doesn't count.
        let (status, places, stderr) = asked_for(host, |push| push.env("AWS_REGION", "eu-north-1"));
        assert_eq!(elsewhere(&places, host), [format!("{api}:443")], "{host}:\n{stderr}");
        assert_eq!(status, 6, "{host}:\n{stderr}");
    }
}

#[test]
fn the_registry_is_looked_for_where_the_host_says() {
    let ecr = crate::support::ecr();
    for host in ["123456789012.dkr.ecr.ap-northeast-2.amazonaws.com", "123456789012.dkr-ecr.ap-northeast-2.on.aws"] {
        let (status, places, stderr) = asked_for(host, |push| push.env("AWS_ENDPOINT_URL_ECR", ecr.api_url()));
        assert_eq!(places, [format!("{host}:443")], "{stderr}");
        assert_eq!(status, 6, "{stderr}");
    }
}

#[test]
fn look_alikes_get_nothing() {
    // Those on names of AWS's own are taken for slips, and refused.
    for host in [
        "12345678901.dkr.ecr.us-west-2.amazonaws.com",
        "1234567890123.dkr.ecr.us-west-2.amazonaws.com",
        "x23456789012.dkr.ecr.us-west-2.amazonaws.com",
        "evil.123456789012.dkr.ecr.us-west-2.amazonaws.com",
        "123456789012.dkr.ecr.amazonaws.com",
        "123456789012.dkr.ecr-fipsy.us-west-2.amazonaws.com",
        "123456789012.dkr.ecr.us-west-2.evil.amazonaws.com",
        "123456789012.dkr-ecr.us-west-2.evil.on.aws",
        "vpce-0123456789abcdef0-abcdefgh.dkr.ecr.us-west-2.vpce.amazonaws.com",
        "a.public.ecr.aws",
        "123456789012.ecr.eu-west-1.amazonaws.com",
        "api.ecr.us-east-1.amazonaws.com",
        "12345678901.dkr.ecr.us-iso-east-1.c2s.ic.gov",
    ] {
        let (status, places, stderr) = asked_for(host, |push| push);
        assert_eq!((status, places.len()), (2, 0), "{host}:\n{stderr}");
        assert!(stderr.contains("looks like an ECR registry and is none"), "{host}:\n{stderr}");
    }
    // The others are strangers: no API of AWS's is asked for them, and they see no credentials.
    for host in [
        "123456789012.dkr.ecr.us-west-2.amazonaws.com.fake.example.com",
        "123456789012.dkr.ecr.us-west-2.amazonaws.com.cn.example.com",
        "123456789012.dkr-ecr.us-west-2.on.aws.com.cn",
        "123456789012.dkr.ecr.us-west-2.amazonaws.org",
        "123456789012xdkr.ecr.us-west-2.amazonaws.com.evil.example",
        "123456789012.dkrxecr.us-west-2.amazonaws.com",
        "public.ecr.aws.example.com",
        "xpublic.ecr.aws",
        "public-ecr.aws",
        "ecr-public.aws.com.cn",
    ] {
        let (status, places, stderr) = asked_for(host, |push| push);
        if status == 2 {
            assert_eq!(places, [] as [String; 0], "{host}:\n{stderr}");
        } else {
            assert_eq!((status, places), (6, vec![format!("{host}:443")]), "{host}:\n{stderr}");
        }
    }
}

#[test]
fn a_region_that_cannot_be_one_is_refused_before_any_request() {
    for (host, nearest) in [
        ("123456789012.dkr.ecr.ap-northeast2.amazonaws.com", "ap-northeast-2"),
        ("123456789012.dkr.ecr.apnortheast-2.amazonaws.com", "ap-northeast-2"),
        ("123456789012.dkr.ecr.eu-west1.amazonaws.com", "eu-west-1"),
        ("123456789012.dkr.ecr.us-east-1a.amazonaws.com", "us-east-1"),
        ("123456789012.dkr-ecr.useast1.on.aws", "us-east-1"),
        ("123456789012.dkr.ecr.cn_north-1.amazonaws.com.cn", "cn-north-1"),
    ] {
        let (status, places, stderr) = asked_for(host, |push| push);
        assert_eq!((status, places.len()), (2, 0), "{host}:\n{stderr}");
        assert!(stderr.contains(&format!("was {nearest} meant?")), "{host}:\n{stderr}");
    }
}

#[test]
fn a_region_that_does_not_resolve_is_said() {
    // Names below `invalid` never resolve (RFC 6761), and neither does anything else without a name server.
    let layout = Layout::fixture("good/one-manifest");
    let push = |region: &str| {
        Push::of(layout.path())
            .to_reference(format!("123456789012.dkr.ecr.{region}.amazonaws.com/app:v1"))
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
            .env("AWS_ENDPOINT_URL_ECR", format!("https://api.ecr.{region}.invalid"))
            .args(["--retries=0"])
            .run()
            .exits(6)
            .prints(&[])
            .says_one_error()
    };
    push("ap-northeast-9").says([
        "api.ecr.ap-northeast-9.invalid does not resolve",
        "ap-northeast-9 is no region that this version knows: was ap-northeast-",
    ]);
    push("eu-west-1").says(["api.ecr.eu-west-1.invalid has to resolve from here"]);
}

#[test]
fn a_region_on_the_command_line_gives_way_to_the_hosts() {
    let host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let (_, places, stderr) = asked_for(host, |push| push.args(["--region", "us-east-1"]));
    assert_eq!(elsewhere(&places, host), ["api.ecr.eu-west-1.amazonaws.com:443"]);
    assert!(stderr.contains("--region us-east-1 does not count"), "{stderr}");
    let (status, places, stderr) = asked_for(host, |push| push.args(["--region", "us-east1"]));
    assert_eq!((status, places.len()), (2, 0), "{stderr}");
    assert!(stderr.contains("--region: \"us-east1\" is no region: was us-east-1 meant?"), "{stderr}");
}

#[test]
fn ecr_public_has_an_alias_before_the_name() {
    let layout = Layout::fixture("good/one-manifest");
    let ran = Push::of(layout.path()).to_reference("public.ecr.aws/app:v1").run().exits(2).prints(&[]);
    ran.says(["public.ecr.aws/ALIAS/REPOSITORY"]);
}
