//! Against a plain map, and against the shape that the same prefixes give from nothing.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};

use super::*;

/// Lengths at the edges of nodes and families are as likely as all others together.
fn key() -> impl Strategy<Value = Key> {
    let lengths =
        prop_oneof![0..=128_u8, prop::sample::select(vec![0_u8, 1, 5, 6, 7, 12, 24, 32, 48, 64, 126, 127, 128])];
    // Few values per six bits, so that prefixes meet and nest.
    let addresses = vec(prop::sample::select(vec![0_u8, 0x01, 0x10, 0x80, 0xff]), 16);
    (addresses, lengths).prop_map(|(octets, length)| {
        let bits = u128::from_be_bytes(octets.try_into().unwrap());
        Key { bits, length: 128 }.shortened(length)
    })
}

/// The value of the longest prefix in `model` that holds `address`.
fn expected(model: &BTreeMap<(u8, u128), u32>, address: u128) -> Option<&u32> {
    let holding = |&&(length, bits): &&(u8, u128)| Key { bits, length }.holds(address);
    model.keys().rev().find(holding).map(|place| &model[place])
}

/// First and last address inside, and the ones just outside.
fn edges(key: &Key) -> [u128; 4] {
    let last = key.bits | u128::MAX.checked_shr(key.length.into()).unwrap_or(0);
    [key.bits, last, key.bits.wrapping_sub(1), last.wrapping_add(1)]
}

/// What a trie looks like: depth, maps and keys of its nodes; checks what every node promises.
fn shape<V>(trie: &Trie<V>) -> Vec<String> {
    fn walk<V>(branch: &Branch<V>, lines: &mut Vec<String>) {
        match branch {
            Branch::Leaf(leaf) => lines.push(format!("{:?}", leaf.key)),
            Branch::Node(node) => {
                assert_eq!(node.key.length % STRIDE, 0);
                assert_eq!(node.entries.len(), node.entry_map.count_ones() as usize);
                assert_eq!(node.branches.len(), node.branch_map.count_ones() as usize);
                assert!(node.entries.len() + node.branches.len() >= 2, "a node for one occupant");
                lines.push(format!("{:?} {:x} {:x}", node.key, node.entry_map, node.branch_map));
                lines.extend(node.entries.iter().map(|leaf| format!("{:?}", leaf.key)));
                for branch in &node.branches {
                    assert!(node.key.covers(&branch.key()) && branch.key().length >= node.key.length + STRIDE);
                    walk(branch, lines);
                }
            }
        }
    }
    let mut lines = Vec::new();
    trie.root.iter().for_each(|root| walk(root, &mut lines));
    lines
}

proptest! {
    #[test]
    fn a_trie_is_a_map_with_longest_match(steps in vec((key(), any::<bool>()), 1..150), addresses in vec(key(), 20)) {
        let mut trie = Trie::default();
        let mut model = BTreeMap::new();
        let mut keys = BTreeSet::new();
        for (number, (key, insert)) in steps.iter().enumerate() {
            let place = (key.length, key.bits);
            keys.insert(place);
            if *insert {
                trie.insert(*key, number as u32);
                model.insert(place, number as u32);
            } else {
                // Mostly something that is there.
                let victim = model.keys().nth(number % model.len().max(1)).copied().unwrap_or(place);
                let key = Key { length: victim.0, bits: victim.1 };
                prop_assert_eq!(trie.remove(&key), model.remove(&victim).is_some());
                let again = trie.remove(&key);
                prop_assert!(!again);
            }
        }
        for (length, bits) in keys {
            let key = Key { bits, length };
            prop_assert_eq!(trie.get(&key), model.get(&(length, bits)));
            prop_assert_eq!(trie.get_mut(&key).map(|value| *value), model.get(&(length, bits)).copied());
            for address in edges(&key) {
                prop_assert_eq!(trie.lookup(address), expected(&model, address));
            }
        }
        for key in addresses {
            prop_assert_eq!(trie.lookup(key.bits), expected(&model, key.bits));
        }
        let mut fresh = Trie::default();
        for (&(length, bits), &value) in &model {
            fresh.insert(Key { bits, length }, value);
        }
        prop_assert_eq!(shape(&trie), shape(&fresh), "the shape tells the way it was made");
        prop_assert_eq!(trie.is_empty(), model.is_empty());
    }

    #[test]
    fn a_clone_never_changes(
        before in vec(key(), 0..60),
        after in vec((key(), any::<bool>()), 1..60),
    ) {
        let mut trie = Trie::default();
        let mut model = BTreeMap::new();
        for (number, key) in before.iter().enumerate() {
            trie.insert(*key, number as u32);
            model.insert((key.length, key.bits), number as u32);
        }
        let (kept, kept_shape) = (trie.clone(), shape(&trie));
        for (number, (key, insert)) in after.iter().enumerate() {
            if *insert {
                trie.insert(*key, 1000);
            } else if let Some(old) = before.get(number) {
                trie.remove(old);
            }
            if let Some(value) = trie.get_mut(key) {
                *value = 2000;
            }
        }
        prop_assert_eq!(shape(&kept), kept_shape);
        for (&(length, bits), value) in &model {
            prop_assert_eq!(kept.get(&Key { bits, length }), Some(value));
        }
    }
}

fn nodes<V>(trie: &Trie<V>) -> Vec<*const Node<V>> {
    fn walk<V>(branch: &Branch<V>, found: &mut Vec<*const Node<V>>) {
        if let Branch::Node(node) = branch {
            found.push(Arc::as_ptr(node));
            node.branches.iter().for_each(|branch| walk(branch, found));
        }
    }
    let mut found = Vec::new();
    trie.root.iter().for_each(|root| walk(root, &mut found));
    found
}

#[test]
fn a_change_copies_the_way_to_it_once_and_shares_the_rest() {
    let host = |number: u32| Key { bits: u128::from(number) << 96, length: 32 };
    let mut trie = Trie::default();
    (0..50_000_u32).for_each(|number| trie.insert(host(number.wrapping_mul(0x9e37_79b9)), number));
    let before: BTreeSet<_> = nodes(&trie).into_iter().collect();
    let kept = trie.clone();

    let new = |trie: &Trie<u32>| nodes(trie).into_iter().filter(|node| !before.contains(node)).count();
    trie.insert(host(0), 7);
    let copied = new(&trie);
    assert!((1..=6).contains(&copied), "an IPv4 change copies at most one node a level: {copied}");
    let nodes_once = nodes(&trie);
    trie.insert(host(0), 8);
    trie.insert(host(0), 9);
    assert_eq!(nodes(&trie), nodes_once, "a second change of the same batch copies nothing");
    assert_eq!((kept.get(&host(0)), trie.get(&host(0))), (Some(&0), Some(&9)));
}

#[test]
fn hosts_of_ipv6_need_no_chains_of_nodes() {
    let mut trie = Trie::default();
    for number in 0..1000_u128 {
        trie.insert(Key { bits: number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835), length: 128 }, ());
    }
    assert!(nodes(&trie).len() < 1000, "{} nodes for 1000 scattered hosts", nodes(&trie).len());
}
