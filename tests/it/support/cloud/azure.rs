//! Azurite, Microsoft's emulator of Azure Blob Storage, as a process of its own that keeps everything in memory. `make azurite`
//! fetches it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::TryStreamExt;
use hmac::Mac;
use object_store::ObjectStore;
use object_store::azure::MicrosoftAzureBuilder;

use super::BUCKET;

pub(super) const ACCOUNT: &str = "fleet";
/// Where the account is, below the server's address.
pub(super) const PATH: &str = "/fleet";
pub(super) const KEY: &str = "b25seS1mb3ItdGVzdHM=";

pub(super) struct Azurite {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Azurite {
    /// Starts it with one empty container.
    pub(super) fn start(dir: &Path) -> Self {
        let home = std::env::var("HOME").expect("HOME is set");
        let modules = Path::new(&home).join(".cache/iot-meter/azurite/node_modules");
        assert!(modules.join("azurite").exists(), "{} has no Azurite: `make azurite` fetches it", modules.display());
        let mut command = Command::new("node");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/azurite/run.js"));
        command.args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--silent"]);
        command.arg("--disableProductStyleUrl").current_dir(dir).env("NODE_PATH", modules);
        command.env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{KEY}")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("node is installed");
        let mut lines = BufReader::new(child.stdout.take().expect("is piped")).lines().map_while(Result::ok);
        let address = lines.find_map(|line| line.split_once("listens on http://")?.1.trim().parse().ok());
        let azurite = Self { child, address: address.expect("Azurite says where it listens") };
        azurite.make_container();
        azurite
    }

    /// `PUT /account/container?restype=container`, signed with the account's key:
    /// <https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>.
    fn make_container(&self) {
        let date = chrono::Utc::now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let version = "2023-11-03";
        let headers = format!("x-ms-date:{date}\nx-ms-version:{version}\n");
        let signed = format!("PUT{}{headers}/{ACCOUNT}{PATH}/{BUCKET}\nrestype:container", "\n".repeat(12));
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(&STANDARD.decode(KEY).unwrap()).unwrap();
        mac.update(signed.as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let made = ureq::put(format!("http://{}{PATH}/{BUCKET}?restype=container", self.address))
            .header("x-ms-date", &date)
            .header("x-ms-version", version)
            .header("authorization", format!("SharedKey {ACCOUNT}:{signature}"))
            .send_empty();
        assert_eq!(made.expect("is allowed").status(), 201);
    }

    /// Objects of the container, below a folder.
    pub(super) async fn objects(&self, folder: &str) -> Vec<String> {
        let store = MicrosoftAzureBuilder::new()
            .with_endpoint(format!("http://{}{PATH}", self.address))
            .with_allow_http(true)
            .with_account(ACCOUNT)
            .with_access_key(KEY)
            .with_container_name(BUCKET)
            .build()
            .unwrap();
        let listed: Vec<_> = store.list(Some(&folder.into())).try_collect().await.unwrap();
        listed.into_iter().map(|object| object.location.into()).collect()
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
