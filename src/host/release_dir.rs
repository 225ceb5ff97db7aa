//! Release directories as they are on disk: `root/releases/<name>/…`, and symlinks that say which one is current.
//!
//! Whoever can write beneath the root may try to lead the daemon elsewhere, so every look below it goes through
//! `openat2` and follows no symlink; a link is read, checked to name a release, and never resolved by the kernel.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::text;
use crate::domain::id::RevisionId;
use crate::domain::observation::{Fault, FaultKind};
use crate::domain::policy::Release;
use crate::domain::time::Timestamp;

/// Most entries that a directory of releases may have. One that has more is not a directory of releases.
const MAX_RELEASES: usize = 10_000;

/// Every component is a real directory beneath the root.
const STRICT: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Why a release directory could not be read or is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseDirError {
    /// The kernel lacks `openat2`.
    #[error("the kernel refuses openat2, without which symlinks can't be ruled out; Linux 5.6 or newer is needed")]
    Unsupported,
    /// A path of the policy that could lead out of the root.
    #[error("{0:?} must be a relative path without '..'")]
    Path(PathBuf),
    /// The root is not named by an absolute path.
    #[error("{0} must be an absolute path")]
    Root(PathBuf),
    /// Something on the way is a symlink where none may be.
    #[error("{0}: a symlink stands where a directory must be")]
    Symlink(PathBuf),
    /// The link is something else.
    #[error("{0} is not a symlink")]
    NotALink(PathBuf),
    /// The link names something that is not a release.
    #[error("{link} points at {target}, which is not a release in {releases}")]
    NotARelease {
        /// The link.
        link: PathBuf,
        /// What it holds.
        target: String,
        /// Where releases are.
        releases: PathBuf,
    },
    /// More entries than a directory of releases can have.
    #[error("{0} has more than {MAX_RELEASES} entries")]
    TooMany(PathBuf),
    /// The system's answer.
    #[error("{path}: {error}")]
    System {
        /// What was looked at.
        path: PathBuf,
        /// What the system said.
        error: Errno,
    },
}

impl From<ReleaseDirError> for Fault {
    fn from(error: ReleaseDirError) -> Self {
        let kind = match error {
            ReleaseDirError::TooMany(_) => FaultKind::TooLarge,
            ReleaseDirError::NotALink(_) | ReleaseDirError::NotARelease { .. } => FaultKind::Malformed,
            ReleaseDirError::Unsupported
            | ReleaseDirError::Path(_)
            | ReleaseDirError::Root(_)
            | ReleaseDirError::Symlink(_)
            | ReleaseDirError::System { .. } => FaultKind::Local,
        };
        Fault { kind, detail: text::one_line(&text::printable(error.to_string().as_bytes())) }
    }
}

/// The release that `link` names now. `link` and `releases` are relative to `root`. Blocks on the disk.
///
/// # Errors
///
/// Where the link can't be read, or names anything but `<releases>/<name>`.
pub fn current(root: &Path, link: &Path, releases: &Path) -> Result<RevisionId, Fault> {
    let root = Root::open(root)?;
    let place = root.place(link)?;
    Ok(root.name_of(&place, releases, &place.read(place.name())?)?)
}

/// When `link` was put where it is, which is when it came to name what it names, by the clock of its file system. `link` is
/// relative to `root`. Blocks on the disk.
///
/// # Errors
///
/// Where the link can't be looked at.
pub fn pointed(root: &Path, link: &Path) -> Result<Timestamp, Fault> {
    Ok(Root::open(root)?.place(link)?.changed()?)
}

/// The releases that are there, newest first by modification time, then by name. Entries whose names no release can
/// have, and whatever is not a directory, are left out. Blocks on the disk.
///
/// # Errors
///
/// Where the directory can't be read, is a symlink, or has more than 10,000 entries.
pub fn releases(root: &Path, releases: &Path) -> Result<Vec<Release>, Fault> {
    Ok(Root::open(root)?.releases(releases)?)
}

