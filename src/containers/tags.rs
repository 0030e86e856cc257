//! Everything a claim may name, pointing at the container lives it names. Pure.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;

use crate::model::{Container, ContainerKey};

/// Shortest prefix of an id that counts: the twelve digits that `docker ps` shows.
const MIN_ID_PREFIX: usize = 12;

/// One thing that can be claimed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tag {
    /// `container.id`
    Id(String),
    /// `k8s.pod.uid`
    PodUid(String),
    /// `k8s.pod.ip`
    PodIp(IpAddr),
    /// `k8s.pod.name`
    PodName(String),
    /// `k8s.namespace.name`
    PodNamespace(String),
    /// `k8s.container.name`
    ContainerName(String),
}

/// Oldest first (keys grow with time).
pub(super) type Keys = BTreeSet<ContainerKey>;

/// The lives of each tag.
#[derive(Debug, Default)]
pub(super) struct Tags {
    /// By themselves, to be asked for without a copy of what is asked for: every request does.
    ids: BTreeMap<String, Keys>,
    others: BTreeMap<Tag, Keys>,
}

static NOBODY: Keys = Keys::new();

/// What a container can be found by. A pod's pause container is found by its id only: claims about the pod mean the others.
pub(super) fn tags_of(container: &Container, pod_ips: &[IpAddr]) -> Vec<Tag> {
    let mut tags = vec![Tag::Id(container.id.clone())];
    if container.sandbox {
        return tags;
    }
    tags.extend(container.k8s_container_name.clone().map(Tag::ContainerName));
    if let Some(pod) = &container.pod {
        tags.push(Tag::PodUid(pod.uid.clone()));
        tags.extend(pod.name.clone().map(Tag::PodName));
        tags.extend(pod.namespace.clone().map(Tag::PodNamespace));
        tags.extend(pod_ips.iter().copied().map(Tag::PodIp));
    }
    tags
}

impl Tags {
    pub(super) fn insert(&mut self, tag: Tag, key: ContainerKey) {
        let keys = match tag {
            Tag::Id(id) => self.ids.entry(id).or_default(),
            tag => self.others.entry(tag).or_default(),
        };
        keys.insert(key);
    }

    pub(super) fn remove(&mut self, tag: &Tag, key: ContainerKey) {
        match tag {
            Tag::Id(id) => remove_from(&mut self.ids, id, key),
            tag => remove_from(&mut self.others, tag, key),
        }
    }

    /// The lives this tag names.
    pub(super) fn get(&self, tag: &Tag) -> &Keys {
        let keys = match tag {
            Tag::Id(id) => self.ids.get(id),
            tag => self.others.get(tag),
        };
        keys.unwrap_or(&NOBODY)
    }

    /// The lives of the container with this id, or with the only id that begins so.
    pub(super) fn by_id(&self, id: &str) -> &Keys {
        if let Some(keys) = self.ids.get(id) {
            return keys;
        }
        if id.len() < MIN_ID_PREFIX || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return &NOBODY;
        }
        let after = (Bound::Excluded(id), Bound::Unbounded);
        let mut beginning_so = self.ids.range::<str, _>(after).take_while(|(full, _)| full.starts_with(id));
        match (beginning_so.next(), beginning_so.next()) {
            (Some((_, keys)), None) => keys,
            _ => &NOBODY,
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ids.len() + self.others.len()
    }
}

fn remove_from<T: Ord + Borrow<Q>, Q: Ord + ?Sized>(tags: &mut BTreeMap<T, Keys>, tag: &Q, key: ContainerKey) {
    if let Some(keys) = tags.get_mut(tag) {
        keys.remove(&key);
        if keys.is_empty() {
            tags.remove(tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_whole_or_by_its_only_prefix() {
        let mut tags = Tags::default();
        for (id, key) in [("abcdef0123456789", 1), ("abcdef0123450000", 2), ("1234567890abcdef", 3), ("web", 4), ("webserver-long-name", 5)]
        {
            tags.insert(Tag::Id(id.to_owned()), ContainerKey(key));
        }
        tags.insert(Tag::PodUid("1234567890ab0000".to_owned()), ContainerKey(9));
        for (claim, expected) in [
            ("abcdef0123456789", Some(1)),
            ("abcdef0123456", Some(1)),
            ("abcdef012345", None),
            ("1234567890ab", Some(3)),
            ("1234567890a", None),
            ("web", Some(4)),
            ("webserver-lo", None),
            ("", None),
            ("ffffffffffffffff", None),
        ] {
            assert_eq!(tags.by_id(claim).first().map(|key| key.0), expected, "{claim}");
        }
    }

    #[test]
    fn nothing_is_left_of_a_tag_without_lives() {
        let mut tags = Tags::default();
        for tag in [Tag::PodName("a".to_owned()), Tag::Id("a".to_owned())] {
            tags.insert(tag.clone(), ContainerKey(1));
            assert_eq!((tags.len(), tags.get(&tag).len()), (1, 1));
            tags.remove(&tag, ContainerKey(1));
            assert_eq!((tags.len(), tags.get(&tag).len()), (0, 0));
        }
    }
}
