use local_ecr::{Fault, FaultKind, LocalEcr, ViolationKind};

use crate::client::{Got, base64, exchange};

fn signed(ecr: &LocalEcr, key: &str, region: &str) -> Got {
    call(
        ecr,
        "GetAuthorizationToken",
        &format!(
            "Authorization: AWS4-HMAC-SHA256 Credential={key}/20261101/{region}/ecr/aws4_request, SignedHeaders=host, Signature=0\r\n"
        ),
    )
}

fn call(ecr: &LocalEcr, operation: &str, authorization: &str) -> Got {
    let host = &ecr.api_url()[7..];
    let raw = format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nX-Amz-Target: AmazonEC2ContainerRegistry_V20150921.{operation}\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: 2\r\n{authorization}\r\n{{}}"
    );
    exchange(&ecr.api_url(), raw.as_bytes())
}

#[track_caller]
fn fails(got: &Got, code: &str) {
    assert_eq!((got.status, got.header("x-amzn-errortype")), (400, Some(code)), "{}", got.text());
    assert!(got.text().contains(&format!("\"__type\":\"{code}\"")));
}

#[test]
fn a_token_is_issued_to_the_known_key() {
    let ecr = LocalEcr::builder().token_expires_at_in_past(true).start().expect("starts");
    let got = signed(&ecr, ecr.access_key_id(), "ap-northeast-2");
    assert_eq!(got.header("content-type"), Some("application/x-amz-json-1.1"));
    let data = serde_json::from_slice::<serde_json::Value>(&got.body).expect("JSON")["authorizationData"][0].clone();
    assert_eq!(data["authorizationToken"], base64(&format!("AWS:{}", ecr.issued_passwords()[0])));
    assert_eq!(data["proxyEndpoint"], format!("https://{}", ecr.host()));
    assert_eq!(data["expiresAt"], 1_420_070_400);
    assert_eq!(ecr.api_requests()[0].to_string(), "POST / ecr:GetAuthorizationToken 200");
}

#[test]
fn others_are_refused_in_aws_form() {
    let ecr = LocalEcr::builder().deny("ecr:GetAuthorizationToken").start().expect("starts");
    fails(&signed(&ecr, "AKIAOTHER", "ap-northeast-2"), "UnrecognizedClientException");
    fails(&signed(&ecr, ecr.access_key_id(), "eu-west-1"), "InvalidSignatureException");
    fails(&call(&ecr, "GetAuthorizationToken", ""), "MissingAuthenticationTokenException");
    let denied = signed(&ecr, ecr.access_key_id(), "ap-northeast-2");
    fails(&denied, "AccessDeniedException");
    assert!(denied.text().contains("is not authorized to perform: ecr:GetAuthorizationToken on resource: *"));
    fails(&call(&ecr, "DeleteRepository", ""), "UnknownOperationException");
    ecr.expect_violation(ViolationKind::UnknownRequest);
}

#[test]
fn the_api_may_fail_for_a_while() {
    let kind = FaultKind::api_error(500, "ServerException", "try later");
    let ecr = LocalEcr::builder().fault(Fault::api().times(2).does(kind)).start().expect("starts");
    let statuses = [0; 3].map(|_| signed(&ecr, ecr.access_key_id(), "ap-northeast-2").status);
    assert_eq!(statuses, [500, 500, 200]);
}

#[test]
fn a_fault_may_be_one_of_an_operation() {
    let kind = FaultKind::api_error(500, "ServerException", "try later");
    let ecr = LocalEcr::builder().fault(Fault::operation("BatchGetImage").does(kind)).start().expect("starts");
    assert_eq!(signed(&ecr, ecr.access_key_id(), "ap-northeast-2").status, 200);
    assert_eq!([0; 2].map(|_| call(&ecr, "BatchGetImage", "").status), [500, 400]);
}