/// The directory that everything is beneath, held open so that it can't be exchanged under the reader.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

impl Root {
    /// Opens the root. The path to it is the operator's own; its last component must not be a symlink.
    pub fn open(path: &Path) -> Result<Self, ReleaseDirError> {
        if !path.is_absolute() {
            return Err(ReleaseDirError::Root(path.to_owned()));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path: path.to_owned() }),
            Err(Errno::NOTDIR | Errno::LOOP) if path.is_symlink() => Err(ReleaseDirError::Symlink(path.to_owned())),
            Err(error) => Err(system(path, error)),
        }
    }

    /// Where a link lies: its directory, opened without following symlinks, and its name there.
    pub fn place(&self, link: &Path) -> Result<Place, ReleaseDirError> {
        let parts = plain_components(link)?;
        let Some((name, parents)) = parts.split_last() else {
            return Err(ReleaseDirError::Path(link.to_owned()));
        };
        let parents: Vec<OsString> = parents.iter().map(|part| (*part).to_owned()).collect();
        let directory: PathBuf = parents.iter().collect();
        Ok(Place { fd: self.directory(&directory)?, parents, name: (*name).to_owned(), path: self.path.join(link) })
    }

    /// Opens a directory beneath the root, following no symlink.
    pub fn directory(&self, path: &Path) -> Result<OwnedFd, ReleaseDirError> {
        let parts = plain_components(path)?;
        let relative: PathBuf = if parts.is_empty() { PathBuf::from(".") } else { parts.iter().collect() };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.fd, &relative, flags, Mode::empty(), STRICT).map_err(|error| {
            let full = self.path.join(path);
            match error {
                Errno::NOSYS | Errno::PERM => ReleaseDirError::Unsupported,
                Errno::LOOP | Errno::XDEV => ReleaseDirError::Symlink(full),
                error => system(&full, error),
            }
        })
    }

    /// Whether a release's directory is there and is a directory itself.
    pub fn require_release(&self, releases: &Path, name: &RevisionId) -> Result<(), ReleaseDirError> {
        self.directory(&releases.join(name.as_str())).map(drop)
    }

    /// The release that a link's content names. The content is resolved by its text alone, from the link's directory.
    pub fn name_of(&self, place: &Place, releases: &Path, content: &OsStr) -> Result<RevisionId, ReleaseDirError> {
        let refused = || ReleaseDirError::NotARelease {
            link: place.path.clone(),
            target: text::printable(content.as_bytes()),
            releases: self.path.join(releases),
        };
        let content = Path::new(content);
        let (base, rest) = if content.is_absolute() {
            let beneath = content.strip_prefix(&self.path).map_err(|_| refused())?;
            (&[][..], beneath)
        } else {
            (&place.parents[..], content)
        };
        let mut at: Vec<&OsStr> = base.iter().map(OsString::as_os_str).collect();
        for part in rest.components() {
            match part {
                Component::Normal(name) => at.push(name),
                Component::CurDir => {}
                Component::ParentDir => {
                    at.pop().ok_or_else(refused)?;
                }
                Component::RootDir | Component::Prefix(_) => return Err(refused()),
            }
        }
        let (name, directory) = at.split_last().ok_or_else(refused)?;
        if directory != plain_components(releases)? {
            return Err(refused());
        }
        name.to_str().and_then(|name| text::directory_name(name).ok()).ok_or_else(refused)
    }

    /// The releases that are there; see [`releases`].
    pub fn releases(&self, path: &Path) -> Result<Vec<Release>, ReleaseDirError> {
        let full = self.path.join(path);
        let fd = self.directory(path)?;
        let listing = Dir::read_from(&fd).map_err(|error| system(&full, error))?;
        let mut found = Vec::new();
        for (count, entry) in listing.enumerate() {
            if count >= MAX_RELEASES + 2 {
                return Err(ReleaseDirError::TooMany(full));
            }
            let entry = entry.map_err(|error| system(&full, error))?;
            let Some(name) = entry.file_name().to_str().ok().and_then(|name| text::directory_name(name).ok()) else {
                continue;
            };
            // A release that is deleted while the list is read is simply not there.
            let Ok(stat) = rustix::fs::statat(&fd, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                found.push(((stat.st_mtime, stat.st_mtime_nsec), name));
            }
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found
            .into_iter()
            .map(|(_, revision)| Release { image: Some(full.join(revision.as_str()).display().to_string()), revision })
            .collect())
    }

    /// What a link must hold to name a release: relative to the link's directory, or absolute where `absolute`.
    #[must_use]
    pub fn content_for(&self, place: &Place, releases: &Path, name: &RevisionId, absolute: bool) -> PathBuf {
        let mut content = if absolute { self.path.clone() } else { place.parents.iter().map(|_| "..").collect() };
        content.push(releases);
        content.push(name.as_str());
        content
    }

    /// The open directory, for locking.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Where a link lies.
