//! Switching `current`: compare-and-set on a symlink.
//!
//! `rename` replaces whatever it finds. The link is therefore *exchanged* with the new one, which brings out what was
//! in effect at that very moment; where that isn't what the plan expects, someone else was faster, and what they put
//! there is given back.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FlockOperation, RenameFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::domain::id::RevisionId;
use crate::domain::response::plan::Outcome;
use crate::host::release_dir::{Place, ReleaseDirError, Root};
use crate::host::text;

/// How often a lock that another process holds is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(10);
/// Entries of the link's directory among which leftovers are looked for.
const MAX_ENTRIES: usize = 10_000;
/// Exchanges that give a link back to writers who keep changing it. Each one more means that yet another writer came
/// within microseconds of the one before.
const MAX_GIVE_BACKS: usize = 8;

/// A switch, as the plan's step says it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Switch<'a> {
    /// Absolute path that everything is beneath.
    pub(super) root: &'a Path,
    /// The symlink, relative to the root.
    pub(super) link: &'a Path,
    /// The directory of releases, relative to the root.
    pub(super) releases: &'a Path,
    /// The release that it must name before.
    pub(super) expect: &'a RevisionId,
    /// The release that it names after.
    pub(super) to: &'a RevisionId,
}

/// Does the switch. Blocks on the disk, and for at most `limit` on another process of ours.
#[must_use]
pub(super) fn switch(what: Switch<'_>, limit: Duration) -> Outcome {
    attempt(what, limit).unwrap_or_else(|failed| failed)
}

fn attempt(what: Switch<'_>, limit: Duration) -> Result<Outcome, Outcome> {
    let root = Root::open(what.root).map_err(refused)?;
    let place = root.place(what.link).map_err(refused)?;
    for name in [what.expect, what.to] {
        text::directory_name(name.as_str()).map_err(Outcome::Denied)?;
    }
    lock(&root, limit)?;
    let work = Work { temporary: temporary_name(what, place.name()), root, place, what };
    work.remove_strangers()?;
    work.recover()?;
    let content = work.read()?;
    let found = work.name_of(&content).map_err(refused)?;
    if found == *what.to {
        // A crash may have come between the switch and its reaching the disk.
        work.sync()?;
        return Ok(Outcome::AlreadyInEffect);
    }
    if found != *what.expect {
        return Err(work.conflict(&found));
    }
    work.root.require_release(what.releases, what.to).map_err(refused)?;
    work.exchange_for(&content)?;
    work.prove()
}

/// Serialises our own processes. The kernel lets go of it with the descriptor, however the holder ends.
fn lock(root: &Root, limit: Duration) -> Result<(), Outcome> {
    let deadline = Instant::now() + limit;
    loop {
        match rustix::fs::flock(root.fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(LOCK_RETRY),
            Err(Errno::WOULDBLOCK) => {
                return Err(Outcome::Transient(format!("{} is locked by another process", root.path().display())));
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(refused(system(root.path(), error))),
        }
    }
}

/// What every temporary link beside `link` is called at its beginning.
fn temporary_prefix(link: &OsStr) -> OsString {
    let mut name = OsString::from(".");
    name.push(link);
    name.push(".rollbackd-");
    name
}

/// Named after the link and the switch, so that the same step, done again after a crash, finds what it left behind and no
/// other step takes it for its own. The lock keeps two from using it at once.
fn temporary_name(what: Switch<'_>, link: &OsStr) -> OsString {
    let switch =
        Sha256::new().chain_update(what.expect.as_str()).chain_update("/").chain_update(what.to.as_str()).finalize();
    let mut name = temporary_prefix(link);
    for byte in &switch[..8] {
        name.push(format!("{byte:02x}"));
    }
    name
}

/// A switch under way, the lock held.
struct Work<'a> {
    root: Root,
    place: Place,
    temporary: OsString,
    what: Switch<'a>,
}

