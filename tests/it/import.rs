//! `iot-meter import`: an old installation, small but whole, taken over by the real executable.

mod meters;
mod own;
mod past;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use iot_meter::domain::Timestamp;
use serde_json::{Value, json};

use crate::support::{TestApp, telemetry};

/// The executable's `import`, on the data directory and database of a server that is stopped.
struct Import {
    data_dir: PathBuf,
    database: String,
}

impl Import {
    fn of(app: &TestApp) -> Self {
        Self { data_dir: app.data_dir().to_owned(), database: app.database_url() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_iot-meter"));
        command.args(["import", "--output", "json", "--data-dir"]).arg(&self.data_dir).args(args);
        command.env("IOT_METER__DATABASE__URL", &self.database).current_dir(std::env::temp_dir());
        command.stdin(Stdio::null());
        command
    }

    /// The report, and whether nothing was refused.
    #[track_caller]
    fn run(&self, args: &[&str]) -> (Value, bool) {
        let done = self.command(args).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        let report = serde_json::from_slice(&done.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
        (report, done.status.success())
    }

    /// The error of a run that stops.
    fn fail(&self, args: &[&str]) -> String {
        let done = self.command(args).output().unwrap();
        assert_eq!(done.status.code(), Some(1), "{}", String::from_utf8_lossy(&done.stdout));
        String::from_utf8(done.stderr).unwrap()
    }
}

/// What became of a kind: read, stored, duplicate, refused.
fn counts(report: &Value, kind: &str) -> [u64; 4] {
    let tally = &report["kinds"][kind];
    let refused = tally["refused"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    let number = |name: &str| tally[name].as_u64().unwrap();
    [number("read"), number("stored"), number("duplicate"), refused]
}

/// An old installation in a directory.
struct Old {
    dir: tempfile::TempDir,
    /// Its messages begin then.
    base: Timestamp,
}

const COMMAND: &str = "0b8e5f1c-8f5a-4d53-9f0e-3a2f0a6b1c11";
const OPEN_COMMAND: &str = "0b8e5f1c-8f5a-4d53-9f0e-3a2f0a6b1c12";

impl Old {
    fn new(base: Timestamp) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), base }
    }

