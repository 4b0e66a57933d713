//! A map that keeps the order in which its keys came, as the dictionaries of fail2ban's reader do: the order of jails, and that
//! in which options are substituted.

use std::collections::BTreeMap;

/// Keys in the order they came, each with its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ordered<V> {
    entries: Vec<(String, V)>,
    places: BTreeMap<String, usize>,
}

impl<V> Default for Ordered<V> {
    fn default() -> Self {
        Self { entries: Vec::new(), places: BTreeMap::new() }
    }
}

impl<V> Ordered<V> {
    pub(crate) fn get(&self, key: &str) -> Option<&V> {
        self.places.get(key).map(|&at| &self.entries[at].1)
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// Sets a value; a key that is there keeps its place.
    pub(crate) fn set(&mut self, key: impl Into<String>, value: V) {
        let key = key.into();
        if let Some(&at) = self.places.get(&key) {
            self.entries[at].1 = value;
        } else {
            self.places.insert(key.clone(), self.entries.len());
            self.entries.push((key, value));
        }
    }

    /// The value of a key, made when it is missing.
    pub(crate) fn entry(&mut self, key: &str) -> &mut V
    where
        V: Default,
    {
        let at = self.places.get(key).copied().unwrap_or_else(|| {
            self.set(key, V::default());
            self.entries.len() - 1
        });
        &mut self.entries[at].1
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn at(&self, index: usize) -> (&str, &V) {
        let (key, value) = &self.entries[index];
        (key, value)
    }

    pub(crate) fn set_at(&mut self, index: usize, value: V) {
        self.entries[index].1 = value;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(key, _)| key.as_str())
    }
}

impl<V: Clone> Ordered<V> {
    /// Sets all values of another map.
    pub(crate) fn update(&mut self, other: &Self) {
        for (key, value) in other.iter() {
            self.set(key, value.clone());
        }
    }
}