#[derive(Debug)]
pub struct Place {
    fd: OwnedFd,
    parents: Vec<OsString>,
    name: OsString,
    path: PathBuf,
}

impl Place {
    /// What a link in this directory holds, not followed.
    pub fn read(&self, name: &OsStr) -> Result<OsString, ReleaseDirError> {
        match rustix::fs::readlinkat(&self.fd, name, Vec::new()) {
            Ok(content) => Ok(OsString::from_vec(content.into_bytes())),
            Err(Errno::INVAL) => Err(ReleaseDirError::NotALink(self.path.with_file_name(name))),
            Err(error) => Err(system(&self.path.with_file_name(name), error)),
        }
    }

    /// When the link was last written or renamed. Nobody can set that time back, as they can that of its making.
    fn changed(&self) -> Result<Timestamp, ReleaseDirError> {
        let stat = rustix::fs::statat(&self.fd, self.name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| system(&self.path, error))?;
        let (seconds, nanos) = (stat.st_ctime as i64, stat.st_ctime_nsec as i64);
        Ok(Timestamp::from_millis(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)))
    }

    /// The link's name in its directory.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// The link's directory.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The link's path, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The parts of a path that can lead nowhere but down.
fn plain_components(path: &Path) -> Result<Vec<&OsStr>, ReleaseDirError> {
    path.components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| match part {
            Component::Normal(name) => Ok(name),
            Component::CurDir | Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                Err(ReleaseDirError::Path(path.to_owned()))
            }
        })
        .collect()
}

