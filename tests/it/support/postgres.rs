//! A real Postgres for tests and benchmarks: in a temporary directory, on a socket in it, gone when this process is gone.
//!
//! A shell stands between: it starts and stops the server when told over its standard input and, when that ends (also
//! because this process was killed), stops it for good and removes the directory. As root the server runs as the user
//! `postgres`: it refuses to be root.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

/// `$1` is the directory, `$2` where the programs are, `$3` settings, the rest is put before each.
const KEEPER: &str = r#"
trap '' INT TERM HUP
dir=$1 bin=$2 settings=$3; shift 3
run() {
    "$@" "$bin/postgres" -D "$dir/data" -k "$dir" -c max_connections=200 -c shared_buffers=256MB \
        -c max_wal_size=4GB >>"$dir/log" 2>&1 & pid=$!
}
children() { grep -l "^PPid:[[:space:]]*$pid\$" /proc/[0-9]*/status 2>/dev/null | cut -d/ -f3; }
# First the one that makes the others.
freeze() { kill -STOP "$pid"; kill -STOP $(children); }
thaw() { kill -CONT "$pid" $(children) 2>/dev/null; }
halt() { thaw; kill "-$1" "$pid" 2>/dev/null; wait "$pid"; }
"$@" "$bin/initdb" -D "$dir/data" -U postgres -A trust --no-sync -E UTF8 --locale=C.UTF-8 \
    --locale-provider=icu --icu-locale=en >>"$dir/log" 2>&1
echo "$settings" >>"$dir/data/postgresql.conf"
run "$@"
echo running
while read -r word; do
    case $word in
        start) run "$@" ;;
        stop) halt INT ;;
        kill) halt QUIT ;;
        freeze) freeze ;;
        thaw) thaw ;;
    esac
    echo done
done
halt QUIT
rm -rf "$dir"
"#;

/// How long a server may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);

static SHARED: LazyLock<Server> = LazyLock::new(Server::start);
static TIMESCALEDB: LazyLock<Server> = LazyLock::new(|| {
    // Nothing asks its makers for news.
    let more = "fsync = off\nshared_preload_libraries = timescaledb\ntimescaledb.telemetry_level = off";
    Server::start_with(engine(), more, None)
});
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A running server.
pub struct Server {
    dir: PathBuf,
    bin: PathBuf,
    keeper: Mutex<Keeper>,
}

struct Keeper {
    _child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Server {
    /// The one server of this process.
    pub fn shared() -> &'static Self {
        &SHARED
    }

