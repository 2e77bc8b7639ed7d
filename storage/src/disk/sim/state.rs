//! What a simulated disk holds: what programs see, what would survive a power cut, and what lies between.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::fault::Faults;
use super::pages::Pages;
use super::random::Random;

/// A file, apart from its names.
pub(super) type FileId = u64;

/// The whole disk.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) files: BTreeMap<FileId, Node>,
    /// Names as programs see them.
    pub(super) names: BTreeMap<PathBuf, FileId>,
    /// Directories as programs see them.
    pub(super) directories: BTreeSet<PathBuf>,
    durable_names: BTreeMap<PathBuf, FileId>,
    durable_directories: BTreeSet<PathBuf>,
    /// Changes of names that no directory sync has covered, in order.
    pending_names: Vec<NameChange>,
    pub(super) locks: BTreeSet<PathBuf>,
    /// Raised by each crash: what was opened before is dead.
    pub(super) generation: u64,
    pub(super) faults: Faults,
    next_file: FileId,
}

/// A file's bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// What reads return.
    pub(super) cached: Pages,
    /// What a power cut leaves.
    pub(super) durable: Pages,
    /// Changes that no sync has covered, in order.
    pub(super) pending: Vec<Change>,
    pub(super) handles: usize,
    /// It has lost a name: only then may there be nothing left that leads to it.
    lost_name: bool,
}

/// A change of a file's bytes that is not durable yet.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { position: u64, bytes: Vec<u8> },
    Length(u64),
}

/// A change of names that is not durable yet.
#[derive(Clone, Debug)]
struct NameChange {
    /// The directories whose sync makes it durable.
    directories: [PathBuf; 2],
    kind: NameChangeKind,
}

#[derive(Clone, Debug)]
enum NameChangeKind {
    Directory(PathBuf),
    Link(PathBuf, FileId),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, FileId),
}

impl Node {
    /// Writes to the cache; only a sync makes it durable.
    pub(super) fn write(&mut self, position: u64, bytes: Vec<u8>) {
        let end = position + bytes.len() as u64;
        self.cached.write(&bytes, position);
        self.pending.push(Change::Write { position, bytes });
        if end > self.cached.length() {
            self.set_length(end);
        }
    }

    pub(super) fn set_length(&mut self, length: u64) {
        self.cached.set_length(length);
        self.pending.push(Change::Length(length));
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync that failed: the system calls the pages clean, so that they are never written, but still shows them.
    pub(super) fn sync_lost(&mut self) {
        self.pending.clear();
    }

    /// What is not waiting to be written is read from the medium again.
    pub(super) fn drop_cache(&mut self) {
        self.cached = self.durable.clone();
        for change in &self.pending {
            change.apply(&mut self.cached);
        }
    }

    /// A power cut: any part of what is pending may have reached the medium.
    fn crash(&mut self, random: &mut Random, sector_bytes: usize) {
        let survivors = Survivors::draw(random);
        for change in self.pending.drain(..) {
            match change {
                Change::Length(_) => {
                    if survivors.include(random) {
                        change.apply(&mut self.durable);
                    }
                }
                Change::Write { mut position, bytes } => {
                    let mut rest = bytes.as_slice();
                    while !rest.is_empty() {
                        let in_sector = usize::try_from(position % sector_bytes as u64);
                        let left = sector_bytes - in_sector.expect("the remainder is below a sector");
                        let (sector, after) = rest.split_at(left.min(rest.len()));
                        if survivors.include(random) {
                            self.durable.write(sector, position);
                        }
                        position += sector.len() as u64;
                        rest = after;
                    }
                }
            }
        }
        self.durable.forget_beyond_length();
        self.cached = self.durable.clone();
    }
}

impl Change {
    fn apply(&self, pages: &mut Pages) {
        match self {
            Self::Write { position, bytes } => pages.write(bytes, *position),
            Self::Length(length) => pages.set_length(*length),
        }
    }
}

/// How much of what was pending a power cut leaves: drawn for each file, so that all combinations occur.
#[derive(Clone, Copy)]
enum Survivors {
    None,
    Half,
    AlmostAll,
    All,
}

impl Survivors {
    fn draw(random: &mut Random) -> Self {
        match random.below(4) {
            0 => Self::None,
            1 => Self::Half,
            2 => Self::AlmostAll,
            _ => Self::All,
        }
    }

    fn include(self, random: &mut Random) -> bool {
        match self {
            Self::None => false,
            Self::Half => random.below(2) == 0,
            Self::AlmostAll => random.below(10) > 0,
            Self::All => true,
        }
    }
}

impl State {
    /// A disk with an empty root directory.
    pub(super) fn new() -> Self {
        let root = PathBuf::from("/");
        Self {
            directories: BTreeSet::from([root.clone(), PathBuf::new()]),
            durable_directories: BTreeSet::from([root, PathBuf::new()]),
            ..Self::default()
        }
    }

    pub(super) fn create_directory(&mut self, path: &Path) {
        let missing: Vec<PathBuf> = path
            .ancestors()
            .filter(|ancestor| !self.directories.contains(*ancestor))
            .map(Path::to_owned)
            .collect();
        for directory in missing.into_iter().rev() {
            self.directories.insert(directory.clone());
            let parent = parent(&directory);
            self.change_names([parent.clone(), parent], NameChangeKind::Directory(directory));
        }
    }

