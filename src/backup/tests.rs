//! Backups made and restored in one process: what else happens meanwhile, and by which paths a database is named.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::*;
use crate::domain::Timestamp;
use crate::serve::DataDir;
use crate::store;

const SETTINGS: &str = "# of this server\n";

/// A directory to work in, with the data directory `data`.
struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    /// With a database in the data directory.
    fn new() -> Self {
        let desk = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(desk.path("data")).unwrap();
        drop(store::open(&desk.url("data/iot-meter.db")).unwrap());
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn url(&self, name: &str) -> String {
        format!("sqlite://{}", self.path(name).display())
    }

    /// The same, from the working directory.
    fn url_from_here(&self, name: &str) -> String {
        let up: PathBuf = std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect();
        format!("sqlite://{}", up.join(self.path(name).strip_prefix("/").unwrap()).display())
    }

    /// Makes the backup `file`.
    fn back_up(
        &self,
        file: &str,
        data: &str,
        database_url: &str,
        on_progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Made, Error> {
        let data_dir = self.path(data);
        let source = Source {
            data_dir: &data_dir,
            database_url,
            without_database: false,
            archive_url: None,
            settings: SETTINGS,
            has_telemetry: false,
            secrets: Secrets::Clear,
            program: "0.0.0",
            now: Timestamp(0),
        };
        make(source, Some(&self.path(file)), on_progress)
    }

    /// Restores the backup `b`.
    fn bring_back(
        &self,
        data: &str,
        database_url: &str,
        on_progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Restored, Error> {
        let data_dir = self.path(data);
        let database_url = Some(database_url);
        let target = Target { data_dir: &data_dir, database_url, passphrase: None, without_secrets: false };
        restore(&self.path("b"), target, on_progress)
    }
}

fn is_database(path: &Path) -> bool {
    fs::read(path).unwrap().starts_with(b"SQLite format 3\0")
}

#[test]
fn a_live_database_is_no_plain_file_by_whatever_path_it_is_named() {
    let desk = Desk::new();
    symlink(desk.path("data"), desk.path("link")).unwrap();
    symlink(desk.path("data/iot-meter.db"), desk.path("link.db")).unwrap();
    // Open: its log is there too.
    let live = store::open(&desk.url("data/iot-meter.db")).unwrap();
    let check = |data: &str, url: &str| {
        let made = desk.back_up("b", data, url, &mut |_, _| ()).unwrap();
        let names: Vec<&String> = made.manifest.entries.keys().filter(|name| name.contains("meter.db")).collect();
        assert_eq!(names, ["database/iot-meter.db"], "{data} {url}");
        fs::remove_file(desk.path("b")).unwrap();
    };
    check("data", &desk.url("data/iot-meter.db"));
    check("data", &desk.url("link/iot-meter.db"));
    check("data", &desk.url("link.db"));
    check("link", &desk.url("data/iot-meter.db"));
    check("data", &desk.url_from_here("data/iot-meter.db"));
    drop(live);
}

#[test]
fn what_an_old_backup_has_twice_comes_back_from_its_own_entry() {
    let desk = Desk::new();
    // A data directory whose database is elsewhere: what has the name of one goes in as plain files.
    fs::create_dir(desk.path("old")).unwrap();
    for end in ["", "-wal", "-shm", "-journal"] {
        fs::write(desk.path(&format!("old/iot-meter.db{end}")), "torn").unwrap();
    }
    fs::write(desk.path("old/restored-settings.toml"), "# of the one before\n").unwrap();
    let made = desk.back_up("b", "old", &desk.url("data/iot-meter.db"), &mut |_, _| ()).unwrap();
    assert!(made.manifest.entries.contains_key("files/iot-meter.db"));
    let check = |data: &str, url: &str| {
        desk.bring_back(data, url, &mut |_, _| ()).unwrap();
        assert!(is_database(&desk.path(data).join("iot-meter.db")), "{url}");
        assert_eq!(desk.text(&format!("{data}/restored-settings.toml")), SETTINGS, "{url}");
        assert_eq!(fs::read_dir(desk.path(data)).unwrap().count(), 2, "{url}");
    };
    symlink(desk.path("a"), desk.path("link")).unwrap();
    check("a", &desk.url("link/iot-meter.db"));
    check("here", &desk.url_from_here("here/iot-meter.db"));
    check("plain", &desk.url("plain/iot-meter.db"));
}

#[test]
fn a_database_is_not_restored_beside_anything_that_another_has_left() {
    let desk = Desk::new();
    desk.back_up("b", "data", &desk.url("data/iot-meter.db"), &mut |_, _| ()).unwrap();
    for left in ["iot.db", "iot.db-wal", "iot.db-shm", "iot.db-journal", "iot.db.part", "iot.db.part-wal"] {
        fs::write(desk.path(left), "left").unwrap();
        let refused = desk.bring_back("new", &desk.url("iot.db"), &mut |_, _| ()).unwrap_err();
        assert!(matches!(&refused, Error::Exists { path } if path.ends_with(left)), "{left}: {refused}");
        assert!(!desk.path("new").exists(), "{left}");
        assert_eq!(desk.text(left), "left");
        fs::remove_file(desk.path(left)).unwrap();
    }
    desk.bring_back("new", &desk.url("iot.db"), &mut |_, _| ()).unwrap();
    assert!(is_database(&desk.path("iot.db")) && !desk.path("iot.db.part").exists());
}

#[test]
fn nobody_else_gets_into_a_directory_while_a_backup_is_read_or_restored() {
    let desk = Desk::new();
    desk.back_up("b", "data", &desk.url("data/iot-meter.db"), &mut |_, _| ()).unwrap();
    let (url, mut tries) = (desk.url("new/iot-meter.db"), 0);
    desk.bring_back("new", &url, &mut |_, _| {
        tries += 1;
        let second = desk.bring_back("new", &url, &mut |_, _| ());
        assert!(matches!(second, Err(Error::Unfinished { .. })), "{second:?}");
        let server = DataDir::open(&desk.path("new")).unwrap_err().to_string();
        assert!(server.contains("cut short"), "{server}");
    })
    .unwrap();
    assert!(tries > 0);
    assert!(is_database(&desk.path("new/iot-meter.db")) && !desk.path("new").join(UNFINISHED).exists());
}

#[test]
fn a_database_that_comes_while_another_is_restored_in_its_place_stays() {
    let desk = Desk::new();
    desk.back_up("b", "data", &desk.url("data/iot-meter.db"), &mut |_, _| ()).unwrap();
    let check = |data: &str, database: &str, staged: &str| {
        let mut come = |_: u64, _: u64| {
            if desk.path(staged).exists() {
                fs::write(desk.path(database), "live").unwrap();
            }
        };
        let refused = desk.bring_back(data, &desk.url(database), &mut come).unwrap_err();
        assert!(matches!(refused, Error::NotEmpty { .. } | Error::Exists { .. }), "{refused}");
        assert_eq!(desk.text(database), "live");
        assert!(!desk.path(staged).exists() && !desk.path(data).join(UNFINISHED).exists(), "{database}");
    };
    check("inside", "inside/iot-meter.db", "inside/restore.part/iot-meter.db");
    check("beside", "iot.db", "iot.db.part");
}

#[test]
fn a_key_of_more_bytes_than_a_key_has_is_refused_by_name_and_none_is_cut() {
    let desk = Desk::new();
    let (url, key) = (desk.url("data/iot-meter.db"), desk.path("data/pki/ca.pem"));
    fs::create_dir(desk.path("data/pki")).unwrap();
    fs::write(&key, vec![b'x'; 1 << 20]).unwrap();
    desk.back_up("b", "data", &url, &mut |_, _| ()).unwrap();
    desk.bring_back("new", &desk.url("new/iot-meter.db"), &mut |_, _| ()).unwrap();
    assert_eq!(fs::metadata(desk.path("new/pki/ca.pem")).unwrap().len(), 1 << 20);
    fs::write(&key, vec![b'x'; (1 << 20) + 1]).unwrap();
    let refused = desk.back_up("c", "data", &url, &mut |_, _| ()).unwrap_err();
    assert!(matches!(&refused, Error::KeyTooLarge { path, .. } if path.ends_with("pki/ca.pem")), "{refused}");
    assert!(!desk.path("c").exists() && !desk.path("c.part").exists());
}

#[test]
fn firmware_that_comes_while_a_backup_is_made_is_in_it() {
    let desk = Desk::new();
    fs::create_dir(desk.path("data/firmware")).unwrap();
    fs::write(desk.path("data/firmware/early"), "early").unwrap();
    // The last one of the files: while it is read, they have been listed.
    fs::write(desk.path("data/zzz"), vec![0_u8; 1 << 20]).unwrap();
    let late = desk.path("data/firmware/late");
    let mut come = |done: u64, _: u64| {
        if done > 1 << 18 && !late.exists() {
            fs::write(&late, "late").unwrap();
        }
    };
    desk.back_up("b", "data", &desk.url("data/iot-meter.db"), &mut come).unwrap();
    desk.bring_back("new", &desk.url("new/iot-meter.db"), &mut |_, _| ()).unwrap();
    assert_eq!(desk.text("new/firmware/early"), "early");
    assert_eq!(desk.text("new/firmware/late"), "late");
}

#[test]
fn who_names_a_passphrase_gets_nothing_that_was_not_sealed_with_it() {
    let desk = Desk::new();
    let (data_dir, url) = (desk.path("data"), desk.url("data/iot-meter.db"));
    fs::write(desk.path("pass"), "a passphrase that nobody guesses\n").unwrap();
    fs::write(desk.path("data/admin.key"), "key").unwrap();
    let passphrase = || Passphrase::from_file(&desk.path("pass")).unwrap();
    let bring_back = |file: &str, passphrase: Option<Passphrase>, without_secrets: bool| {
        let (dir, url) = (desk.path("new"), desk.url("new/iot-meter.db"));
        let target = Target { data_dir: &dir, database_url: Some(&url), passphrase, without_secrets };
        let restored = restore(&desk.path(file), target, &mut |_, _| ());
        let has_key = dir.join("admin.key").exists();
        let _ = fs::remove_dir_all(&dir);
        restored.map(|_| has_key).map_err(|error| error.to_string())
    };
    for (file, secrets) in
        [("sealed", Secrets::Sealed(passphrase())), ("clear", Secrets::Clear), ("none", Secrets::LeftOut)]
    {
        let source = Source {
            data_dir: &data_dir,
            database_url: &url,
            without_database: false,
            archive_url: None,
            settings: SETTINGS,
            has_telemetry: false,
            secrets,
            program: "0.0.0",
            now: Timestamp(0),
        };
        make(source, Some(&desk.path(file)), &mut |_, _| ()).unwrap();
    }
    assert_eq!(bring_back("sealed", Some(passphrase()), false), Ok(true));
    assert_eq!(bring_back("clear", None, false), Ok(true));
    assert_eq!(bring_back("none", None, false), Ok(false));
    for (file, form) in [("clear", "are in clear"), ("none", "are left out")] {
        let refused = bring_back(file, Some(passphrase()), false).unwrap_err();
        assert!(refused.contains(form) && refused.contains("leave --passphrase-file out"), "{refused}");
    }
    assert_eq!(bring_back("clear", None, true), Ok(false));
}
