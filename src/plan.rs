//! What goes where, in which order. Pure: it knows neither network nor disk.

use std::collections::{BTreeMap, HashSet};

use crate::image::Image;
use crate::oci::digest::Digest;
use crate::oci::reference::{Reference, Repository, Tag};

/// A repository to push to, with all that is to be written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The repository.
    pub repository: Repository,
    /// The tags, in the order in which they are written; none for a push by digest alone.
    pub tags: Vec<Tag>,
}

/// What is written where: destinations in one repository are one target, `--tag`s are added, and where neither tag nor
/// digest is given the tag is `latest`.
#[must_use]
pub fn targets(destinations: &[Reference], tags: &[Tag]) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    let latest = Tag::parse("latest").ok();
    for destination in destinations {
        let at = targets.iter().position(|target| target.repository == destination.repository);
        let at = at.unwrap_or_else(|| {
            targets.push(Target { repository: destination.repository.clone(), tags: Vec::new() });
            targets.len() - 1
        });
        let implied =
            latest.iter().filter(|_| destination.tag.is_none() && destination.digest.is_none() && tags.is_empty());
        for tag in destination.tag.iter().chain(tags).chain(implied) {
            if !targets[at].tags.contains(tag) {
                targets[at].tags.push(tag.clone());
            }
        }
    }
    targets
}

/// What a tag names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// The image that is pushed.
    Same,
    /// Another one.
    Other(Digest),
    /// Nothing.
    Absent,
}

/// What one repository has and lacks, as far as it was asked.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// What each of the target's tags names; for a target without tags, whether the root is there.
    pub looks: Vec<Look>,
    /// Manifests to write.
    pub manifests: HashSet<Digest>,
    /// Blobs to upload.
    pub blobs: HashSet<Digest>,
    /// Whether nobody has asked for these blobs yet: whoever opens an upload is told which of them are there.
    pub blobs_unasked: bool,
    /// Whether it is still to be asked which of the manifests below the root and the referrers are there.
    pub children_unasked: bool,
    /// Whether the repository was made just now.
    pub created: bool,
}

/// A blob, read once and sent to several repositories of one registry at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The targets' numbers.
    pub targets: Vec<usize>,
}

/// What one target gets once its blobs are there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Writes {
    /// Manifests by digest; those of one wave need all earlier waves and nothing of their own.
    pub waves: Vec<Vec<Digest>>,
    /// Whether the root has to be written by digest, because there is no tag to write it under.
    pub root_by_digest: bool,
    /// Numbers of the tags to write, in this order; the first brings the root along.
    pub tags: Vec<usize>,
    /// Referrers, a subject before what refers to it.
    pub referrers: Vec<Digest>,
}

impl Writes {
    /// Leaves out the manifests of the waves that aren't lacking after all.
    pub fn leave_out_all_but(&mut self, lacking: &HashSet<Digest>) {
        for wave in &mut self.waves {
            wave.retain(|digest| lacking.contains(digest));
        }
        self.waves.retain(|wave| !wave.is_empty());
    }
}

/// Steps in which every manifest follows all that it points to; tags come last, so that nobody ever resolves a
/// half-pushed image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The uploads, the largest first.
    pub uploads: Vec<Upload>,
    /// The writes of each target.
    pub writes: Vec<Writes>,
}

