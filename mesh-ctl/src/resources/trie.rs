//! A persistent hash table: a clone costs one pointer, and a change copies only the path to it.
//!
//! Items that share a hash are told apart by the caller, so one type serves as a map and as an index
//! with several items for a key. It never shrinks below the branches that it once needed.

use std::sync::Arc;

const BITS: u32 = 4;
const WIDTH: usize = 1 << BITS;
/// A leaf with more items becomes a branch.
const LEAF: usize = 24;

#[derive(Debug)]
enum Node<T> {
    Leaf(Arc<Vec<(u64, T)>>),
    Branch(Arc<[Node<T>; WIDTH]>),
}

// Written out because a derived one would ask for `T: Clone`.
impl<T> Clone for Node<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Leaf(items) => Self::Leaf(Arc::clone(items)),
            Self::Branch(children) => Self::Branch(Arc::clone(children)),
        }
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self::Leaf(Arc::default())
    }
}

/// The table.
#[derive(Debug)]
pub(crate) struct Trie<T> {
    root: Node<T>,
    len: usize,
}

impl<T> Clone for Trie<T> {
    fn clone(&self) -> Self {
        Self {
            root: self.root.clone(),
            len: self.len,
        }
    }
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self {
            root: Node::default(),
            len: 0,
        }
    }
}

fn child(hash: u64, shift: u32) -> usize {
    // Masked to the width.
    (hash >> shift) as usize % WIDTH
}

impl<T> Trie<T> {
    /// How many items there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// True when there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The items of that hash, in no order.
    pub(crate) fn of(&self, hash: u64) -> impl Iterator<Item = &T> {
        let (mut node, mut shift) = (&self.root, 0);
        let items = loop {
            match node {
                Node::Leaf(items) => break items,
                Node::Branch(children) => node = &children[child(hash, shift)],
            }
            shift += BITS;
        };
        items
            .iter()
            .filter(move |(of, _)| *of == hash)
            .map(|(_, item)| item)
    }

    /// All items, in no order.
    pub(crate) fn iter(&self) -> Iter<'_, T> {
        Iter {
            path: vec![std::slice::from_ref(&self.root).iter()],
            leaf: [].iter(),
        }
    }

    /// All items, in no order, of the table as it is now.
    pub(crate) fn walk(&self) -> Walk<T> {
        Walk {
            path: vec![(self.root.clone(), 0)],
        }
    }
}

impl<T: Clone> Trie<T> {
    /// Puts an item in the place of the one that is the `same`, if there is one.
    pub(crate) fn insert(&mut self, hash: u64, item: T, same: impl Fn(&T) -> bool) -> Option<T> {
        let (mut node, mut shift) = (&mut self.root, 0);
        loop {
            match node {
                Node::Branch(children) => {
                    node = &mut Arc::make_mut(children)[child(hash, shift)];
                    shift += BITS;
                }
                Node::Leaf(items) => {
                    let items = Arc::make_mut(items);
                    let found = items.iter_mut().find(|(of, old)| *of == hash && same(old));
                    if let Some((_, old)) = found {
                        return Some(std::mem::replace(old, item));
                    }
                    items.push((hash, item));
                    self.len += 1;
                    if items.len() > LEAF && shift < u64::BITS {
                        *node = split(std::mem::take(items), shift);
                    }
                    return None;
                }
            }
        }
    }

    /// Takes the `same` item out.
    pub(crate) fn remove(&mut self, hash: u64, same: impl Fn(&T) -> bool) -> Option<T> {
        if !self.of(hash).any(&same) {
            return None;
        }
        let (mut node, mut shift) = (&mut self.root, 0);
        loop {
            match node {
                Node::Branch(children) => {
                    node = &mut Arc::make_mut(children)[child(hash, shift)];
                    shift += BITS;
                }
                Node::Leaf(items) => {
                    let items = Arc::make_mut(items);
                    let at = items
                        .iter()
                        .position(|(of, old)| *of == hash && same(old))?;
                    self.len -= 1;
                    return Some(items.swap_remove(at).1);
                }
            }
        }
    }
}

fn split<T>(items: Vec<(u64, T)>, shift: u32) -> Node<T> {
    let mut children: [Vec<(u64, T)>; WIDTH] = std::array::from_fn(|_| Vec::new());
    for item in items {
        children[child(item.0, shift)].push(item);
    }
    Node::Branch(Arc::new(children.map(|items| Node::Leaf(Arc::new(items)))))
}

/// Borrows every item.
pub(crate) struct Iter<'a, T> {
    path: Vec<std::slice::Iter<'a, Node<T>>>,
    leaf: std::slice::Iter<'a, (u64, T)>,
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        loop {
            if let Some((_, item)) = self.leaf.next() {
                return Some(item);
            }
            match self.path.last_mut()?.next() {
                None => _ = self.path.pop(),
                Some(Node::Leaf(items)) => self.leaf = items.iter(),
                Some(Node::Branch(children)) => self.path.push(children.iter()),
            }
        }
    }
}

/// Yields every item of the table as it was, whatever becomes of it.
#[derive(Debug)]
pub(crate) struct Walk<T> {
    /// Each node on the way, and the next of its children or items.
    path: Vec<(Node<T>, usize)>,
}

impl<T: Clone> Iterator for Walk<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        loop {
            let (node, next) = self.path.last_mut()?;
            let at = *next;
            *next += 1;
            match node {
                Node::Leaf(items) => match items.get(at) {
                    Some((_, item)) => return Some(item.clone()),
                    None => _ = self.path.pop(),
                },
                Node::Branch(children) => match children.get(at).cloned() {
                    Some(child) => self.path.push((child, 0)),
                    None => _ = self.path.pop(),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// Few bits, so that items collide and branches end.
    fn hash(key: u32) -> u64 {
        u64::from(key % 512).wrapping_mul(0x9e37_79b9_7f4a_7c15) & 0xf00f_0000_00ff
    }

    #[test]
    fn it_holds_what_a_map_holds_and_older_clones_do_not_change() {
        let mut random = 1u64;
        let mut roll = |n: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % n
        };
        let (mut trie, mut map) = (Trie::default(), BTreeMap::new());
        let mut older = Vec::new();
        for step in 0..20_000u32 {
            let key = roll(3000) as u32;
            if roll(3) == 0 {
                let gone = trie.remove(hash(key), |(k, _)| *k == key);
                assert_eq!(gone, map.remove(&key).map(|v| (key, v)));
            } else {
                let before = trie.insert(hash(key), (key, step), |(k, _)| *k == key);
                assert_eq!(before, map.insert(key, step).map(|v| (key, v)));
            }
            assert_eq!(trie.len(), map.len());
            if step % 2500 == 0 {
                older.push((trie.clone(), map.clone()));
            }
        }
        older.push((trie, map));
        for (trie, map) in older {
            let all: BTreeMap<u32, u32> = trie.iter().copied().collect();
            assert_eq!(all, map);
            assert_eq!(trie.walk().collect::<BTreeMap<_, _>>(), map);
            for key in 0..3000 {
                let found = trie.of(hash(key)).find(|(k, _)| *k == key);
                assert_eq!(found.map(|(_, v)| v), map.get(&key));
            }
        }
    }

    #[test]
    fn items_of_one_hash_stay_apart() {
        let mut trie = Trie::default();
        for item in 0..100 {
            trie.insert(7, item, |old| *old == item);
        }
        let all: BTreeSet<i32> = trie.of(7).copied().collect();
        assert_eq!(all.len(), 100);
        assert!(!trie.is_empty() && trie.of(8).next().is_none());
    }
}
