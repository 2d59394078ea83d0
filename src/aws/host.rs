//! ECR's host names: what region, account and variant a host says, and that it really is one.

use super::region;
use crate::oci::reference::Host;

/// The hosts of ECR Public; the second one is dual-stack (facts/ecr.md, Hosts).
const PUBLIC: [&str; 2] = ["public.ecr.aws", "ecr-public.aws.com"];

/// Where ECR Public's API is at home (facts/ecr.md, Credentials).
const PUBLIC_REGION: &str = "us-east-1";

/// Bytes of a mebibyte.
const MIB: u64 = 1024 * 1024;

/// A registry of ECR's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EcrRegistry {
    /// An account's registry in a region.
    Private(EcrHost),
    /// The one that everybody can read.
    Public,
}

impl EcrRegistry {
    /// What `host` is, if it is ECR's; the port doesn't matter.
    #[must_use]
    pub fn of(host: &Host) -> Option<Self> {
        if PUBLIC.contains(&host.name()) { Some(Self::Public) } else { EcrHost::of(host).map(Self::Private) }
    }

    /// The region that its API is asked in.
    #[must_use]
    pub fn region(&self) -> &str {
        match self {
            Self::Private(host) => &host.region,
            Self::Public => PUBLIC_REGION,
        }
    }

    /// The service, as IAM actions and credential scopes spell it.
    #[must_use]
    pub fn service(&self) -> &'static str {
        match self {
            Self::Private(_) => "ecr",
            Self::Public => "ecr-public",
        }
    }

    /// The ARN of a repository. On ECR Public the account isn't known, and the alias before the name is no part of it.
    #[must_use]
    pub fn arn(&self, repository: &str) -> String {
        match self {
            Self::Private(EcrHost { account, region, .. }) => {
                format!("arn:{}:ecr:{region}:{account}:repository/{repository}", region::partition(region))
            }
            Self::Public => {
                format!("arn:aws:ecr-public::*:repository/{}", self.own_name(repository))
            }
        }
    }

    /// The name that the account knows a repository by: on ECR Public the alias before it is no part of it.
    #[must_use]
    pub fn own_name<'a>(&self, repository: &'a str) -> &'a str {
        match self {
            Self::Private(_) => repository,
            Self::Public => repository.split_once('/').map_or(repository, |(_, name)| name),
        }
    }

    /// The alias that a repository's registry has on ECR Public, which is the first part of its name there.
    #[must_use]
    pub fn alias<'a>(&self, repository: &'a str) -> Option<&'a str> {
        match self {
            Self::Private(_) => None,
            Self::Public => repository.split_once('/').map(|(alias, _)| alias),
        }
    }

    /// The largest layer it takes, in bytes (facts/ecr.md, Uploading a blob).
    #[must_use]
    pub fn layer_limit(&self) -> u64 {
        match self {
            Self::Private(_) => 52_000 * MIB,
            Self::Public => 10_000 * MIB,
        }
    }
}

/// A private ECR registry, as its host name describes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EcrHost {
    /// The twelve digits of the account.
    pub account: String,
    /// The region; tokens come from there.
    pub region: String,
    /// Whether the FIPS endpoint is meant.
    pub fips: bool,
    /// Whether the dual-stack endpoint is meant.
    pub dual_stack: bool,
}

/// The DNS suffixes of AWS's partitions; `on.…` are the dual-stack ones (facts/ecr.md, Hosts).
pub const SUFFIXES: [&str; 9] = [
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "on.aws",
    "on.amazonwebservices.com.cn",
    "sc2s.sgov.gov",
    "c2s.ic.gov",
    "cloud.adc-e.uk",
    "csp.hci.ic.gov",
];

