//! Fetches a firmware image over HTTP, in TLS or not, on a blocking thread, and hashes it on the way; nothing is kept in memory.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::ota::{Download, MAX_IMAGE_BYTES};
use super::secure;

/// Longest time for a whole image.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Fetches `url`, of which `expected_bytes` are awaited, and tells `report` how it goes; the last word is `Done` or
/// `Failed`. Ends early when `report` returns false (nobody listens any more). `ca_file`: whom `https://` trusts, PEM;
/// `None` = the authorities of the system. Blocking.
pub(super) fn fetch(url: &str, ca_file: Option<&Path>, expected_bytes: u64, mut report: impl FnMut(Download) -> bool) {
    let outcome = transfer(url, ca_file, expected_bytes, &mut report).unwrap_or_else(Download::Failed);
    report(outcome);
}

fn transfer(
    url: &str,
    ca_file: Option<&Path>,
    expected_bytes: u64,
    report: &mut impl FnMut(Download) -> bool,
) -> Result<Download, String> {
    let settings = secure::http(url, ca_file).map_err(|e| e.to_string())?;
    let agent: ureq::Agent = settings.timeout_global(Some(TIMEOUT)).build().into();
    let mut response = agent.get(url).call().map_err(|e| e.to_string())?;
    // One byte more than announced is enough to know that the image is wrong.
    let limit = expected_bytes.min(MAX_IMAGE_BYTES) + 1;
    let mut body = response.body_mut().as_reader().take(limit);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut size_bytes = 0u64;
    loop {
        let read = body.read(&mut buffer).map_err(|e| e.to_string())?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        size_bytes += read as u64;
        let pct = (size_bytes * 100 / expected_bytes.max(1)).min(100) as u8;
        if !report(Download::Progress(pct)) {
            return Err("given up".into());
        }
    }
    Ok(Download::Done { size_bytes, sha256: hex::encode(hash.finalize()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    /// Serves one answer on loopback and returns its URL.
    fn serve_once(answer: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/fw.bin", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = [0; 2048];
            let _ = socket.read(&mut request);
            let _ = socket.write_all(&answer);
        });
        url
    }

    fn last_word(answer: Vec<u8>, expected: u64) -> Download {
        let mut last = None;
        fetch(&serve_once(answer), None, expected, |word| {
            last = Some(word);
            true
        });
        last.unwrap()
    }

    fn ok(body: &[u8]) -> Vec<u8> {
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        answer.extend_from_slice(body);
        answer
    }

    #[test]
    fn an_image_is_counted_and_hashed() {
        let body = vec![7u8; 300_000];
        let sha256 = hex::encode(Sha256::digest(&body));
        assert_eq!(last_word(ok(&body), 300_000), Download::Done { size_bytes: 300_000, sha256 });
    }

    #[test]
    fn more_than_announced_is_not_read_to_its_end() {
        let Download::Done { size_bytes, .. } = last_word(ok(&vec![7u8; 50_000]), 1000) else { panic!() };
        assert_eq!(size_bytes, 1001);
    }

    #[test]
    fn a_missing_image_fails_with_its_reason() {
        let gone = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
        let Download::Failed(reason) = last_word(gone, 10) else { panic!() };
        assert!(reason.contains("404"), "{reason}");
    }
}
