//! An S3 server inside this process, over a directory, that can be made to fail.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub const KEY_ID: &str = "AKTEST";
pub const SECRET: &str = "only-for-tests";
pub const BUCKET: &str = "meters";

/// How it behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Every request is answered with 500.
    Failing,
    /// Every connection is cut, also in the middle of a request.
    Away,
}

/// The server. Ends with the value.
pub struct S3 {
    _runtime: tokio::runtime::Runtime,
    mood: watch::Sender<Mood>,
    address: SocketAddr,
    root: tempfile::TempDir,
}

impl S3 {
    pub fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
        let service = builder.build();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (mood, feel) = watch::channel(Mood::Well);
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, service.clone(), feel.clone()));
            }
        });
        Self { _runtime: runtime, mood, address, root }
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
        [
            ("archive.url", format!("s3://{BUCKET}{folder}")),
            ("archive.endpoint", format!("http://{}", self.address)),
            ("archive.region", "eu-test-1".to_owned()),
            ("archive.access_key_id", KEY_ID.to_owned()),
            ("archive.secret_access_key", SECRET.to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
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
    pub fn objects(&self, folder: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        walk(&self.root.path().join(BUCKET).join(folder), &mut found);
        found
    }
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => walk(&path, found),
            false if path.extension().is_none_or(|e| e == "parquet") => found.push(path),
            false => {}
        }
    }
}

async fn serve(mut socket: TcpStream, service: S3Service, mut feel: watch::Receiver<Mood>) {
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
            let builder = Arc::new(Builder::new(TokioExecutor::new()));
            tokio::select! {
                _ = builder.serve_connection(TokioIo::new(socket), service) => {}
                _ = feel.changed() => {}
            }
        }
    }
}