impl EcrHost {
    /// What `host` says, if it is a private ECR registry; the port doesn't matter.
    ///
    /// The grammar is the one of AWS's own credential helper (facts/ecr.md, Hosts), anchored at both ends so that
    /// `….amazonaws.com.example.com` gets no token.
    #[must_use]
    pub fn of(host: &Host) -> Option<Self> {
        let (account, rest) = host.name().split_once('.')?;
        if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        // `dkr-ecr` has a dash exactly where the suffix begins with `on.`, yet AWS's grammar allows either.
        let rest = rest.strip_prefix("dkr.ecr").or_else(|| rest.strip_prefix("dkr-ecr"))?;
        let (fips, rest) = match rest.strip_prefix("-fips") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let (region, suffix) = rest.strip_prefix('.')?.split_once('.')?;
        let region_like = region.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !region_like || !SUFFIXES.contains(&suffix) {
            return None;
        }
        Some(Self {
            account: account.to_owned(),
            region: region.to_owned(),
            fips,
            dual_stack: suffix.starts_with("on."),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries() {
        let of = |host: &str| EcrRegistry::of(&Host::parse(host).unwrap());
        assert_eq!(of("public.ecr.aws"), Some(EcrRegistry::Public));
        assert_eq!(of("ecr-public.aws.com:443"), Some(EcrRegistry::Public));
        for host in ["public.ecr.aws.example.com", "xpublic.ecr.aws", "a.public.ecr.aws", "ecr-public.aws.com.cn"] {
            assert_eq!(of(host), None, "{host}");
        }
        let china = of("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn").unwrap();
        assert_eq!(china.arn("a/b"), "arn:aws-cn:ecr:cn-north-1:123456789012:repository/a/b");
        assert_eq!(EcrRegistry::Public.arn("alias/a/b"), "arn:aws:ecr-public::*:repository/a/b");
    }

    fn of(host: &str) -> Option<EcrHost> {
        EcrHost::of(&Host::parse(host).unwrap())
    }

    #[test]
    fn ecr() {
        let check = |host: &str, region: &str, fips, dual_stack| {
            let found = of(host).unwrap_or_else(|| panic!("{host}"));
            assert_eq!((found.region.as_str(), found.fips, found.dual_stack), (region, fips, dual_stack), "{host}");
            assert_eq!(found.account, "123456789012");
        };
        check("123456789012.dkr.ecr.us-west-2.amazonaws.com", "us-west-2", false, false);
        check("123456789012.dkr.ecr.us-west-2.amazonaws.com:443", "us-west-2", false, false);
        check("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1", true, false);
        check("123456789012.dkr-ecr.us-west-2.on.aws", "us-west-2", false, true);
        check("123456789012.dkr-ecr-fips.us-west-2.on.aws", "us-west-2", true, true);
        check("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1", false, false);
        check("123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", "cn-north-1", false, true);
        check("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1", false, false);
        check("123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov", "us-iso-east-1", false, false);
        check("123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1", false, false);
        check("123456789012.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk", "eu-isoe-west-1", false, false);
        check("123456789012.dkr.ecr.us-isof-south-1.csp.hci.ic.gov", "us-isof-south-1", false, false);
    }

    #[test]
    fn look_alikes() {
        let check = |host: &str| assert_eq!(of(host), None, "{host}");
        check("123456789012.dkr.ecr.us-west-2.amazonaws.com.fake.example.com");
        check("123456789012.dkr.ecr.us-west-2.amazonaws.com.cn.example.com");
        check("123456789012.dkr-ecr.us-west-2.on.aws.com.cn");
        check("x123456789012.dkr.ecr.us-west-2.amazonaws.com");
        check("12345678901.dkr.ecr.us-west-2.amazonaws.com");
        check("1234567890123.dkr.ecr.us-west-2.amazonaws.com");
        check("evil.123456789012.dkr.ecr.us-west-2.amazonaws.com");
        check("123456789012.dkr.ecr.amazonaws.com");
        check("123456789012.dkrxecr.us-west-2.amazonaws.com");
        check("123456789012.dkr.ecr-fipsy.us-west-2.amazonaws.com");
        check("123456789012.dkr.ecr.us-west-2.amazonaws.org");
        check("123456789012.dkr.ecr.us-west-2.evil.amazonaws.com");
        check("public.ecr.aws");
        check("localhost:5000");
    }
}