    pub(super) fn create(&mut self, path: &Path) -> FileId {
        let id = self.next_file;
        self.next_file += 1;
        self.files.insert(id, Node::default());
        self.link(path, id);
        id
    }

    pub(super) fn link(&mut self, path: &Path, id: FileId) {
        self.names.insert(path.to_owned(), id);
        let parent = parent(path);
        self.change_names([parent.clone(), parent], NameChangeKind::Link(path.to_owned(), id));
    }

    /// Whether there was such a name.
    pub(super) fn unlink(&mut self, path: &Path) -> bool {
        let known = self.names.remove(path);
        known.into_iter().for_each(|id| self.lose_name(id));
        let parent = parent(path);
        self.change_names([parent.clone(), parent], NameChangeKind::Unlink(path.to_owned()));
        if let Some(id) = known {
            self.collect(id);
        }
        known.is_some()
    }

    /// Whether there was such a name.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> bool {
        let Some(id) = self.names.remove(from) else {
            return false;
        };
        let replaced = self.names.insert(to.to_owned(), id);
        replaced.into_iter().for_each(|id| self.lose_name(id));
        let kind = NameChangeKind::Rename(from.to_owned(), to.to_owned(), id);
        self.change_names([parent(from), parent(to)], kind);
        true
    }

    fn change_names(&mut self, directories: [PathBuf; 2], kind: NameChangeKind) {
        self.pending_names.push(NameChange { directories, kind });
    }

    pub(super) fn sync_directory(&mut self, path: &Path) {
        let pending = std::mem::take(&mut self.pending_names);
        let (covered, open): (Vec<_>, Vec<_>) =
            pending.into_iter().partition(|change| change.directories.iter().any(|of| of == path));
        self.pending_names = open;
        covered.into_iter().for_each(|change| self.make_durable(change.kind));
        let lost = self.files.iter().filter(|(_, node)| node.lost_name).map(|(id, _)| *id);
        lost.collect::<Vec<_>>().into_iter().for_each(|id| self.collect(id));
    }

    fn make_durable(&mut self, kind: NameChangeKind) {
        match kind {
            NameChangeKind::Directory(path) => {
                self.durable_directories.insert(path);
            }
            NameChangeKind::Link(path, id) => {
                self.durable_names.insert(path, id);
            }
            NameChangeKind::Unlink(path) => {
                self.durable_names.remove(&path);
            }
            NameChangeKind::Rename(from, to, id) => {
                if self.durable_names.get(&from) == Some(&id) {
                    self.durable_names.remove(&from);
                }
                self.durable_names.insert(to, id);
            }
        }
    }

    fn lose_name(&mut self, id: FileId) {
        if let Some(node) = self.files.get_mut(&id) {
            node.lost_name = true;
        }
    }

    /// Forgets a file that nothing can reach any more.
    pub(super) fn collect(&mut self, id: FileId) {
        if self.files.get(&id).is_none_or(|node| !node.lost_name || node.handles > 0) {
            return;
        }
        let named = self.names.values().chain(self.durable_names.values()).any(|&named| named == id);
        let pending = self.pending_names.iter().any(|change| match &change.kind {
            NameChangeKind::Link(_, of) | NameChangeKind::Rename(_, _, of) => *of == id,
            NameChangeKind::Directory(_) | NameChangeKind::Unlink(_) => false,
        });
        if !named && !pending {
            self.files.remove(&id);
        }
    }

    /// The programs die; the system and its caches live on.
    pub(super) fn kill(&mut self) {
        self.generation += 1;
        self.locks.clear();
        self.faults.restart();
        self.files.values_mut().for_each(|node| node.handles = 0);
    }

    /// The power fails: an arbitrary part of what was not synced survives.
    pub(super) fn crash(&mut self, random: &mut Random, sector_bytes: usize) {
        self.kill();
        let survivors = Survivors::draw(random);
        for change in std::mem::take(&mut self.pending_names) {
            if survivors.include(random) {
                self.make_durable(change.kind);
            }
        }
        let directories = &mut self.durable_directories;
        // In order of path a parent comes before what is in it.
        for directory in directories.clone() {
            if !directory.as_os_str().is_empty()
                && !directories.contains(&parent(&directory))
                && !is_root(&directory)
            {
                directories.remove(&directory);
            }
        }
        let kept = &self.durable_directories;
        self.durable_names.retain(|path, _| kept.contains(&parent(path)));
        self.names = self.durable_names.clone();
        self.directories = self.durable_directories.clone();
        let named: BTreeSet<FileId> = self.names.values().copied().collect();
        self.files.retain(|id, _| named.contains(id));
        self.files.values_mut().for_each(|node| node.crash(random, sector_bytes));
    }

    /// Bytes that files take: their lengths, as space is reserved when a file is made or grows.
    pub(super) fn used_bytes(&self) -> u64 {
        self.files.values().map(|node| node.cached.length()).sum()
    }
}

pub(super) fn parent(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

fn is_root(path: &Path) -> bool {
    path == Path::new("/")
}