impl Work<'_> {
    fn read(&self) -> Result<OsString, Outcome> {
        self.place.read(self.place.name()).map_err(refused)
    }

    fn name_of(&self, content: &OsStr) -> Result<RevisionId, ReleaseDirError> {
        self.root.name_of(&self.place, self.what.releases, content)
    }

    /// Removes temporary links of other switches, which crashed and were never done again.
    fn remove_strangers(&self) -> Result<(), Outcome> {
        let failed = |error| refused(system(self.place.path(), error));
        let prefix = temporary_prefix(self.place.name());
        let entries = Dir::read_from(self.place.fd()).map_err(failed)?;
        for entry in entries.take(MAX_ENTRIES) {
            let entry = entry.map_err(failed)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name.as_bytes().starts_with(prefix.as_bytes()) && name != self.temporary && self.place.read(name).is_ok()
            {
                rustix::fs::unlinkat(self.place.fd(), name, AtFlags::empty()).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Clears what a crash of this very switch left behind. A link that was taken out of effect but is not the one that the plan expects
    /// belongs to someone else, and the crash came before it could be given back.
    fn recover(&self) -> Result<(), Outcome> {
        let left = match self.place.read(&self.temporary) {
            Err(ReleaseDirError::System { error: Errno::NOENT, .. }) => return Ok(()),
            left => left,
        };
        let ours_is_in_effect = self.place.read(self.place.name()).is_ok_and(|content| self.is(&content, self.what.to));
        let is_known =
            left.as_ref().is_ok_and(|content| self.is(content, self.what.to) || self.is(content, self.what.expect));
        if ours_is_in_effect && !is_known {
            let ours = self.read()?;
            return Err(self.give_back(ours));
        }
        if left.is_err() {
            return Err(Outcome::Denied(format!(
                "{} is in the way: it is not a symlink of ours",
                self.place.path().with_file_name(&self.temporary).display()
            )));
        }
        self.remove_temporary()
    }

    fn is(&self, content: &OsStr, release: &RevisionId) -> bool {
        self.name_of(content).is_ok_and(|name| name == *release)
    }

    /// Puts the new link in effect if the one that comes out is the one expected.
    fn exchange_for(&self, before: &OsStr) -> Result<(), Outcome> {
        let absolute = Path::new(before).is_absolute();
        let content = self.root.content_for(&self.place, self.what.releases, self.what.to, absolute);
        rustix::fs::symlinkat(&content, self.place.fd(), &self.temporary)
            .map_err(|error| refused(system(self.place.path(), error)))?;
        if let Err(outcome) = self.exchange() {
            self.remove_temporary()?;
            return Err(outcome);
        }
        match self.place.read(&self.temporary) {
            Ok(out) if self.is(&out, self.what.expect) => self.remove_temporary(),
            Ok(_) | Err(_) => Err(self.give_back(content.into_os_string())),
        }
    }

    /// Puts back what another writer had put in effect. Whoever writes in between is the latest and prevails: what comes
    /// out must be what was last put in, otherwise it is exchanged once more.
    fn give_back(&self, mut put_in: OsString) -> Outcome {
        for _ in 0..MAX_GIVE_BACKS {
            let given = self.place.read(&self.temporary).ok();
            if let Err(outcome) = self.exchange() {
                return outcome;
            }
            let came_out = self.place.read(&self.temporary).ok();
            if came_out.as_ref() == Some(&put_in) {
                return match self.remove_temporary() {
                    Ok(()) => self.conflict_now(),
                    Err(outcome) => outcome,
                };
            }
            match given {
                Some(given) => put_in = given,
                None => return self.conflict_now(),
            }
        }
        self.conflict_now()
    }

    fn exchange(&self) -> Result<(), Outcome> {
        let directory = self.place.fd();
        rustix::fs::renameat_with(directory, &self.temporary, directory, self.place.name(), RenameFlags::EXCHANGE)
            .map_err(|error| match error {
                Errno::INVAL | Errno::NOSYS => Outcome::Denied(format!(
                    "the file system of {} can't exchange two names atomically (renameat2 RENAME_EXCHANGE)",
                    self.place.path().display()
                )),
                error => refused(system(self.place.path(), error)),
            })
    }

    fn remove_temporary(&self) -> Result<(), Outcome> {
        match rustix::fs::unlinkat(self.place.fd(), &self.temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => self.sync(),
            Err(error) => Err(refused(system(&self.place.path().with_file_name(&self.temporary), error))),
        }
    }

    fn sync(&self) -> Result<(), Outcome> {
        rustix::fs::fsync(self.place.fd()).map_err(|error| refused(system(self.place.path(), error)))
    }

    /// Reads again what is in effect.
    fn prove(&self) -> Result<Outcome, Outcome> {
        let now = self.name_of(&self.read()?).map_err(refused)?;
        if now == *self.what.to { Ok(Outcome::Applied) } else { Err(self.conflict(&now)) }
    }

    fn conflict(&self, found: &RevisionId) -> Outcome {
        Outcome::Conflict(format!(
            "{} names {found}, not {}: someone else changed it",
            self.place.path().display(),
            self.what.expect
        ))
    }

    fn conflict_now(&self) -> Outcome {
        let name = self.place.read(self.place.name()).and_then(|content| self.name_of(&content));
        match name {
            Ok(found) => self.conflict(&found),
            Err(error) => Outcome::Conflict(format!("someone else changed it: {error}")),
        }
    }
}

fn system(path: &Path, error: Errno) -> ReleaseDirError {
    ReleaseDirError::System { path: path.to_owned(), error }
}

/// A failure of the file system: one that may pass, or one that will not.
fn refused(error: ReleaseDirError) -> Outcome {
    let line = text::one_line(&text::printable(error.to_string().as_bytes()));
    match error {
        ReleaseDirError::System {
            error:
                Errno::INTR
                | Errno::AGAIN
                | Errno::BUSY
                | Errno::IO
                | Errno::MFILE
                | Errno::NFILE
                | Errno::NOMEM
                | Errno::NOSPC
                | Errno::DQUOT
                | Errno::STALE,
            ..
        } => Outcome::Transient(line),
        ReleaseDirError::System { .. }
        | ReleaseDirError::Unsupported
        | ReleaseDirError::Path(_)
        | ReleaseDirError::Root(_)
        | ReleaseDirError::Symlink(_)
        | ReleaseDirError::NotALink(_)
        | ReleaseDirError::NotARelease { .. }
        | ReleaseDirError::TooMany(_) => Outcome::Denied(line),
    }
}

#[cfg(test)]
mod tests;