impl Plan {
    /// The plan for pushing `image`: `surveys` has one survey for each of `targets`, and `None` for one that failed.
    #[must_use]
    pub fn new(image: &Image, targets: &[Target], surveys: &[Option<Survey>]) -> Self {
        let mut uploads: BTreeMap<(&str, &Digest), Upload> = BTreeMap::new();
        for (at, survey) in surveys.iter().enumerate() {
            let host = targets[at].repository.host.as_str();
            for blob in survey.iter().flat_map(|survey| &survey.blobs).filter_map(|digest| image.blob(digest)) {
                let upload = uploads.entry((host, &blob.digest)).or_insert_with(|| Upload {
                    digest: blob.digest.clone(),
                    size: blob.size,
                    targets: Vec::new(),
                });
                upload.targets.push(at);
            }
        }
        let mut uploads: Vec<Upload> = uploads.into_values().collect();
        // The largest first: whatever is started last ends last, and that had better be something short. Stable, so that
        // equal sizes keep the order of their digests and a run can be compared with another.
        uploads.sort_by_key(|upload| std::cmp::Reverse(upload.size));
        let planned = surveys.iter().zip(targets).map(|(survey, target)| match survey {
            Some(survey) => writes(image, target, survey),
            None => Writes::default(),
        });
        Self { writes: planned.collect(), uploads }
    }
}

fn writes(image: &Image, target: &Target, survey: &Survey) -> Writes {
    let root = &image.root().manifest.digest;
    let referrers: Vec<Digest> =
        image.referrers().iter().filter(|digest| survey.manifests.contains(digest)).cloned().collect();
    let mut waves: Vec<Vec<Digest>> = Vec::new();
    for node in image.nodes() {
        let digest = &node.manifest.digest;
        if digest == root || referrers.contains(digest) || !survey.manifests.contains(digest) {
            continue;
        }
        if waves.len() <= node.height {
            waves.resize(node.height + 1, Vec::new());
        }
        waves[node.height].push(digest.clone());
    }
    waves.retain(|wave| !wave.is_empty());
    let tags = order(target, &survey.looks);
    let root_by_digest = target.tags.is_empty() && survey.manifests.contains(root);
    Writes { waves, root_by_digest, tags, referrers }
}

