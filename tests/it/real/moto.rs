//! ECR's two halves by two independent hands: the token is moto's, the registry is docker-registry.

use super::{Pulled, blobs};
use crate::support::layout::Layout;
use crate::support::servers::{Asked, DockerRegistry, Front, Guard, Login, Moto, Tool, left_out};
use crate::support::{Push, Ran};

const HOST: &str = "123456789012.dkr.ecr.ap-northeast-2.amazonaws.com";

/// moto, and before it something that notes what it is asked.
struct Api {
    front: Front,
    _moto: Moto,
}

impl Api {
    fn start() -> Self {
        let moto = Moto::start();
        let address = moto.address().to_owned();
        Self { front: Front::start(move |asked| asked.forward(&address)), _moto: moto }
    }

    /// Pushes to [`HOST`] with nothing given but credentials and where the two servers are.
    fn push(&self, layout: &Layout, registry: &DockerRegistry, reference: &str, args: &[&str]) -> Ran {
        self.pushing(layout, registry, reference).args(args).run()
    }

    /// The requests for a token.
    fn tokens(&self) -> Vec<Asked> {
        let named =
            |asked: &Asked| asked.header("x-amz-target").is_some_and(|it| it.ends_with(".GetAuthorizationToken"));
        self.front.asked().into_iter().filter(named).collect()
    }

    fn pushing(&self, layout: &Layout, registry: &DockerRegistry, reference: &str) -> Push {
        Push::of(layout.path())
            .to_reference(format!("{HOST}/{reference}"))
            .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_ENDPOINT_URL_ECR", format!("http://{}", self.front.address()))
            .args([format!("--registry-endpoint=http://{}", registry.address())])
    }
}

#[test]
fn token_and_push() {
    if left_out(&[Tool::Moto, Tool::DockerRegistry, Tool::Skopeo]) {
        return;
    }
    let (api, registry) = (Api::start(), DockerRegistry::start(Guard::Basic(Login::ECR)));
    let layout = Layout::fixture("good/one-manifest");
    let (made, digest) = (blobs(layout.path()), layout.root());
    let line = format!("{HOST}/team/app@{digest}");

    let (ran, requests) = registry.during(|| api.push(&layout, &registry, "team/app:v1", &[]));
    ran.exits(0).prints(&[&line]).says_nothing_of([Login::ECR.password, "expire"]);
    let pulled = Pulled::layout(&registry, "team/app:v1", Login::ECR);
    assert_eq!((pulled.digest(), blobs(&pulled.path)), (digest, made));

    // One token, in the region that the host names. It expired in 2015, which is nobody's business.
    let [asked] = &api.tokens()[..] else { panic!("{} tokens were asked for", api.tokens().len()) };
    let scope = asked.authorization().expect("the request is signed");
    assert!(scope.contains("/ap-northeast-2/ecr/aws4_request,"), "{scope}");
    assert_eq!(asked.body, b"{}", "no registry ids");
    // The token went with the first request: nothing was refused.
    assert!(requests.iter().all(|request| request.status != 401), "{requests:?}");

    // On ECR a tag that names the digest is proof enough, with clean-up, too.
    let (ran, requests) = registry.during(|| api.push(&layout, &registry, "team/app:v1", &["--cleanup"]));
    ran.exits(0).prints(&[&line]);
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(!layout.path().exists());
}

#[test]
fn token_that_the_registry_does_not_take() {
    if left_out(&[Tool::Moto, Tool::DockerRegistry]) {
        return;
    }
    let (api, registry) = (Api::start(), DockerRegistry::start(Guard::Basic(Login::JENKINS)));
    let layout = Layout::fixture("good/one-manifest");
    let ran = api.push(&layout, &registry, "team/app:v1", &["-vv", "--cleanup"]);
    ran.exits(4)
        .prints(&[])
        .says_one_error()
        .says_nothing_of([Login::ECR.password, "QVdTOjEyMzQ1Njc4OTAxMi1hdXRoLXRva2Vu"]);
    // A refused token is renewed, within bounds.
    assert!((2..=3).contains(&api.tokens().len()), "{}", api.tokens().len());
    assert!(registry.requests().len() <= 3, "{:?}", registry.requests());
    assert!(layout.path().exists());
}

#[test]
fn a_role_of_moto_s_gets_moto_s_token() {
    if left_out(&[Tool::Moto, Tool::DockerRegistry, Tool::Skopeo]) {
        return;
    }
    let (api, registry) = (Api::start(), DockerRegistry::start(Guard::Basic(Login::ECR)));
    let layout = Layout::fixture("good/one-manifest");
    let (made, digest) = (blobs(layout.path()), layout.root());
    let role = "arn:aws:iam::123456789012:role/push";
    let push = api.pushing(&layout, &registry, "team/app:v1");
    let push = push.env("AWS_ENDPOINT_URL_STS", format!("http://{}", api.front.address()));
    let ran = push.args(["-vv", "--role-arn", role, "--external-id=id-1", "--role-session-name=build-7"]).run();
    ran.exits(0).prints(&[&format!("{HOST}/team/app@{digest}")]).says_nothing_of([Login::ECR.password]);
    let pulled = Pulled::layout(&registry, "team/app:v1", Login::ECR);
    assert_eq!((pulled.digest(), blobs(&pulled.path)), (digest, made));

    let [sts, ecr, ..] = &api.front.asked()[..] else {
        panic!("the APIs were asked {} times", api.front.asked().len())
    };
    let signer = |asked: &Asked| asked.authorization().expect("it is signed").to_owned();
    let (first, second) = (signer(sts), signer(ecr));
    assert!(first.contains("Credential=AKIAEXAMPLE/") && first.contains("/ap-northeast-2/sts/"), "{first}");
    let form = String::from_utf8_lossy(&sts.body).into_owned();
    for part in ["Action=AssumeRole&", "RoleSessionName=build-7", "ExternalId=id-1", "role%2Fpush"] {
        assert!(form.contains(part), "{part} isn't in {form}");
    }
    // What STS gave signs for ECR, with its session token.
    assert!(second.contains("Credential=ASIA") && second.contains("/ap-northeast-2/ecr/"), "{second}");
    assert!(ecr.header("x-amz-security-token").is_some_and(|token| !token.is_empty()));
}
