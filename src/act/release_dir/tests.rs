use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Barrier;

use super::*;

const LONG: Duration = Duration::from_secs(30);

struct App {
    dir: tempfile::TempDir,
}

impl App {
    fn new(names: &[&str], current: &str) -> Self {
        // Memory is quick to fsync, so that races are close.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        for name in names {
            fs::create_dir_all(dir.path().join("releases").join(name)).unwrap();
        }
        symlink(format!("releases/{current}"), dir.path().join("current")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn switch(&self, expect: &str, to: &str) -> Outcome {
        self.switch_link("current", expect, to)
    }

    fn switch_link(&self, link: &str, expect: &str, to: &str) -> Outcome {
        switch(
            Switch {
                root: self.dir.path(),
                link: Path::new(link),
                releases: Path::new("releases"),
                expect: &RevisionId::new(expect),
                to: &RevisionId::new(to),
            },
            LONG,
        )
    }

    fn temporary(&self, expect: &str, to: &str) -> PathBuf {
        let (expect, to) = (RevisionId::new(expect), RevisionId::new(to));
        let what = Switch {
            root: self.dir.path(),
            link: Path::new("current"),
            releases: Path::new("releases"),
            expect: &expect,
            to: &to,
        };
        self.dir.path().join(temporary_name(what, OsStr::new("current")))
    }

    fn current(&self) -> String {
        fs::read_link(self.path("current")).unwrap().display().to_string()
    }

    fn leftovers(&self) -> usize {
        fs::read_dir(self.dir.path()).unwrap().count() - 2
    }

    /// What any other deployment tool does: a new link renamed over the old one, without looking.
    fn blind_write(&self, to: &str) {
        symlink(format!("releases/{to}"), self.path("theirs")).unwrap();
        fs::rename(self.path("theirs"), self.path("current")).unwrap();
    }

    /// The text of an outcome that has one, the directory taken out.
    fn text(&self, outcome: Outcome) -> (&'static str, String) {
        let (kind, text) = match outcome {
            Outcome::Applied => ("applied", String::new()),
            Outcome::AlreadyInEffect => ("already", String::new()),
            Outcome::Conflict(text) => ("conflict", text),
            Outcome::Transient(text) => ("transient", text),
            Outcome::Denied(text) => ("denied", text),
            Outcome::TimedOut(text) => ("timed out", text),
            Outcome::NotBegun(text) => ("not begun", text),
            Outcome::Stopped(text) => ("stopped", text),
        };
        (kind, text.replace(&self.dir.path().display().to_string(), "ROOT"))
    }
}

#[test]
fn a_switch_is_done_once_and_only_from_what_was_expected() {
    let app = App::new(&["v1", "v2", "v3"], "v2");
    assert_eq!(app.switch("v2", "v1"), Outcome::Applied);
    assert_eq!(app.current(), "releases/v1");
    assert_eq!(app.switch("v2", "v1"), Outcome::AlreadyInEffect);
    assert_eq!(
        app.text(app.switch("v2", "v3")),
        ("conflict", "ROOT/current names v1, not v2: someone else changed it".to_owned())
    );
    assert_eq!((app.current().as_str(), app.leftovers()), ("releases/v1", 0));
}

#[test]
fn the_way_a_link_is_written_is_kept() {
    let app = App::new(&["v1", "v2"], "v2");
    fs::remove_file(app.path("current")).unwrap();
    symlink(app.path("releases/v2"), app.path("current")).unwrap();
    assert_eq!(app.switch("v2", "v1"), Outcome::Applied);
    assert_eq!(app.current(), app.path("releases/v1").display().to_string());

    fs::create_dir_all(app.path("instances/a")).unwrap();
    symlink("../../releases/v2", app.path("instances/a/current")).unwrap();
    assert_eq!(app.switch_link("instances/a/current", "v2", "v1"), Outcome::Applied);
    let link = fs::read_link(app.path("instances/a/current")).unwrap();
    assert_eq!(link, Path::new("../../releases/v1"));
    assert!(app.path("instances/a/current").is_dir());
}

#[test]
fn symlink_games_are_refused_and_change_nothing() {
    type Game = fn(&App);
    let games: [(&str, Game, &str); 7] = [
        (
            "a directory in the link's place",
            |app| {
                fs::remove_file(app.path("current")).unwrap();
                fs::create_dir(app.path("current")).unwrap();
            },
            "ROOT/current is not a symlink",
        ),
        (
            "a link out of the root",
            |app| {
                fs::remove_file(app.path("current")).unwrap();
                symlink("/etc", app.path("current")).unwrap();
            },
            "ROOT/current points at /etc, which is not a release in ROOT/releases",
        ),
        (
            "no link at all",
            |app| fs::remove_file(app.path("current")).unwrap(),
            "ROOT/current: No such file or directory (os error 2)",
        ),
        (
            "releases is a symlink",
            |app| {
                fs::rename(app.path("releases"), app.path("real")).unwrap();
                symlink("real", app.path("releases")).unwrap();
            },
            "ROOT/releases/v1: a symlink stands where a directory must be",
        ),
        (
            "the goal is a symlink",
            |app| {
                fs::remove_dir(app.path("releases/v1")).unwrap();
                symlink("/tmp", app.path("releases/v1")).unwrap();
            },
            "ROOT/releases/v1: a symlink stands where a directory must be",
        ),
        (
            "the goal is a file",
            |app| {
                fs::remove_dir(app.path("releases/v1")).unwrap();
                fs::write(app.path("releases/v1"), "").unwrap();
            },
            "ROOT/releases/v1: Not a directory (os error 20)",
        ),
        (
            "the goal is gone",
            |app| fs::remove_dir(app.path("releases/v1")).unwrap(),
            "ROOT/releases/v1: No such file or directory (os error 2)",
        ),
    ];
    for (game, play, text) in games {
        let app = App::new(&["v1", "v2"], "v2");
        play(&app);
        let before = fs::read_link(app.path("current")).ok();
        assert_eq!(app.text(app.switch("v2", "v1")), ("denied", text.to_owned()), "{game}");
        assert_eq!(fs::read_link(app.path("current")).ok(), before, "{game}");
    }
    let app = App::new(&["v1", "v2"], "v2");
    for name in ["..", "../v1", "a/b", "-rf", ""] {
        assert_eq!(app.text(app.switch("v2", name)).0, "denied", "{name}");
    }
    for link in ["../current", "/etc/current", "."] {
        assert_eq!(app.text(app.switch_link(link, "v2", "v1")).0, "denied", "{link}");
    }
    assert_eq!(app.current(), "releases/v2");
}

#[test]
fn of_two_of_our_own_only_one_succeeds_from_the_same_release() {
    let app = App::new(&["v1", "v2", "v3"], "v2");
    for round in 0..1000 {
        let barrier = Barrier::new(2);
        let outcomes = std::thread::scope(|scope| {
            let writers = ["v1", "v3"].map(|to| {
                let (app, barrier) = (&app, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    app.switch("v2", to)
                })
            });
            writers.map(|writer| writer.join().unwrap())
        });
        let applied = outcomes.iter().filter(|o| **o == Outcome::Applied).count();
        let conflicts = outcomes.iter().filter(|o| matches!(o, Outcome::Conflict(_))).count();
        assert_eq!((applied, conflicts), (1, 1), "round {round}: {outcomes:?}");
        app.blind_write("v2");
    }
    assert_eq!(app.leftovers(), 0);
}