/// Numbers of the tags to write, in the order in which that is done.
#[must_use]
pub fn order(target: &Target, looks: &[Look]) -> Vec<usize> {
    // Without tags the one look was at the root itself.
    let looked = looks.iter().take(target.tags.len()).enumerate();
    let mut tags: Vec<usize> = looked.filter(|(_, look)| **look != Look::Same).map(|(at, _)| at).collect();
    // The tags that name another image come first: one of them may be immutable, and then no other has been written. If any
    // of these can be moved it is `latest`, which is what repositories except from immutability.
    tags.sort_by_key(|at| (!matches!(looks[*at], Look::Other(_)), target.tags[*at].as_str() == "latest"));
    tags
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::image::{Blob, Content, Node, Role};
    use crate::oci::digest::Algorithm;
    use crate::oci::manifest::Manifest;

    const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";

    fn blob(name: u64) -> Blob {
        let bytes = Bytes::from(vec![b'x'; usize::try_from(name).unwrap() + 1]);
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        let (size, role) = (bytes.len() as u64, Role::Config);
        Blob { digest, size, media_type: "text/plain".into(), role, content: Content::Held(bytes) }
    }

    fn descriptor(media_type: &str, digest: &Digest, size: u64) -> serde_json::Value {
        serde_json::json!({"mediaType": media_type, "digest": digest.as_str(), "size": size})
    }

    fn node(json: &serde_json::Value, media_type: &str, blobs: Vec<Digest>, height: usize) -> Node {
        let bytes = Bytes::from(json.to_string());
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        Node { manifest: Manifest::parse(&media_type.into(), &digest, bytes).unwrap(), blobs, height }
    }

    /// A tree: `shape` has for each image the numbers of its blobs, and every `fan` of them share an index.
    fn image(shape: &[Vec<u64>], fan: usize) -> Image {
        let mut blobs = BTreeMap::new();
        let mut nodes: Vec<Node> = Vec::new();
        let mut indexes = Vec::new();
        for (at, group) in shape.chunks(fan).enumerate() {
            let mut children = Vec::new();
            for (nth, numbers) in group.iter().enumerate() {
                let own: Vec<Blob> = numbers.iter().map(|n| blob(*n)).collect();
                let of: Vec<_> = own.iter().map(|b| descriptor("text/plain", &b.digest, b.size)).collect();
                let json = serde_json::json!({
                    "schemaVersion": 2, "config": of[0], "layers": of[1..],
                    "annotations": {"number": format!("{at}.{nth}")},
                });
                let digests = own.iter().map(|b| b.digest.clone()).collect();
                nodes.push(node(&json, IMAGE, digests, 0));
                children.push(descriptor(IMAGE, &nodes.last().unwrap().manifest.digest, 1));
                blobs.extend(own.into_iter().map(|b| (b.digest.clone(), b)));
            }
            let json =
                serde_json::json!({"schemaVersion": 2, "manifests": children, "annotations": {"n": at.to_string()}});
            nodes.push(node(&json, INDEX, Vec::new(), 1));
            indexes.push(descriptor(INDEX, &nodes.last().unwrap().manifest.digest, 1));
        }
        nodes.push(node(&serde_json::json!({"schemaVersion": 2, "manifests": indexes}), INDEX, Vec::new(), 2));
        let root = nodes.last().unwrap().manifest.digest.clone();
        Image::new(nodes, root, Vec::new(), blobs, Vec::new())
    }

    fn target(reference: &str) -> Target {
        let reference = Reference::parse(reference).unwrap();
        Target { repository: reference.repository, tags: reference.tag.into_iter().collect() }
    }

    fn all(image: &Image, looks: Vec<Look>) -> Survey {
        Survey {
            looks,
            manifests: image.nodes().iter().map(|node| node.manifest.digest.clone()).collect(),
            blobs: image.blobs().map(|blob| blob.digest.clone()).collect(),
            ..Survey::default()
        }
    }

    #[test]
    fn what_is_written_where() {
        let check = |destinations: &[&str], tags: &[&str], expected: &[(&str, &[&str])]| {
            let destinations: Vec<_> = destinations.iter().map(|text| Reference::parse(text).unwrap()).collect();
            let tags: Vec<_> = tags.iter().map(|text| Tag::parse(text).unwrap()).collect();
            let targets = targets(&destinations, &tags);
            let found: Vec<(String, Vec<&str>)> = targets
                .iter()
                .map(|target| (target.repository.to_string(), target.tags.iter().map(Tag::as_str).collect()))
                .collect();
            let expected: Vec<_> = expected.iter().map(|(name, tags)| ((*name).to_owned(), tags.to_vec())).collect();
            assert_eq!(found, expected);
        };
        let digest = format!("h.example/a@{}", Digest::of(crate::oci::digest::Algorithm::Sha256, b""));
        check(&["h.example/a"], &[], &[("h.example/a", &["latest"])]);
        check(&["h.example/a:v1"], &[], &[("h.example/a", &["v1"])]);
        check(&["h.example/a"], &["v1", "v2", "v1"], &[("h.example/a", &["v1", "v2"])]);
        check(
            &["h.example/a:v1", "h.example/b:v2"],
            &["x"],
            &[("h.example/a", &["v1", "x"]), ("h.example/b", &["v2", "x"])],
        );
        check(&["h.example/a:v1", "h.example/a:v2"], &[], &[("h.example/a", &["v1", "v2"])]);
        check(&[&digest], &[], &[("h.example/a", &[])]);
        check(&[&digest], &["v1"], &[("h.example/a", &["v1"])]);
        check(&[&digest, "h.example/a"], &[], &[("h.example/a", &["latest"])]);
    }

    #[test]
    fn one_reading_serves_all_repositories_of_a_registry() {
        let image = image(&[vec![1, 2], vec![1, 9]], 2);
        let targets = [target("a.example/x:v1"), target("a.example/y:v1"), target("b.example/x:v1")];
        let survey = all(&image, vec![Look::Absent]);
        let plan = Plan::new(&image, &targets, &[Some(survey.clone()), Some(survey.clone()), Some(survey)]);
        let targets: Vec<_> = plan.uploads.iter().map(|upload| upload.targets.as_slice()).collect();
        assert_eq!(targets, [&[0, 1][..], &[2], &[0, 1], &[2], &[0, 1], &[2]]);
        assert_eq!(plan.uploads[0].size, 10);
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let image = image(&[vec![1, 2]], 1);
        let survey = Survey { looks: vec![Look::Same, Look::Absent], ..Survey::default() };
        let two = Target { tags: vec![Tag::parse("v1").unwrap(), Tag::parse("v2").unwrap()], ..target("a.example/x") };
        let plan = Plan::new(&image, &[two], &[Some(survey)]);
        assert_eq!(plan.uploads, []);
        assert_eq!(plan.writes[0], Writes { tags: vec![1], ..Writes::default() });
        assert_eq!(Plan::new(&image, &[target("a.example/x:v1")], &[None]).writes, [Writes::default()]);
    }

    #[test]
    fn what_proves_to_be_there_is_left_out() {
        let image = image(&[vec![1, 2], vec![3, 4], vec![5, 6]], 2);
        let mut plan = Plan::new(&image, &[target("a.example/x:v1")], &[Some(all(&image, vec![Look::Absent]))]);
        let writes = &mut plan.writes[0];
        assert_eq!(writes.waves.iter().map(Vec::len).collect::<Vec<_>>(), [3, 2]);
        let kept = writes.waves[1][0].clone();
        writes.leave_out_all_but(&HashSet::from([kept.clone(), image.root().manifest.digest.clone()]));
        assert_eq!(*writes, Writes { waves: vec![vec![kept]], tags: vec![0], ..Writes::default() });
    }

    #[test]
    fn tags_that_may_be_refused_come_first() {
        let image = image(&[vec![1, 2]], 1);
        let tags = ["a", "latest", "c", "d"].map(|tag| Tag::parse(tag).unwrap()).to_vec();
        let other = Look::Other(image.root().manifest.digest.clone());
        let looks = vec![Look::Absent, other.clone(), Look::Same, other];
        let survey = Survey { looks, ..Survey::default() };
        let plan = Plan::new(&image, &[Target { tags, ..target("a.example/x") }], &[Some(survey)]);
        assert_eq!(plan.writes[0].tags, [3, 1, 0]);
    }

    #[test]
    fn without_tags_the_root_is_written_by_digest() {
        let image = image(&[vec![1, 2]], 1);
        let plan = Plan::new(&image, &[target("a.example/x")], &[Some(all(&image, vec![Look::Absent]))]);
        assert!(plan.writes[0].root_by_digest && plan.writes[0].tags.is_empty());
        let survey = Survey { looks: vec![Look::Same], ..Survey::default() };
        assert_eq!(Plan::new(&image, &[target("a.example/x")], &[Some(survey)]).writes, [Writes::default()]);
    }

    proptest! {
        #[test]
        fn children_precede_parents(
            shape in proptest::collection::vec(proptest::collection::vec(0_u64..20, 1..5), 1..12),
            fan in 1_usize..5,
        ) {
            let image = image(&shape, fan);
            let plan = Plan::new(&image, &[target("a.example/x:v1")], &[Some(all(&image, vec![Look::Absent]))]);
            let mut wave_of: HashMap<&Digest, usize> = HashMap::new();
            for (at, wave) in plan.writes[0].waves.iter().enumerate() {
                wave_of.extend(wave.iter().map(|digest| (digest, at)));
            }
            let root = &image.root().manifest.digest;
            prop_assert!(!wave_of.contains_key(root));
            prop_assert_eq!(wave_of.len() + 1, image.nodes().len());
            for node in image.nodes().iter().filter(|node| node.manifest.digest != *root) {
                for child in node.children() {
                    prop_assert!(wave_of[child] < wave_of[&node.manifest.digest]);
                }
            }
            prop_assert!(plan.uploads.is_sorted_by_key(|upload| std::cmp::Reverse(upload.size)));
            prop_assert_eq!(plan.uploads.len(), image.blobs().count());
        }
    }
}