    /// The one of this process that has TimescaleDB (Apache licence: hypertables, without compression).
    pub fn timescaledb() -> &'static Self {
        &TIMESCALEDB
    }

    /// A server of one's own, to be stopped.
    pub fn start() -> Self {
        Self::start_with(programs(), "fsync = off", None)
    }

    /// One whose messages are German, if there is what that takes.
    pub fn german() -> Option<Self> {
        let catalogues = std::fs::read_dir("/usr/share/locale/de/LC_MESSAGES").ok()?;
        let mut names = catalogues.flatten().map(|entry| entry.file_name());
        let is_there = names.any(|name| name.to_string_lossy().starts_with("postgres-"));
        if !is_there || !Path::new("/usr/share/i18n/locales/de_DE").exists() {
            return None;
        }
        let server = Self::start_with(programs(), "fsync = off", Some("de_DE"));
        server.psql("postgres", "ALTER ROLE postgres SET lc_messages = 'de_DE.UTF-8'").unwrap();
        Some(server)
    }

    /// One that waits for the disk, as a real one does.
    pub fn durable() -> Self {
        Self::start_with(programs(), "fsync = on", None)
    }

    /// `locale`: is made for it, beside those that are installed.
    fn start_with(bin: PathBuf, settings: &str, locale: Option<&str>) -> Self {
        let dir = tempfile::Builder::new().prefix("iot-meter-pg").tempdir().unwrap().keep();
        let mut shell = Command::new("sh");
        if let Some(locale) = locale {
            let made = dir.join(format!("{locale}.UTF-8"));
            let status = Command::new("localedef").args(["-i", locale, "-f", "UTF-8"]).arg(&made).status().unwrap();
            assert!(status.success(), "{}: {status}", made.display());
            shell.env("LOCPATH", format!("{}:/usr/lib/locale", dir.display()));
        }
        let mut before: Vec<&str> = Vec::new();
        if is_root() {
            assert!(Command::new("chown").arg("postgres").arg(&dir).status().unwrap().success());
            assert!(Command::new("chmod").arg("755").arg(&dir).status().unwrap().success());
            before.extend(["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        } else {
            before.push("env");
        }
        let mut child = shell
            .args(["-c", KEEPER, "keeper"])
            .arg(&dir)
            .arg(&bin)
            .arg(format!("listen_addresses = ''\n{settings}"))
            .args(before)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let keeper = Mutex::new(Keeper { _child: child, to, from });
        let server = Self { dir, bin, keeper };
        server.heard();
        server.wait();
        server
    }

    /// Runs a script of `deploy/sql` on a database, as its first lines say.
    pub fn script(&self, url: &str, name: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/sql").join(name);
        let database = url.trim_start_matches("postgres:///").split('?').next().unwrap();
        self.run(database, &["-f", path.to_str().unwrap()]).unwrap();
    }

    /// A new, empty database; its URL.
    pub fn database(&self) -> String {
        let name = format!("test_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}")).unwrap();
        self.url(&name)
    }

    /// A directory the server may write to.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where its programs are.
    pub fn programs(&self) -> &Path {
        &self.bin
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&user=postgres", self.dir.display())
    }

    /// What a statement answers, unadorned.
    pub fn query(&self, url: &str, statement: &str) -> String {
        let database = url.trim_start_matches("postgres:///").split('?').next().unwrap();
        self.psql(database, statement).unwrap()
    }

    /// What pg_dump writes of a database.
    pub fn dump(&self, url: &str, how: &[&str]) -> String {
        let database = url.trim_start_matches("postgres:///").split('?').next().unwrap();
        let how = how.iter().filter(|word| !word.is_empty());
        let done = Command::new(self.bin.join("pg_dump"))
            .args(["-U", "postgres", "-h"])
            .arg(&self.dir)
            .args(how)
            .arg(database)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// Stops it; clients are cut off.
    pub fn stop(&self) {
        self.tell("stop");
    }

    /// Stops it as a crash would.
    pub fn crash(&self) {
        self.tell("kill");
    }

    /// Stops all its processes in the middle of what they do (`kill -STOP`): connections stay, nothing is answered.
    pub fn freeze(&self) {
        self.tell("freeze");
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        self.tell("thaw");
    }

    /// Starts it again.
    pub fn restart(&self) {
        self.tell("start");
        self.wait();
    }

    fn tell(&self, word: &str) {
        writeln!(self.keeper.lock().unwrap().to, "{word}").unwrap();
        self.heard();
    }

    fn heard(&self) {
        let mut line = String::new();
        assert!(self.keeper.lock().unwrap().from.read_line(&mut line).unwrap() > 0, "the keeper is gone");
    }

    fn wait(&self) {
        let end = Instant::now() + PATIENCE;
        while let Err(said) = self.psql("postgres", "SELECT 1") {
            let log = || std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "Postgres does not come up: {said}\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn psql(&self, database: &str, statement: &str) -> Result<String, String> {
        self.run(database, &["-c", statement])
    }

    fn run(&self, database: &str, what: &[&str]) -> Result<String, String> {
        let done = Command::new(self.bin.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-d", database])
            .args(what)
            .arg("-h")
            .arg(&self.dir)
            .output()
            .map_err(|error| error.to_string())?;
        match done.status.success() {
            true => Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
        }
    }
}

fn is_root() -> bool {
    String::from_utf8_lossy(&Command::new("id").arg("-u").output().unwrap().stdout).trim() == "0"
}

/// Where `initdb` and `postgres` are: where `pg_config` says, else where Debian puts them.
fn programs() -> PathBuf {
    let said = Command::new("pg_config").arg("--bindir").output().ok();
    let said = said.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|d| d.path().join("bin"));
    let has_server = |dir: &PathBuf| Path::new(dir).join("initdb").exists();
    said.into_iter().chain(debian).find(has_server).expect("Postgres is installed (Debian: postgresql)")
}

/// Where the programs of a Postgres with TimescaleDB are; fetched if they are not there yet.
fn engine() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/sql/engine");
    let done = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
    assert!(done.status.success(), "deploy/sql/engine: {}", done.status);
    PathBuf::from(String::from_utf8_lossy(&done.stdout).trim())
}