#[test]
fn what_a_blind_writer_puts_in_effect_is_never_lost() {
    let app = App::new(&["v1", "v2", "v3"], "v2");
    let mut lost_races = 0;
    for round in 0..1000 {
        let barrier = Barrier::new(2);
        let outcome = std::thread::scope(|scope| {
            let ours = scope.spawn(|| {
                barrier.wait();
                app.switch("v2", "v1")
            });
            barrier.wait();
            app.blind_write("v3");
            ours.join().unwrap()
        });
        // Theirs is either before ours, and stays, or after ours, and replaces it.
        assert_eq!(app.current(), "releases/v3", "round {round}: {outcome:?}");
        lost_races += usize::from(matches!(outcome, Outcome::Conflict(_)));
        app.blind_write("v2");
    }
    assert_eq!(app.leftovers(), 0);
    assert!(lost_races > 0, "the two never met");
}

#[test]
fn an_exchange_that_brings_out_something_else_is_given_back() {
    let app = App::new(&["v1", "v2", "v3"], "v2");
    let (expect, to) = (RevisionId::new("v2"), RevisionId::new("v1"));
    let what = Switch {
        root: app.dir.path(),
        link: Path::new("current"),
        releases: Path::new("releases"),
        expect: &expect,
        to: &to,
    };
    let root = Root::open(what.root).unwrap();
    let place = root.place(what.link).unwrap();
    let work = Work { temporary: temporary_name(what, place.name()), root, place, what };
    let before = work.read().unwrap();
    app.blind_write("v3");
    let outcome = work.exchange_for(&before).unwrap_err();
    assert_eq!(app.text(outcome), ("conflict", "ROOT/current names v3, not v2: someone else changed it".to_owned()));
    assert_eq!((app.current().as_str(), app.leftovers()), ("releases/v3", 0));

    // A directory put in the link's place is given back too, whole.
    fs::remove_file(app.path("current")).unwrap();
    fs::create_dir(app.path("current")).unwrap();
    fs::write(app.path("current/theirs"), "x").unwrap();
    let outcome = work.exchange_for(&before).unwrap_err();
    assert_eq!(app.text(outcome).0, "conflict");
    assert!(app.path("current/theirs").is_file());
    assert_eq!(app.leftovers(), 0);
}

