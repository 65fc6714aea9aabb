//! A persistent ordered map: a B-tree whose nodes are shared between its versions.
//!
//! Cloning takes a pointer. A change copies the nodes on its path, and only those that another clone still
//! holds; without clones it changes them in place.

use std::sync::Arc;

/// The most entries of a leaf, or children of a branch.
const WIDTH: usize = 64;

#[derive(Clone, Debug)]
enum Node<V> {
    Leaf(Vec<(Arc<str>, V)>),
    Branch(Vec<Child<V>>),
}

#[derive(Clone, Debug)]
struct Child<V> {
    /// No key in the child is smaller, every key in the children before it is.
    from: Arc<str>,
    count: usize,
    node: Arc<Node<V>>,
}

/// An ordered map from text to `V`.
#[derive(Clone, Debug)]
pub struct Tree<V> {
    root: Arc<Node<V>>,
    count: usize,
}

impl<V> Default for Tree<V> {
    fn default() -> Self {
        Self { root: Arc::new(Node::Leaf(Vec::new())), count: 0 }
    }
}

impl<V: Clone> Tree<V> {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn get(&self, key: &str) -> Option<&V> {
        let mut node = &self.root;
        loop {
            match &**node {
                Node::Branch(children) => node = &children[child_of(children, key)].node,
                Node::Leaf(entries) => return find(entries, key).ok().map(|at| &entries[at].1),
            }
        }
    }

    /// Sets a key's value; returns the one before.
    pub fn insert(&mut self, key: Arc<str>, value: V) -> Option<V> {
        let (old, split) = Arc::make_mut(&mut self.root).insert(key, value);
        if let Some(right) = split {
            let left = std::mem::replace(&mut self.root, Arc::new(Node::Leaf(Vec::new())));
            let left = Child { from: "".into(), count: left.count(), node: left };
            self.root = Arc::new(Node::Branch(vec![left, right]));
        }
        self.count += usize::from(old.is_none());
        old
    }

    /// Removes a key; returns its value.
    pub fn remove(&mut self, key: &str) -> Option<V> {
        // Nothing is copied for a key that is not there.
        self.get(key)?;
        let old = Arc::make_mut(&mut self.root).remove(key)?;
        self.count -= 1;
        if let Node::Branch(children) = &*self.root
            && let [only] = children.as_slice()
        {
            self.root = Arc::clone(&only.node);
        }
        Some(old)
    }

    /// All values in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        let mut path = vec![(&*self.root, 0)];
        std::iter::from_fn(move || {
            loop {
                let (node, at) = path.last_mut()?;
                let next = *at;
                *at += 1;
                match *node {
                    Node::Leaf(entries) => match entries.get(next) {
                        Some((_, value)) => return Some(value),
                        None => drop(path.pop()),
                    },
                    Node::Branch(children) => match children.get(next) {
                        Some(child) => path.push((&*child.node, 0)),
                        None => drop(path.pop()),
                    },
                }
            }
        })
    }

    /// How many keys are smaller.
    pub fn rank(&self, key: &str) -> usize {
        let (mut node, mut rank) = (&self.root, 0);
        loop {
            match &**node {
                Node::Branch(children) => {
                    let at = child_of(children, key);
                    rank += children[..at].iter().map(|c| c.count).sum::<usize>();
                    node = &children[at].node;
                }
                Node::Leaf(entries) => return rank + find(entries, key).unwrap_or_else(|at| at),
            }
        }
    }

    /// The entries from `key` on, in order. The iterator holds this version of the tree.
    pub fn iter_from(&self, key: &str) -> Iter<V> {
        let mut path = Vec::new();
        let mut node = &self.root;
        loop {
            match &**node {
                Node::Branch(children) => {
                    let at = child_of(children, key);
                    path.push((Arc::clone(node), at + 1));
                    node = &children[at].node;
                }
                Node::Leaf(entries) => {
                    let at = find(entries, key).unwrap_or_else(|at| at);
                    path.push((Arc::clone(node), at));
                    return Iter { path };
                }
            }
        }
    }
}

/// Where a key is, or where it would be.
fn find<V>(entries: &[(Arc<str>, V)], key: &str) -> Result<usize, usize> {
    entries.binary_search_by(|(k, _)| (**k).cmp(key))
}