fn system(path: &Path, error: Errno) -> ReleaseDirError {
    ReleaseDirError::System { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn app(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            fs::create_dir_all(dir.path().join("releases").join(name)).unwrap();
        }
        dir
    }

    fn read(dir: &tempfile::TempDir, link: &str) -> Result<String, String> {
        current(dir.path(), Path::new(link), Path::new("releases"))
            .map(|name| name.to_string())
            .map_err(|fault| fault.to_string().replace(&dir.path().display().to_string(), "ROOT"))
    }

    #[test]
    fn a_link_is_understood_however_it_is_written() {
        let dir = app(&["v1"]);
        fs::create_dir_all(dir.path().join("instances/a")).unwrap();
        let absolute = dir.path().join("releases/v1");
        for (link, target) in [
            ("current", Path::new("releases/v1")),
            ("slash", Path::new("./releases/v1/")),
            ("absolute", &absolute),
            ("instances/a/current", Path::new("../../releases/v1")),
            ("dangling", Path::new("releases/v9")),
        ] {
            symlink(target, dir.path().join(link)).unwrap();
        }
        for link in ["current", "slash", "absolute", "instances/a/current"] {
            assert_eq!(read(&dir, link).as_deref(), Ok("v1"), "{link}");
        }
        assert_eq!(read(&dir, "dangling").as_deref(), Ok("v9"));
    }

    /// However old the link is that is put there: it counts when that was done.
    #[test]
    fn when_a_link_was_put_where_it_is_can_be_told() {
        let dir = app(&["v1"]);
        let [link, aside] = ["current", "aside"].map(|name| dir.path().join(name));
        symlink("releases/v1", &link).unwrap();
        let at = || pointed(dir.path(), Path::new("current")).unwrap();
        let first = at();
        // Clocks of file systems tick a hundred times a second or more.
        let is_later = (0..1_000_000).any(|_| {
            fs::rename(&link, &aside).unwrap();
            fs::rename(&aside, &link).unwrap();
            at() > first
        });
        assert!(is_later, "{first}");
        assert!(pointed(dir.path(), Path::new("missing")).is_err());
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_refused() {
        let dir = app(&["v1"]);
        fs::create_dir(dir.path().join("directory")).unwrap();
        symlink("/tmp", dir.path().join("away")).unwrap();
        for (link, target) in [
            ("etc", "/etc"),
            ("up", "../../../etc"),
            ("back", "releases/../../x/releases/v1"),
            ("deep", "releases/v1/sub"),
            ("itself", "releases"),
            ("other", "elsewhere/v1"),
            ("hidden", "releases/.git"),
            ("option", "releases/-rf"),
            ("escape", "releases/\u{1b}[2Jv1"),
        ] {
            symlink(target, dir.path().join(link)).unwrap();
            let said = read(&dir, link).unwrap_err();
            assert!(
                said.contains("which is not a release in ROOT/releases") && !said.contains('\u{1b}'),
                "{link}: {said}"
            );
        }
        for (link, text) in [
            ("directory", "malformed: ROOT/directory is not a symlink"),
            ("missing", "local: ROOT/missing: No such file or directory (os error 2)"),
            ("../x", "local: \"../x\" must be a relative path without '..'"),
            ("away/current", "local: ROOT/away: a symlink stands where a directory must be"),
            ("", "local: \"\" must be a relative path without '..'"),
        ] {
            assert_eq!(read(&dir, link).unwrap_err(), text);
        }
    }

    #[test]
    fn the_root_and_the_releases_may_not_be_symlinks() {
        let dir = app(&["v1"]);
        let outer = tempfile::tempdir().unwrap();
        symlink(dir.path(), outer.path().join("app")).unwrap();
        let said = releases(&outer.path().join("app"), Path::new("releases")).unwrap_err();
        assert!(said.detail.contains("a symlink stands where"), "{said}");
        symlink("/etc", dir.path().join("elsewhere")).unwrap();
        let said = releases(dir.path(), Path::new("elsewhere")).unwrap_err();
        assert!(said.detail.contains("a symlink stands where"), "{said}");
        let said = releases(Path::new("relative"), Path::new("releases")).unwrap_err();
        assert_eq!(said.detail, "relative must be an absolute path");
    }

    #[test]
    fn releases_come_newest_first_and_strangers_are_left_out() {
        let dir = app(&["v1", "v2", "v3", ".git", "-rf"]);
        fs::write(dir.path().join("releases/notes.txt"), "x").unwrap();
        symlink("v1", dir.path().join("releases/alias")).unwrap();
        for (name, secs) in [("v1", 300), ("v2", 100), ("v3", 100)] {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(secs);
            let file = fs::File::open(dir.path().join("releases").join(name)).unwrap();
            file.set_modified(time).unwrap();
        }
        let found = releases(dir.path(), Path::new("releases")).unwrap();
        let names: Vec<&str> = found.iter().map(|r| r.revision.as_str()).collect();
        assert_eq!(names, ["v1", "v3", "v2"]);
        assert_eq!(found[0].image.as_deref(), Some(dir.path().join("releases/v1").to_str().unwrap()));
    }
}
