//! Object stores for tests, which can be made to fail. S3's is inside this process, over a directory; Google's is the same
//! behind what Google's XML API has of its own; Azure's is Azurite, a process beside.

mod access;
#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "gcs")]
mod google;
mod service;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use access::Access;
use service::Service;

pub const KEY_ID: &str = "AKTEST";
pub const SECRET: &str = "only-for-tests";
/// What a container proves itself with at `/container/credentials`.
pub const POD_TOKEN: &str = "of-the-pod";
const BUCKET: &str = "meters";

/// Whose protocol it speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    S3,
    #[cfg(feature = "azure")]
    Azure,
    #[cfg(feature = "gcs")]
    Google,
}

/// How it behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Every request is answered with 500.
    Failing,
    /// Every connection is cut, also in the middle of a request.
    Away,
}

/// What answers when all is well.
#[derive(Clone)]
enum Behind {
    Here(Arc<Service>),
    #[cfg(feature = "azure")]
    There(SocketAddr),
}

/// A store with one bucket. Ends with the value.
pub struct Bucket {
    kind: Kind,
    runtime: tokio::runtime::Runtime,
    mood: watch::Sender<Mood>,
    address: SocketAddr,
    access: Arc<Access>,
    root: tempfile::TempDir,
    #[cfg(feature = "azure")]
    azurite: Option<azure::Azurite>,
}

impl Bucket {
    pub fn start(kind: Kind) -> Self {
        Self::lending(kind, Duration::from_secs(3600))
    }

    /// One that lends a machine's role credentials that end after `life`.
    pub fn lending(kind: Kind, life: Duration) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let access = Arc::new(Access::new(life));
        #[cfg(feature = "azure")]
        let azurite = (kind == Kind::Azure).then(|| azure::Azurite::start(root.path()));
        let behind = match kind {
            #[cfg(feature = "azure")]
            Kind::Azure => Behind::There(azurite.as_ref().expect("started above").address),
            _ => Behind::Here(Arc::new(Service::new(kind, root.path(), Arc::clone(&access)))),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (mood, feel) = watch::channel(Mood::Well);
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, behind.clone(), feel.clone()));
            }
        });
        Self {
            kind,
            runtime,
            mood,
            address,
            access,
            root,
            #[cfg(feature = "azure")]
            azurite,
        }
    }

    /// From now on; what is under way is cut.
    pub fn be(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The settings to use it with.
    pub fn settings(&self, folder: &str) -> Vec<(String, String)> {
        let (scheme, path, key_id, secret) = match self.kind {
            Kind::S3 => ("s3", "", KEY_ID, SECRET.to_owned()),
            #[cfg(feature = "azure")]
            Kind::Azure => ("az", azure::PATH, azure::ACCOUNT, azure::KEY.to_owned()),
            #[cfg(feature = "gcs")]
            Kind::Google => ("gs", "", "", google::account().json.clone()),
        };
        [
            ("archive.url", format!("{scheme}://{BUCKET}{folder}")),
            ("archive.endpoint", format!("http://{}{path}", self.address)),
            ("archive.region", "eu-test-1".to_owned()),
            ("archive.access_key_id", key_id.to_owned()),
            ("archive.secret_access_key", secret),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// A secret that is as good as the right one to look at.
    pub fn wrong_secret(&self) -> String {
        match self.kind {
            Kind::S3 => "guessed-secret".to_owned(),
            #[cfg(feature = "azure")]
            Kind::Azure => "Z3Vlc3NlZC1zZWNyZXQtb2YtYXp1cmU=".to_owned(),
            #[cfg(feature = "gcs")]
            Kind::Google => google::Account::new().json,
        }
    }

    /// A place in the bucket, and the server's address.
    pub fn place(&self, folder: &str) -> (String, String) {
        (format!("s3://{BUCKET}/{folder}"), format!("http://{}", self.address))
    }

    /// Puts the files of a directory into a folder of the bucket.
    pub fn put_dir(&self, folder: &str, dir: &Path) {
        let to = self.root.path().join(BUCKET).join(folder);
        std::fs::create_dir_all(&to).unwrap();
        let done = std::process::Command::new("cp").arg("-r").arg(dir.join(".")).arg(to).status().unwrap();
        assert!(done.success());
    }

    /// Objects of the bucket, below a folder.
    pub fn objects(&self, folder: &str) -> Vec<String> {
        #[cfg(feature = "azure")]
        if let Some(azurite) = &self.azurite {
            return self.runtime.block_on(azurite.objects(folder));
        }
        let mut found = Vec::new();
        walk(&self.root.path().join(BUCKET).join(folder), &mut found);
        found
    }

    /// Credentials lent to a machine's role that were used and have ended.
    pub fn outlived(&self) -> usize {
        self.access.outlived()
    }

    /// Requests with credentials that had ended.
    pub fn late(&self) -> usize {
        self.access.late()
    }
}

fn walk(dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => walk(&path, found),
            false if path.extension().is_none_or(|e| e == "parquet") => found.push(path.display().to_string()),
            false => {}
        }
    }
}

async fn serve(mut socket: TcpStream, behind: Behind, mut feel: watch::Receiver<Mood>) {
    let mood = *feel.borrow_and_update();
    match mood {
        Mood::Away => {}
        Mood::Failing => {
            let mut head = [0; 4096];
            let _ = socket.read(&mut head).await;
            let answer = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = socket.write_all(answer).await;
        }
        Mood::Well => {
            tokio::select! {
                () = pass(socket, behind) => {}
                _ = feel.changed() => {}
            }
        }
    }
}

/// A connection while all is well.
#[cfg_attr(not(feature = "azure"), allow(unused_mut, clippy::infallible_destructuring_match))]
async fn pass(mut socket: TcpStream, behind: Behind) {
    let service = match behind {
        Behind::Here(service) => service,
        #[cfg(feature = "azure")]
        Behind::There(address) => {
            let Ok(mut server) = TcpStream::connect(address).await else { return };
            let _ = tokio::io::copy_bidirectional(&mut socket, &mut server).await;
            return;
        }
    };
    let service = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { service.answer(request).await }
    });
    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
}