/// The child that has the key, if any has. (The first child's `from` doesn't matter.)
fn child_of<V>(children: &[Child<V>], key: &str) -> usize {
    children.partition_point(|c| &*c.from <= key).saturating_sub(1)
}

impl<V: Clone> Node<V> {
    /// How many entries are below.
    fn count(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.len(),
            Self::Branch(children) => children.iter().map(|c| c.count).sum(),
        }
    }

    /// How many entries or children it has itself.
    fn width(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.len(),
            Self::Branch(children) => children.len(),
        }
    }

    /// Returns the value before, and the right half where the node had to be split.
    fn insert(&mut self, key: Arc<str>, value: V) -> (Option<V>, Option<Child<V>>) {
        match self {
            Self::Leaf(entries) => match find(entries, &key) {
                Ok(at) => return (Some(std::mem::replace(&mut entries[at].1, value)), None),
                Err(at) => entries.insert(at, (key, value)),
            },
            Self::Branch(children) => {
                let at = child_of(children, &key);
                let child = &mut children[at];
                let (old, split) = Arc::make_mut(&mut child.node).insert(key, value);
                child.count += usize::from(old.is_none());
                if let Some(right) = split {
                    child.count -= right.count;
                    children.insert(at + 1, right);
                }
                if old.is_some() {
                    return (old, None);
                }
            }
        }
        (None, self.split())
    }

    /// Cuts off the right half of a node that is too wide.
    fn split(&mut self) -> Option<Child<V>> {
        if self.width() <= WIDTH {
            return None;
        }
        let (from, right) = match self {
            Self::Leaf(entries) => {
                let right = entries.split_off(WIDTH / 2);
                (Arc::clone(&right[0].0), Self::Leaf(right))
            }
            Self::Branch(children) => {
                let right = children.split_off(WIDTH / 2);
                (Arc::clone(&right[0].from), Self::Branch(right))
            }
        };
        Some(Child { from, count: right.count(), node: Arc::new(right) })
    }

    fn remove(&mut self, key: &str) -> Option<V> {
        match self {
            Self::Leaf(entries) => Some(entries.remove(find(entries, key).ok()?).1),
            Self::Branch(children) => {
                let at = child_of(children, key);
                let old = Arc::make_mut(&mut children[at].node).remove(key)?;
                children[at].count -= 1;
                join(children, at);
                Some(old)
            }
        }
    }

    /// Takes in the entries or children of the node to the right.
    fn append(&mut self, right: &Self) {
        match (self, right) {
            (Self::Leaf(entries), Self::Leaf(more)) => entries.extend_from_slice(more),
            (Self::Branch(children), Self::Branch(more)) => children.extend_from_slice(more),
            // All leaves are at one depth.
            _ => unreachable!("neighbours are of one sort"),
        }
    }
}

/// Joins a child that became narrow with a neighbour, if one node can hold both.
fn join<V: Clone>(children: &mut Vec<Child<V>>, at: usize) {
    if children[at].node.width() > WIDTH / 4 {
        return;
    }
    for left in [at, at.wrapping_sub(1)] {
        let Some([a, b]) = children.get_mut(left..).and_then(|c| c.first_chunk_mut::<2>()) else { continue };
        if a.node.width() + b.node.width() <= WIDTH {
            Arc::make_mut(&mut a.node).append(&b.node);
            a.count += b.count;
            children.remove(left + 1);
            return;
        }
    }
}

/// The entries of one version of a tree.
#[derive(Debug)]
pub struct Iter<V> {
    /// From the root to a leaf: each node and what comes next in it.
    path: Vec<(Arc<Node<V>>, usize)>,
}

impl<V: Clone> Iterator for Iter<V> {
    type Item = (Arc<str>, V);

    fn next(&mut self) -> Option<(Arc<str>, V)> {
        loop {
            let (node, at) = self.path.last_mut()?;
            let next = *at;
            *at += 1;
            let below = match &**node {
                Node::Leaf(entries) => match entries.get(next) {
                    Some(entry) => return Some(entry.clone()),
                    None => None,
                },
                Node::Branch(children) => children.get(next).map(|c| Arc::clone(&c.node)),
            };
            match below {
                Some(below) => self.path.push((below, 0)),
                None => drop(self.path.pop()),
            }
        }
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
