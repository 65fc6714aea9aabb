use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Insert(u16, u32),
    Remove(u16),
    /// Keep the tree as it is now, to see that it stays so.
    Keep,
}

fn key(n: u16) -> Arc<str> {
    format!("k/{n}").into()
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..900_u16, any::<u32>()).prop_map(|(k, v)| Op::Insert(k, v)),
        5 => (0..900_u16).prop_map(Op::Remove),
        1 => Just(Op::Keep),
    ]
}

fn entries(tree: &Tree<u32>, from: &str) -> Vec<(String, u32)> {
    tree.iter_from(from).map(|(k, v)| (k.to_string(), v)).collect()
}

fn of(model: &BTreeMap<String, u32>, from: &str) -> Vec<(String, u32)> {
    model.range(from.to_owned()..).map(|(k, v)| (k.clone(), *v)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// A tree is a map, and a clone of it never changes.
    #[test]
    fn a_tree_is_a_map(ops in prop::collection::vec(op(), 0..3000), probe in 0..1000_u16) {
        let (mut tree, mut model) = (Tree::default(), BTreeMap::new());
        let mut kept = Vec::new();
        for op in ops {
            match op {
                Op::Insert(k, v) => {
                    prop_assert_eq!(tree.insert(key(k), v), model.insert(key(k).to_string(), v));
                }
                Op::Remove(k) => prop_assert_eq!(tree.remove(&key(k)), model.remove(&*key(k))),
                Op::Keep => kept.push((tree.clone(), model.clone())),
            }
            prop_assert_eq!(tree.len(), model.len());
        }
        kept.push((tree, model));
        let probe = key(probe);
        for (tree, model) in kept {
            prop_assert_eq!(entries(&tree, ""), of(&model, ""));
            prop_assert_eq!(entries(&tree, &probe), of(&model, &probe));
            prop_assert_eq!(tree.get(&probe), model.get(&*probe));
            prop_assert_eq!(tree.rank(&probe), model.range(..probe.to_string()).count());
        }
    }
}

/// The nodes of a tree that was filled and nearly emptied again were joined.
#[test]
fn an_emptied_tree_is_shallow() {
    let mut tree = Tree::default();
    for n in 0..20_000 {
        tree.insert(key(n), 0);
    }
    for n in 10..20_000 {
        tree.remove(&key(n));
    }
    assert_eq!(tree.len(), 10);
    let depth = |tree: &Tree<u32>| {
        let (mut node, mut depth) = (&tree.root, 1);
        while let Node::Branch(children) = &**node {
            (node, depth) = (&children[0].node, depth + 1);
        }
        depth
    };
    assert!(depth(&tree) <= 2, "{}", depth(&tree));
}

/// A change after a clone shares all nodes but those on its path.
#[test]
fn versions_share_their_nodes() {
    let mut tree = Tree::default();
    for n in 0..10_000 {
        tree.insert(key(n), 0);
    }
    let old = tree.clone();
    tree.insert(key(5000), 1);
    let nodes = |tree: &Tree<u32>| {
        let (mut all, mut open) = (std::collections::HashSet::new(), vec![Arc::clone(&tree.root)]);
        while let Some(node) = open.pop() {
            all.insert(Arc::as_ptr(&node) as usize);
            if let Node::Branch(children) = &*node {
                open.extend(children.iter().map(|c| Arc::clone(&c.node)));
            }
        }
        all
    };
    let (old, new) = (nodes(&old), nodes(&tree));
    assert!(old.len() > 100);
    assert!(new.difference(&old).count() <= 4);
}

/// Where the nodes of a tree lie.
fn nodes(tree: &Tree<u32>) -> std::collections::BTreeSet<usize> {
    fn below(node: &Arc<Node<u32>>, found: &mut std::collections::BTreeSet<usize>) {
        found.insert(Arc::as_ptr(node) as usize);
        if let Node::Branch(children) = &**node {
            children.iter().for_each(|child| below(&child.node, found));
        }
    }
    let mut found = std::collections::BTreeSet::new();
    below(&tree.root, &mut found);
    found
}

#[test]
fn a_change_copies_one_path_however_many_keys_there_are() {
    let mut tree = Tree::default();
    let mut copied = 0;
    for n in 0..2_000 {
        // Somebody reads the version before.
        let before = tree.clone();
        tree.insert(format!("key-{}", n * 7919 % 2_000).into(), n);
        copied += nodes(&tree).difference(&nodes(&before)).count();
    }
    assert_eq!(tree.values().count(), 2_000);
    // A root and a leaf each time, and now and then the half of a node that was split.
    assert!(copied <= 2_000 * 2 + 100, "{copied}");
}