#[test]
fn a_crash_at_any_point_is_made_good_by_doing_the_step_again() {
    // (what the temporary link holds, what is in effect, outcome, what is in effect after)
    let cases = [
        ("before the exchange", "v1", "v2", "applied", "v1"),
        ("after the exchange", "v2", "v1", "already", "v1"),
        ("before a link was given back", "v3", "v1", "conflict", "v3"),
        ("after a link was given back", "v1", "v3", "conflict", "v3"),
    ];
    for (when, temporary, current, outcome, after) in cases {
        let app = App::new(&["v1", "v2", "v3"], current);
        symlink(format!("releases/{temporary}"), app.temporary("v2", "v1")).unwrap();
        assert_eq!(app.text(app.switch("v2", "v1")).0, outcome, "{when}");
        assert_eq!(app.current(), format!("releases/{after}"), "{when}");
        assert_eq!(app.leftovers(), 0, "{when}");
    }
    // What another switch left behind is cleared, whatever it holds, and what is no link of ours is left alone.
    let app = App::new(&["v1", "v2", "v3"], "v1");
    symlink("releases/v3", app.temporary("v3", "v2")).unwrap();
    assert_eq!(app.switch("v2", "v1"), Outcome::AlreadyInEffect);
    assert_eq!(app.leftovers(), 0);
    let app = App::new(&["v1", "v2"], "v2");
    fs::write(app.temporary("v2", "v1"), "precious").unwrap();
    let (kind, text) = app.text(app.switch("v2", "v1"));
    assert_eq!(kind, "denied");
    assert!(text.ends_with("is in the way: it is not a symlink of ours"), "{text}");
    assert_eq!(app.current(), "releases/v2");
}

#[test]
fn a_lock_that_is_held_is_waited_for_only_so_long() {
    let app = App::new(&["v1", "v2"], "v2");
    let root = Root::open(app.dir.path()).unwrap();
    lock(&root, LONG).unwrap();
    let (expect, to) = (RevisionId::new("v2"), RevisionId::new("v1"));
    let what = Switch {
        root: app.dir.path(),
        link: Path::new("current"),
        releases: Path::new("releases"),
        expect: &expect,
        to: &to,
    };
    let outcome = switch(what, Duration::from_millis(30));
    assert_eq!(app.text(outcome), ("transient", "ROOT is locked by another process".to_owned()));
    drop(root);
    assert_eq!(switch(what, LONG), Outcome::Applied);
}
