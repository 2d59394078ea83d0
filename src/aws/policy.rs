//! The least that an IAM policy has to allow for a push (facts/ecr.md, Credentials).

use serde_json::{Value, json};

use super::host::EcrRegistry;

/// What a push does to a repository, in the order in which it does it. Reading ECR Public needs no right.
const ON_REPOSITORY: [&str; 6] = [
    "BatchGetImage",
    "BatchCheckLayerAvailability",
    "InitiateLayerUpload",
    "UploadLayerPart",
    "CompleteLayerUpload",
    "PutImage",
];

/// The actions that a push needs on its repository: `ecr:PutImage` and so on.
#[must_use]
pub fn actions(registry: &EcrRegistry) -> Vec<String> {
    let reads = matches!(registry, EcrRegistry::Private(_));
    let needed = ON_REPOSITORY.iter().filter(|action| reads || **action != "BatchGetImage");
    needed.map(|action| format!("{}:{action}", registry.service())).collect()
}

/// The policy for pushes to `repository`, as the JSON that IAM takes; `create` adds what `--create-repository` needs.
#[must_use]
pub fn least_privilege(registry: &EcrRegistry, repository: &str, create: bool) -> String {
    let service = registry.service();
    let mut everywhere = vec![format!("{service}:GetAuthorizationToken")];
    if *registry == EcrRegistry::Public {
        everywhere.push("sts:GetServiceBearerToken".to_owned());
    }
    let mut here = actions(registry);
    if create {
        here.push(format!("{service}:CreateRepository"));
    }
    let policy: Value = json!({
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": everywhere, "Resource": "*"},
            {"Effect": "Allow", "Action": here, "Resource": registry.arn(repository)},
        ],
    });
    format!("{policy:#}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::reference::Host;

    fn policy(host: &str, repository: &str, create: bool) -> Value {
        let registry = EcrRegistry::of(&Host::parse(host).unwrap()).unwrap();
        serde_json::from_str(&least_privilege(&registry, repository, create)).unwrap()
    }

    #[test]
    fn of_a_private_repository() {
        let policy = policy("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "team/app", true);
        assert_eq!(policy["Statement"][0]["Action"], json!(["ecr:GetAuthorizationToken"]));
        assert_eq!(policy["Statement"][1]["Resource"], "arn:aws-cn:ecr:cn-north-1:123456789012:repository/team/app");
        let actions = policy["Statement"][1]["Action"].as_array().unwrap();
        assert_eq!((actions.len(), actions.last().unwrap().as_str()), (7, Some("ecr:CreateRepository")));
    }

    #[test]
    fn of_a_public_one() {
        let policy = policy("public.ecr.aws", "alias/app", false);
        assert_eq!(
            policy["Statement"][0]["Action"],
            json!(["ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"])
        );
        assert_eq!(policy["Statement"][1]["Resource"], "arn:aws:ecr-public::*:repository/app");
        assert_eq!(policy["Statement"][1]["Action"].as_array().unwrap().len(), 5);
    }
}