    fn at(&self, ms: i64) -> Timestamp {
        self.base.plus_us(ms * 1000)
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A folder of CSV files.
    fn tables(&self) -> String {
        self.write(
            "tables/devices.csv",
            "id,device_id,device_name,device_type,location,status,connection_status,last_seen,fw_version,created_at,metadata,colour\n\
             1,old-1,\"Unit 7, car A\",dc_meter,Depot,active,online,2026-02-12 10:00:00+00,2.1.0,2025-03-01 08:00:00.5+00,\"{\"\"train\"\": \"\"7\"\"}\",red\n\
             2,old-2,Second,ac_meter,,inactive,offline,,,2025-04-01 08:00:00+00,{},\n",
        );
        self.write("tables/device_configs.csv", "device_id,send_interval_s,hello_interval_s\nold-1,20,60\n");
        let (first, later) = (self.at(-60_000), self.at(-50_000));
        self.write(
            "tables/device_alerts.csv",
            format!(
                "id,device_id,alert_type,severity,message,acknowledged,acknowledged_at,created_at\n\
                 1,old-1,overload,critical,\"too, much\",t,{later},{first}\n\
                 2,old-2,temperature,warning,hot,f,,{first}\n"
            ),
        );
        self.write(
            "tables/device_commands.csv",
            format!(
                "cmd_id,device_id,cmd,params,status,result,detail,created_at,acked_at\n\
                 {COMMAND},old-1,reboot,{{}},acked,rejected,busy,{first},{later}\n\
                 {OPEN_COMMAND},old-1,request_status,,pending,,,{first},\n"
            ),
        );
        self.path("tables")
    }

    /// A message in the bucket, as the old collector wrote it.
    fn put(&self, device: &str, category: &str, received_at: Timestamp, data: &str) {
        let time = received_at.to_string().replace('Z', "+00:00");
        let body =
            format!(r#"{{"device_id": "{device}", "timestamp": "{time}", "category": "{category}", "data": {data}}}"#);
        self.write(&format!("bucket/{device}/{category}/{time}.json"), body);
    }

    /// A bucket: two datagrams, a hello, a status, a datagram of an old meter.
    fn bucket(&self) -> String {
        for seq in 0..2 {
            let ts = self.at(i64::from(seq) * 10_000);
            self.put("old-1", "telemetry", ts.plus_us(300_000), &telemetry("old-1", ts, seq, 750.5));
        }
        let hello = json!({
            "v": 2, "device_id": "old-1", "ts": self.at(20_000).to_string(), "seq": 2, "msg_type": "hello",
            "fw_version": "2.2.0", "uptime_s": 20, "broker_connections": 1, "buf_usage_pct": 0.0,
        });
        self.put("old-1", "hello", self.at(20_100), &hello.to_string());
        let status = json!({"v": 2, "device_id": "old-1", "ts": self.at(21_000).to_string(), "status": "offline"});
        self.put("old-1", "status", self.at(21_100), &status.to_string());
        let flat = format!(r#"{{"timestamp": "{}", "voltage_dc": 601.5, "current_dc": -3}}"#, self.at(5_000));
        self.put("old-2", "telemetry", self.at(5_200), &flat);
        self.path("bucket")
    }

    /// Points: those of the first datagram again, to the millisecond, and two that no message has.
    fn points(&self) -> String {
        let line = |ms: i64, device: &str, fields: &str| {
            format!("meters,device_id={device},unit=V {fields} {}\n", self.at(ms).0 / 1000 * 1_000_000)
        };
        let text = line(0, "old-1", "voltage_dc=750.5,current_dc=100")
            + &line(40_000, "old-1", "voltage_dc=749.25")
            + &line(40_000, "old-1", "current_dc=12i")
            + "# a comment\n";
        self.write("points.lp", text);
        self.path("points.lp")
    }
}

/// Everything at once.
fn take_all_over(app: &mut TestApp) {
    let base = Timestamp(app.now().0 / 1_000_000 * 1_000_000).plus_us(-30 * 86_400_000_000);
    let old = Old::new(base);
    let (tables, bucket, points) = (old.tables(), old.bucket(), old.points());
    let import = Import::of(app);
    let all = ["--tables", &tables, "--raw", &bucket, "--points", &points];
    app.restart_while(|| {
        let (report, is_clean) = import.run(&all);
        assert!(is_clean, "{report:#}");
        assert_eq!(counts(&report, "devices"), [2, 2, 0, 0]);
        assert_eq!(counts(&report, "configs"), [1, 1, 0, 0]);
        assert_eq!(counts(&report, "alerts"), [2, 2, 0, 0]);
        assert_eq!(counts(&report, "commands"), [2, 2, 0, 0]);
        assert_eq!(counts(&report, "raw"), [5, 5, 0, 0]);
        assert_eq!(counts(&report, "points"), [4, 2, 2, 0], "two are in the first datagram");
        assert_eq!(report["ignored_columns"], json!({"devices": ["colour"]}));
        assert_eq!(report["quarantined"], json!([]));

        let (again, is_clean) = import.run(&all);
        assert!(is_clean);
        for kind in ["devices", "configs", "alerts", "commands", "raw", "points"] {
            let [read, stored, duplicate, refused] = counts(&again, kind);
            assert_eq!((stored, refused), (0, 0), "{kind}: {again:#}");
            assert_eq!(duplicate, read, "{kind}");
        }
    });
    what_users_see(app, &old);
}

fn what_users_see(app: &TestApp, old: &Old) {
    let device = app.api.get("/api/devices/old-1").expect(200).json();
    assert_eq!(device["device_name"], "Unit 7, car A");
    assert_eq!(device["created_at"], "2025-03-01T08:00:00.500Z");
    assert_eq!(device["metadata"], json!({"train": "7"}));
    assert_eq!((&device["status"], &device["fw_version"]), (&json!("active"), &json!("2.2.0")), "from its last hello");
    let second = app.api.get("/api/devices/old-2").expect(200).json();
    assert_eq!(second["status"], "inactive");

    let alerts = app.api.get("/api/devices/old-1/alerts").expect(200).json();
    assert_eq!(alerts[0]["message"], "too, much");
    assert_eq!(
        (&alerts[0]["acknowledged"], &alerts[0]["created_at"]),
        (&json!(true), &json!(old.at(-60_000).to_string()))
    );
    let command = app.api.get(&format!("/api/commands/{COMMAND}")).expect(200).json();
    assert_eq!((&command["status"], &command["detail"]), (&json!("rejected"), &json!("busy")));
    let open = app.api.get(&format!("/api/commands/{OPEN_COMMAND}")).expect(200).json();
    assert_eq!(open["status"], "cancelled", "nothing old is ever sent");

    let span = format!("start={}&stop={}", old.at(-1000), old.at(60_000));
    let read = |device: &str, metric: &str| {
        app.api.get(&format!("/api/devices/{device}/metrics?{span}&metric={metric}")).expect(200).json()
    };
    let values =
        |rows: Value| rows.as_array().unwrap().iter().map(|r| r["value"].as_f64().unwrap()).collect::<Vec<_>>();
    assert_eq!(values(read("old-1", "voltage_dc")), [750.5, 750.5, 749.25]);
    assert_eq!(values(read("old-1", "active_power")), [75050.0, 75050.0, 8991.0], "a pair made of two points, too");
    assert_eq!(values(read("old-2", "current_dc")), [-3.0]);

    let raw = app.api.get("/api/devices/old-1/raw-data?limit=10").expect(200).json();
    assert_eq!(raw.as_array().unwrap().len(), 4, "{raw:#}");
    let first = raw.as_array().unwrap().last().unwrap();
    assert_eq!(first["last_modified"], old.at(300).to_string(), "when the old installation received it");
    let name = first["filename"].as_str().unwrap();
    let bytes = app.api.get(&format!("/api/devices/old-1/raw-data/{}", name.trim_start_matches("old-1/"))).expect(200);
    assert_eq!(bytes.text(), telemetry("old-1", old.at(0), 0, 750.5));
}

#[test]
fn an_old_installation_is_taken_over_once_with_its_own_times() {
    take_all_over(&mut TestApp::open());
}

#[cfg(feature = "postgres")]
#[test]
fn an_old_installation_is_taken_over_into_postgres() {
    let url = crate::support::postgres::Server::shared().database();
    take_all_over(&mut TestApp::builder().open().set("database.url", &url).start());
}

#[cfg(feature = "postgres")]
#[test]
fn the_old_tables_are_read_from_the_old_database_and_from_its_dumps() {
    let server = crate::support::postgres::Server::shared();
    let url = server.database();
    server.query(
        &url,
        "CREATE TABLE devices (id serial PRIMARY KEY, device_id varchar(100) UNIQUE NOT NULL, device_name text, \
         status varchar(20) DEFAULT 'active', created_at timestamp DEFAULT now(), metadata jsonb); \
         CREATE TABLE device_alerts (id serial, device_id varchar(100) REFERENCES devices (device_id), alert_type text, \
         severity text, message text, acknowledged boolean DEFAULT false, created_at timestamp); \
         INSERT INTO devices (device_id, device_name, created_at, metadata) \
         VALUES ('pg-1', 'It''s; a ''meter''', '2025-03-01 08:00:00', '{\"a\": [1, {\"b\": null}]}'); \
         INSERT INTO device_alerts (device_id, alert_type, severity, message, created_at) \
         SELECT 'pg-1', 'overload', 'critical', E'line\\n' || n, '2025-05-01'::timestamp + n * interval '1 s' \
         FROM generate_series(1, 1500) AS n",
    );
    let mut app = TestApp::open();
    let import = Import::of(&app);
    app.restart_while(|| {
        let (report, is_clean) = import.run(&["--postgres-url", &url]);
        assert!(is_clean, "{report:#}");
        assert_eq!(counts(&report, "devices"), [1, 1, 0, 0]);
        assert_eq!(counts(&report, "alerts"), [1500, 1500, 0, 0], "more than one part");
        // Each way of dumping gives the same rows.
        for (form, alone) in [("--data-only", ""), ("--column-inserts", "--data-only"), ("--inserts", "")] {
            let dump = server.dump(&url, &[form, alone]);
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("dump.sql");
            std::fs::write(&file, dump).unwrap();
            let (report, is_clean) = import.run(&["--tables", file.to_str().unwrap()]);
            assert!(is_clean, "{form}: {report:#}");
            assert_eq!(counts(&report, "devices"), [1, 0, 1, 0], "{form}");
            assert_eq!(counts(&report, "alerts"), [1500, 0, 1500, 0], "{form}");
        }
        let file = import.data_dir.join("nameless.sql");
        std::fs::write(&file, server.dump(&url, &["--data-only", "--inserts"])).unwrap();
        let error = import.fail(&["--tables", file.to_str().unwrap()]);
        assert!(error.contains("the column names are missing; dump with `pg_dump --data-only`"), "{error}");
    });
    let device = app.api.get("/api/devices/pg-1").expect(200).json();
    assert_eq!((&device["device_name"], &device["metadata"]["a"][0]), (&json!("It's; a 'meter'"), &json!(1)));
}

#[test]
fn an_import_that_was_killed_goes_on() {
    const DEVICES: i64 = 10;
    const MESSAGES: i64 = 900;
    let mut app = TestApp::open();
    let old = Old::new(app.at(-7200));
    for device in 0..DEVICES {
        for message in 0..MESSAGES {
            let id = format!("k-{device}");
            let ts = old.at(message * 1000 + device);
            old.put(&id, "telemetry", ts.plus_us(5000), &telemetry(&id, ts, message as u32, 700.0));
        }
    }
    let bucket = old.path("bucket");
    let import = Import::of(&app);
    app.restart_while(|| {
        let archive = import.data_dir.join("archive");
        let before = objects(&archive);
        let mut first = import.command(&["--raw", &bucket]).stdout(Stdio::null()).spawn().unwrap();
        crate::support::eventually("the first part is in the archive", || objects(&archive) > before);
        first.kill().unwrap();
        assert!(!first.wait().unwrap().success(), "it was killed before its end");
        let (report, is_clean) = import.run(&["--raw", &bucket]);
        assert!(is_clean, "{report:#}");
        let [read, stored, duplicate, _] = counts(&report, "raw");
        assert_eq!((read, stored + duplicate), (9000, 9000));
        assert!(stored > 0 && duplicate > 0, "{report:#}");
    });
    for device in 0..DEVICES {
        let id = format!("k-{device}");
        let span = format!("start={}&stop={}", old.at(-1000), old.at(MESSAGES * 1000 + 1000));
        let path = format!("/api/devices/{id}/metrics?{span}&metric=voltage_dc");
        assert_eq!(app.api.get(&path).expect(200).json().as_array().unwrap().len(), MESSAGES as usize, "{id}");
        let raw = app.api.get(&format!("/api/devices/{id}/raw-data?limit=1000")).expect(200).json();
        assert_eq!(raw.as_array().unwrap().len(), MESSAGES as usize, "{id}");
        let device = app.api.get(&format!("/api/devices/{id}")).expect(200).json();
        assert_eq!((&device["status"], &device["metadata"]["quarantined"]), (&json!("inactive"), &json!(true)));
    }
}

/// Whole objects: one that is being written has another name.
fn objects(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_object = |path: &Path| path.extension().is_some_and(|extension| extension == "parquet");
    entries.map(|path| if path.is_dir() { objects(&path) } else { usize::from(is_object(&path)) }).sum()
}

#[test]
fn what_cannot_be_taken_over_is_named_and_the_rest_goes_on() {
    let mut app = TestApp::open();
    let old = Old::new(app.at(0));
    old.write(
        "t/devices.csv",
        "device_id,metadata,created_at\ngood,,2025-01-01 00:00:00\n../bad,,\nworse,[1],\nlate,{},soon\n",
    );
    old.write("t/device_configs.csv", "device_id,send_interval_s\ngood,0\n");
    old.write(
        "t/device_alerts.csv",
        "device_id,alert_type,created_at,acknowledged\nnobody,x,2025-01-01,f\nnobody,x,2025-01-01 00:00:00,f\n\
         good,x,2025-01-01 00:00:00,t\n",
    );
    old.write(
        "t/device_commands.csv",
        format!(
            "cmd_id,device_id,cmd,created_at,status\n7,good,reboot,{now},\n{COMMAND},good,reboot,2025-01-01 00:00:00,acked\n\
             {OPEN_COMMAND},good,reboot,{now},lost\n",
            now = old.at(0)
        ),
    );
    old.put("good", "telemetry", old.at(0), &telemetry("good", old.at(0), 1, 1.0));
    old.put("good", "telemetry", old.at(1), &telemetry("other", old.at(0), 1, 1.0));
    old.put("good", "telemetry", old.at(2), "\"not json at all\"");
    old.write("bucket/good/telemetry/2025-01-01T00:00:00.json", "{\"device_id\"");
    old.write("bucket/good/telemetry/2025-01-01T00:00:01.json", "{\"device_id\": \"good\"}");
    old.write("bucket/good/telemetry/2025-01-01T00:00:02.json", "{\"device_id\": \"x\", \"data\": {}}");
    old.write("bucket/good/lost/1.json", "{}");
    old.write("bucket/readme.txt", "hello");
    // Older than the database keeps: the archive has it.
    let ancient = app.now().plus_us(-500 * 86_400_000_000);
    old.put("good", "telemetry", ancient, &telemetry("good", ancient, 9, 9.0));
    let ns = |at: Timestamp| at.0 * 1000;
    old.write(
        "points.csv",
        format!(
            "#datatype,string,long,dateTime:RFC3339,double,string,string,string\n#group,false,false,false,false,true,true,true\n\
             #default,_result,,,,,,\n,result,table,_time,_value,_field,_measurement,device_id\n\
             ,,0,{at},5.5,temperature,m,good\n,,0,{at},x,temperature,m,good\n,,0,{at},5.5,temperature,m,\n\n",
            at = old.at(3),
        ),
    );
    old.write(
        "points.lp",
        format!("m,device_id=good battery=24 {}\nnonsense\nm,device_id=good a\\ b=1 7\n", ns(ancient)),
    );
    let import = Import::of(&app);
    app.restart_while(|| {
        let (paths, refused) =
            (["t", "bucket", "points.csv", "points.lp"].map(|p| old.path(p)), old.path("refused.jsonl"));
        let [tables, bucket, csv, lp] = &paths;
        let all = ["--tables", tables, "--raw", bucket, "--points", csv, lp, "--refused", &refused];
        let (dry, _) = import.run(&[&all[..], &["--dry-run"]].concat());
        let (report, is_clean) = import.run(&all);
        assert!(!is_clean);
        assert_eq!(counts(&report, "devices"), [4, 1, 0, 3]);
        assert_eq!(counts(&dry, "devices"), [4, 1, 0, 3], "the dry run stored nothing and says the same");
        assert_eq!((&dry["dry_run"], &report["dry_run"]), (&json!(true), &json!(false)));
        let reasons = |kind: &str| report["kinds"][kind]["refused"].clone();
        assert_eq!(reasons("devices"), json!({"bad_device_id": 1, "bad_json": 1, "bad_time": 1}));
        assert_eq!(reasons("configs"), json!({"bad_setting": 1}));
        assert_eq!(reasons("alerts"), json!({"bad_time": 1, "older_than_retention": 1, "unknown_device": 1}));
        assert_eq!(reasons("commands"), json!({"bad_cmd_id": 1, "bad_status": 1, "older_than_retention": 1}));
        assert_eq!(
            reasons("raw"),
            json!({
                "bad_name": 1, "device_mismatch": 2, "malformed": 2, "no_data": 1, "unknown_category": 1,
            })
        );
        assert_eq!(
            (&report["kinds"]["raw"]["stored"], &report["kinds"]["raw"]["archive_only"]),
            (&json!(2), &json!(1))
        );
        assert_eq!(
            reasons("points"),
            json!({"bad_metric": 1, "malformed": 1, "no_device": 1, "not_a_number": 1, "older_than_retention": 1})
        );
        let lines = std::fs::read_to_string(&refused).unwrap();
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let all: u64 =
            ["devices", "configs", "alerts", "commands", "raw", "points"].map(|k| counts(&report, k)[3]).iter().sum();
        assert_eq!(lines.len() as u64, all);
        let late = lines.iter().find(|line| line["reason"] == "bad_time" && line["kind"] == "devices").unwrap();
        assert_eq!(late["place"], format!("{tables}/devices.csv:5"));

        let missing = import.fail(&["--tables", &old.path("bucket")]);
        assert!(missing.contains("there is no table of an old installation in"), "{missing}");
        old.write("m/device_alerts.csv", "device,kind\nx,y\n");
        let missing = import.fail(&["--tables", &old.path("m")]);
        assert!(missing.contains("the table device_alerts has no column device_id; it has device, kind"), "{missing}");
        let missing = import.fail(&["--raw", &old.path("nowhere")]);
        assert!(missing.contains("nowhere"), "{missing}");
    });
    assert_eq!(app.values("good", "temperature"), [5.5]);
    let raw = app.api.get("/api/devices/good/raw-data?limit=10").expect(200).json();
    let names: Vec<&str> = raw.as_array().unwrap().iter().map(|r| r["filename"].as_str().unwrap()).collect();
    assert_eq!(names.iter().filter(|name| name.contains("/invalid/")).count(), 2, "{names:?}");
    assert!(names.last().unwrap().contains("/telemetry/"), "the ancient one is in the archive: {names:?}");
}

#[test]
fn nothing_is_taken_over_behind_the_back_of_a_server() {
    let app = TestApp::open();
    let old = Old::new(app.at(0));
    let error = Import::of(&app).fail(&["--tables", &old.tables()]);
    assert!(error.contains("is in use by another iot-meter process"), "{error}");
}

#[test]
fn what_came_after_the_change_over_is_left_out() {
    let mut app = TestApp::open();
    let old = Old::new(app.at(0));
    let (bucket, points) = (old.bucket(), old.points());
    let import = Import::of(&app);
    app.restart_while(|| {
        let before = old.at(10_000).to_string();
        let (report, is_clean) = import.run(&["--raw", &bucket, "--points", &points, "--before", &before]);
        assert!(is_clean, "{report:#}");
        assert_eq!(counts(&report, "raw"), [5, 2, 0, 0]);
        assert_eq!(report["kinds"]["raw"]["later"], 3);
        assert_eq!(report["kinds"]["points"]["later"], 2);
    });
}

#[cfg(feature = "s3-tests")]
#[test]
fn the_old_bucket_may_be_in_an_object_store() {
    let s3 = crate::support::cloud::Bucket::start(crate::support::cloud::Kind::S3);
    let mut app = TestApp::open();
    let old = Old::new(app.at(0));
    old.bucket();
    s3.put_dir("old", &old.dir.path().join("bucket"));
    let import = Import::of(&app);
    app.restart_while(|| {
        let (place, endpoint) = s3.place("old");
        let mut command = import.command(&["--raw", &place, "--raw-endpoint", &endpoint, "--raw-region", "eu-test-1"]);
        command.env("AWS_ACCESS_KEY_ID", crate::support::cloud::KEY_ID);
        command.env("AWS_SECRET_ACCESS_KEY", crate::support::cloud::SECRET);
        let done = command.output().unwrap();
        let report: Value = serde_json::from_slice(&done.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&done.stderr)));
        assert_eq!(counts(&report, "raw"), [5, 5, 0, 0]);
    });
}
