//! One collection: its newest version, its ring, its watchers and its paged lists.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::RwLock;
use tiphys_store::Revision;
use tokio::{sync::watch as tell, time::Instant};

use super::{
    At, Error, Filter, Limits, ListOptions, Notice, Object, Page, Spec, Start, Watch, WatchOptions,
    feed::{Feed, Shelf},
    list::{Objects, Token},
    projection::Projection,
    state::{Happened, Ring, Root, Shared},
    watch::{Initial, Watcher},
};

/// Which changes a watcher has to be shown at all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Group {
    All,
    /// Those of one object.
    Object(Box<str>),
    /// Those of objects that have, or had, a value in an indexed field: its place in [`Spec::indexed`].
    Field(usize, Box<str>),
}

#[derive(Debug)]
struct State {
    root: Root,
    /// The newest change of the collection.
    changed: Revision,
    ring: Ring,
    /// What was newest when the window began. Lists of what was before have ended, also where nothing has changed since, as
    /// upstream's end with compaction.
    horizon: Revision,
    watchers: HashMap<Group, BTreeMap<u64, Arc<Watcher>>>,
    next_watcher: u64,
    /// Versions that paged lists go on with, and since when.
    pins: BTreeMap<Revision, (Root, Instant)>,
    /// It was removed: there are no more watches and lists.
    removed: bool,
}

/// One collection of objects.
#[derive(Debug)]
pub struct Collection {
    spec: Spec,
    projection: Arc<Projection>,
    feed: Arc<Feed>,
    state: RwLock<State>,
    changes: tell::Sender<Revision>,
    slow: AtomicU64,
    received: AtomicU64,
}

/// A change as the feed brings it; `None`: deleted.
pub(super) struct Incoming {
    pub(super) key: Arc<str>,
    pub(super) revision: Revision,
    pub(super) object: Option<Arc<Object>>,
}

impl Collection {
    /// A collection whose objects at `revision` are `root`.
    pub(super) fn new(
        spec: Spec,
        projection: Arc<Projection>,
        feed: Arc<Feed>,
        root: Root,
        revision: Revision,
    ) -> Arc<Self> {
        let state = State {
            root,
            changed: revision,
            ring: Ring::new(revision),
            horizon: Revision::ZERO,
            watchers: HashMap::new(),
            next_watcher: 0,
            pins: BTreeMap::new(),
            removed: false,
        };
        let changes = tell::Sender::new(revision);
        let (slow, received) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { spec, projection, feed, state: RwLock::new(state), changes, slow, received })
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    pub(super) fn projection(&self) -> &Arc<Projection> {
        &self.projection
    }

    pub(super) fn shelf(&self) -> Shelf {
        Shelf { spec: self.spec.clone(), projection: Arc::clone(&self.projection) }
    }

    fn limits(&self) -> &Limits {
        self.feed.limits()
    }

