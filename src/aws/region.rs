//! AWS's regions: the form of their names, those that are known, and the partitions they lie in.
//!
//! The list is only for advice. A region that isn't in it is tried all the same, since new ones come.

/// A region that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Its name, such as `eu-central-1`.
    pub name: &'static str,
    /// Whether an account has to enable it before it may be used.
    pub opt_in: bool,
}

const fn open(name: &'static str) -> Region {
    Region { name, opt_in: false }
}

const fn opt_in(name: &'static str) -> Region {
    Region { name, opt_in: true }
}

/// The regions of all partitions as AWS lists them in November 2026.
const KNOWN: [Region; 46] = [
    open("us-east-1"),
    open("us-east-2"),
    open("us-west-1"),
    open("us-west-2"),
    opt_in("af-south-1"),
    opt_in("ap-east-1"),
    opt_in("ap-east-2"),
    open("ap-northeast-1"),
    open("ap-northeast-2"),
    open("ap-northeast-3"),
    open("ap-south-1"),
    opt_in("ap-south-2"),
    open("ap-southeast-1"),
    open("ap-southeast-2"),
    opt_in("ap-southeast-3"),
    opt_in("ap-southeast-4"),
    opt_in("ap-southeast-5"),
    opt_in("ap-southeast-6"),
    opt_in("ap-southeast-7"),
    open("ca-central-1"),
    opt_in("ca-west-1"),
    open("eu-central-1"),
    opt_in("eu-central-2"),
    open("eu-north-1"),
    opt_in("eu-south-1"),
    opt_in("eu-south-2"),
    open("eu-west-1"),
    open("eu-west-2"),
    open("eu-west-3"),
    opt_in("il-central-1"),
    opt_in("me-central-1"),
    opt_in("me-south-1"),
    opt_in("mx-central-1"),
    open("sa-east-1"),
    open("cn-north-1"),
    open("cn-northwest-1"),
    open("us-gov-east-1"),
    open("us-gov-west-1"),
    open("us-iso-east-1"),
    open("us-iso-west-1"),
    open("us-isob-east-1"),
    open("us-isob-west-1"),
    open("eu-isoe-west-1"),
    open("us-isof-east-1"),
    open("us-isof-south-1"),
    open("eusc-de-east-1"),
];

/// What is known of the region `name`, if anything is.
#[must_use]
pub fn known(name: &str) -> Option<Region> {
    KNOWN.into_iter().find(|region| region.name == name)
}

/// The known region whose name is most like `name`.
#[must_use]
pub fn nearest(name: &str) -> &'static str {
    let distance = |region: &&Region| strsim::damerau_levenshtein(region.name, name);
    KNOWN.iter().min_by_key(distance).map_or("us-east-1", |region| region.name)
}

/// Whether `name` has the form of a region: words of letters with dashes between, and a number behind the last.
#[must_use]
pub fn is_well_formed(name: &str) -> bool {
    let Some((words, number)) = name.rsplit_once('-') else { return false };
    let word = |word: &str| word.len() > 1 && word.bytes().all(|b| b.is_ascii_lowercase());
    words.contains('-') && words.split('-').all(word) && (1..=2).contains(&number.len()) && digits(number)
}

fn digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

/// The partition that a region lies in, as ARNs name it. By the beginning of its name, as AWS's own endpoint rules have it,
/// so that it is right for new regions too.
#[must_use]
pub fn partition(name: &str) -> &'static str {
    let starts = [
        ("cn-", "aws-cn"),
        ("us-gov-", "aws-us-gov"),
        ("us-iso-", "aws-iso"),
        ("us-isob-", "aws-iso-b"),
        ("eu-isoe-", "aws-iso-e"),
        ("us-isof-", "aws-iso-f"),
        ("eusc-", "aws-eusc"),
    ];
    starts.into_iter().find(|(start, _)| name.starts_with(start)).map_or("aws", |(_, partition)| partition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let check = |name: &str, expected| assert_eq!(is_well_formed(name), expected, "{name}");
        for region in KNOWN {
            check(region.name, true);
        }
        check("xx-future-12", true);
        check("ap-northeast2", false);
        check("apnortheast-2", false);
        check("ap-northeast-", false);
        check("ap-northeast-2a", false);
        check("ap-northeast-123", false);
        check("ap--northeast-2", false);
        check("ap_northeast-2", false);
        check("northeast2", false);
        check("2-2-2", false);
        check("", false);
    }

    #[test]
    fn nearest_ones() {
        let check = |name: &str, expected: &str| assert_eq!(nearest(name), expected, "{name}");
        check("ap-northeast2", "ap-northeast-2");
        check("apnortheast-1", "ap-northeast-1");
        check("us-esat-1", "us-east-1");
        check("eucentral1", "eu-central-1");
    }

    #[test]
    fn partitions() {
        let check = |name: &str, expected: &str| assert_eq!(partition(name), expected, "{name}");
        check("eu-west-1", "aws");
        check("cn-north-1", "aws-cn");
        check("us-gov-west-1", "aws-us-gov");
        check("us-iso-east-1", "aws-iso");
        check("us-isob-east-1", "aws-iso-b");
        check("eu-isoe-west-1", "aws-iso-e");
        check("us-isof-south-1", "aws-iso-f");
        check("eusc-de-east-1", "aws-eusc");
        check("xx-future-9", "aws");
    }

    #[test]
    fn some_have_to_be_enabled() {
        assert!(known("ap-east-1").unwrap().opt_in && !known("eu-west-1").unwrap().opt_in);
        assert_eq!(known("xx-future-9"), None);
    }
}