    /// What the cache holds now, without waiting: for authorizers and other callers who can live with a
    /// moment's delay, or who called [`Cache::wait`](super::Cache::wait) before.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let state = self.state.read();
        if namespace.is_empty() {
            return state.root.get(name).cloned();
        }
        state.root.get(&format!("{namespace}/{name}")).cloned()
    }

    /// Whether there is no object at all now, without waiting.
    pub fn is_empty(&self) -> bool {
        self.state.read().root.is_empty()
    }

    /// All objects (of one namespace) now, in key order, without waiting.
    pub fn iter(&self, namespace: Option<&str>) -> impl Iterator<Item = Arc<Object>> + Send + use<> {
        let filter = Filter { namespace: namespace.map(Arc::from), ..Filter::default() };
        self.state.read().root.matching(filter, "", usize::MAX)
    }

    /// The objects whose indexed field has this value, without waiting; none for a field without an index.
    pub fn by_field(&self, field: &str, value: &str) -> impl Iterator<Item = Arc<Object>> + Send + use<> {
        self.state.read().root.by_field(field, value)
    }

    /// How many objects there are now.
    pub fn count(&self) -> usize {
        self.state.read().root.len()
    }

    /// Tells each time that this collection has changed; the value is the newest change.
    pub fn changes(&self) -> tell::Receiver<Revision> {
        self.changes.subscribe()
    }

    /// One object with the promise that `at` makes. `Ok(None)`: it does not exist.
    ///
    /// # Errors
    /// The revision does not happen in time.
    pub async fn read(&self, at: At, namespace: &str, name: &str) -> Result<Option<Arc<Object>>, Error> {
        self.feed.wait_at(&at).await?;
        Ok(self.get(namespace, name))
    }

    /// A page of objects in key order, all as of one revision.
    ///
    /// # Errors
    /// The revision does not happen in time, or is no longer known.
    pub async fn list(&self, options: ListOptions) -> Result<Page, Error> {
        let ListOptions { at, filter, limit } = options;
        let scope = filter.prefix();
        let token = match &at {
            At::Continue(token) => Some(Token::decode(token, &scope)?),
            _ => None,
        };
        match &token {
            Some(Token { revision: Some(revision), .. }) => self.feed.wait(*revision).await?,
            Some(Token { revision: None, .. }) => self.feed.wait_at(&At::Newest).await?,
            None => self.feed.wait_at(&at).await?,
        }
        let (root, revision) = match (&at, &token) {
            (At::Exact(revision), _) => (self.version(*revision).ok_or(Error::Expired)?, *revision),
            (_, Some(Token { revision: Some(revision), start })) => {
                let next = || Token { revision: None, start: start.clone() }.encode();
                let root = self.version(*revision).ok_or_else(|| Error::ContinueExpired { next: next() })?;
                (root, *revision)
            }
            _ => self.newest()?,
        };
        let start = token.map(|token| token.start).unwrap_or_default();
        Ok(self.page(root, revision, filter, &start, limit))
    }

    fn page(&self, root: Root, revision: Revision, filter: Filter, start: &str, limit: u64) -> Page {
        let limit = match limit {
            0 => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        let (mut next, mut remaining) = (None, None);
        if limit < usize::MAX {
            // The page ends before the object that is one too many.
            let more = root.matching(filter.clone(), start, limit.saturating_add(1)).nth(limit);
            if let Some(first) = more {
                let start = first.key().to_string();
                if filter.is_plain() {
                    remaining = Some(root.count(&filter.prefix(), &start) as u64);
                }
                next = Some(Token { revision: Some(revision), start }.encode());
                self.pin(&root, revision);
            }
        }
        let objects = Objects::Cached(root.matching(filter, start, limit));
        Page { revision, next, remaining, objects }
    }

    /// Where a list as of `revision` goes on that ends before `object`.
    pub(crate) fn next_page(&self, revision: Revision, object: &Object) -> String {
        // Whoever goes on with what is no longer known is told then.
        if let Some(root) = self.version(revision) {
            self.pin(&root, revision);
        }
        Token { revision: Some(revision), start: object.key().to_string() }.encode()
    }

    /// The newest version and its revision: everything up to it is there, and nothing later.
    fn newest(&self) -> Result<(Root, Revision), Error> {
        // Asked before the lock is taken: what is fresh by then has been applied.
        let fresh = self.feed.revision();
        let state = self.state.read();
        if state.removed {
            return Err(Error::Unavailable);
        }
        Ok((state.root.clone(), fresh.max(state.changed)))
    }

    /// The version at a revision that has happened, if it is still known.
    fn version(&self, revision: Revision) -> Option<Root> {
        let state = self.state.read();
        if let Some((root, _)) = state.pins.get(&revision) {
            return Some(root.clone());
        }
        (revision >= state.ring.floor().max(state.horizon)).then(|| state.ring.rewind(&state.root, revision))
    }

    /// Keeps a version for the pages to come.
    fn pin(&self, root: &Root, revision: Revision) {
        let max = self.limits().pins;
        let mut state = self.state.write();
        state.pins.entry(revision).or_insert_with(|| (root.clone(), Instant::now()));
        while state.pins.len() > max {
            state.pins.pop_first();
        }
    }

    /// Every change that the filter lets through. An object that leaves the filter is seen as deleted,
    /// one that enters it as added.
    ///
    /// # Errors
    /// The revision does not happen in time, or what came after it is no longer known.
    pub async fn watch(self: &Arc<Self>, options: WatchOptions) -> Result<Watch, Error> {
        match &options.start {
            Start::Now => {}
            Start::After(revision) => self.feed.wait(*revision).await?,
            Start::State(at) | Start::Initial(at) => self.feed.wait_at(at).await?,
        }
        let group = self.group(&options.filter);
        let fresh = self.feed.revision();
        let mut state = self.state.write();
        if state.removed {
            return Err(Error::Unavailable);
        }
        let filter = options.filter.clone();
        let (mut backlog, mut initial) = (VecDeque::new(), None);
        match &options.start {
            Start::Now => {}
            Start::After(revision) => {
                let oldest = state.ring.floor();
                if *revision < oldest {
                    return Err(Error::Gone { asked: *revision, oldest });
                }
                let events = state.ring.after(*revision);
                backlog.extend(events.filter_map(|event| event.notice(&filter, &Shared::default())));
            }
            Start::State(_) | Start::Initial(_) => {
                let marked = options.bookmarks && matches!(options.start, Start::Initial(_));
                initial = Some(Initial {
                    objects: state.root.matching(filter, "", usize::MAX),
                    end: marked.then(|| fresh.max(state.changed)),
                });
            }
        }
        let watcher = Arc::new(Watcher::new(&options, self.limits().watcher_bytes, backlog));
        let id = state.next_watcher;
        state.next_watcher += 1;
        state.watchers.entry(group.clone()).or_default().insert(id, Arc::clone(&watcher));
        Ok(Watch { collection: Arc::downgrade(self), group, id, watcher, initial })
    }

    fn group(&self, filter: &Filter) -> Group {
        if let Some(key) = filter.only_key(self.spec.namespaced) {
            return Group::Object(key.into());
        }
        let indexed = self.spec.indexed.iter().enumerate();
        let mut exact = indexed.filter_map(|(i, field)| Some((i, filter.fields.exact(field)?)));
        exact.next().map_or(Group::All, |(i, value)| Group::Field(i, value.into()))
    }

    /// Drops a watcher.
    pub(super) fn forget(&self, group: &Group, id: u64) {
        let mut state = self.state.write();
        if let Some(watchers) = state.watchers.get_mut(group) {
            watchers.remove(&id);
            if watchers.is_empty() {
                state.watchers.remove(group);
            }
        }
    }

    /// Takes in changes in revision order and tells the watchers.
    pub(super) fn apply(&self, changes: Vec<Incoming>) {
        let Some(last) = changes.last().map(|c| c.revision) else { return };
        self.received.fetch_add(changes.len() as u64, Relaxed);
        let now = Instant::now();
        let mut state = self.state.write();
        for Incoming { key, revision, object } in changes {
            let before = state.root.set(&key, object.as_ref());
            if before.is_none() && object.is_none() {
                continue;
            }
            let event = Arc::new(Happened::new(revision, key, before, object, now));
            self.dispatch(&state.watchers, &event);
            state.ring.push(event, self.limits().ring_events, self.limits().ring_bytes);
        }
        state.changed = last;
        drop(state);
        self.changes.send_replace(last);
    }

    fn dispatch(&self, watchers: &HashMap<Group, BTreeMap<u64, Arc<Watcher>>>, event: &Happened) {
        if watchers.is_empty() {
            return;
        }
        let frames = Shared::default();
        let mut groups = vec![Group::All, Group::Object((*event.key).into())];
        for (i, field) in self.spec.indexed.iter().enumerate() {
            let value = |object: &Option<Arc<Object>>| object.as_ref()?.field(field).map(Box::from);
            let (before, now) = (value(&event.before), value(&event.now));
            if before != now {
                groups.extend(before.map(|value| Group::Field(i, value)));
            }
            groups.extend(now.map(|value| Group::Field(i, value)));
        }
        for watcher in groups.iter().filter_map(|group| watchers.get(group)).flat_map(BTreeMap::values) {
            if let Some(notice) = event.notice(&watcher.filter, &frames) {
                self.tell(watcher, notice);
            }
        }
    }

    /// Lets go what is too old, and tells watchers how far they have seen.
    pub(super) fn tick(&self, revision: Revision, horizon: Revision) {
        let now = Instant::now();
        let window = self.limits().window;
        let mut state = self.state.write();
        state.ring.age(now, window);
        state.horizon = horizon;
        state.pins.retain(|_, (_, since)| now.saturating_duration_since(*since) < window);
        for watcher in state.watchers.values().flat_map(BTreeMap::values).filter(|w| w.bookmarks) {
            self.tell(watcher, Notice::Bookmark { revision, initial: false });
        }
    }

    fn tell(&self, watcher: &Watcher, notice: Notice) {
        if watcher.tell(notice) {
            self.slow.fetch_add(1, Relaxed);
        }
    }

    /// How many watches have ended because the watcher did not follow.
    pub fn slow_watchers(&self) -> u64 {
        self.slow.load(Relaxed)
    }

    /// How many changes the store has told.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Starts again from a new state: what happened between is not known.
    pub(super) fn reset(&self, root: Root, revision: Revision) {
        let mut state = self.state.write();
        for watcher in state.watchers.values().flat_map(BTreeMap::values) {
            watcher.end(Error::Gone { asked: state.changed, oldest: revision });
        }
        state.watchers.clear();
        state.pins.clear();
        state.root = root;
        state.ring = Ring::new(revision);
        state.changed = revision;
        drop(state);
        self.changes.send_replace(revision);
    }

    /// Ends all watches; there will be no more.
    pub(super) fn end(&self, error: &Error) {
        let mut state = self.state.write();
        state.removed = true;
        for watcher in state.watchers.values().flat_map(BTreeMap::values) {
            watcher.end(error.clone());
        }
        state.watchers.clear();
    }
}
