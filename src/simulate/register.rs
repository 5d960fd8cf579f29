//! Registers devices over the REST API and takes the tokens it returns. A token is shown once, so a device that exists
//! already gets a new one, which voids the old one and ends the session that used it.
//!
//! Knows no MQTT; keeps no token.

use std::time::Duration;

use serde::Deserialize;

use super::options::{ApiAccess, Error};

/// Longest time for one call.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often a call is repeated when the server asks for patience (429).
const PATIENCE: u32 = 20;

/// The answer to a registration and to the wish for a new token.
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
}

/// Registers `(device_id, device_type)` in order and returns each one's MQTT token. A device that exists already (409) is
/// fine: with a key it gets a new token; without one, as at a server that asks for no credentials, it is left as it is
/// and yields none. Blocking: call it on a blocking thread.
pub fn register(api: &ApiAccess, devices: &[(String, &'static str)]) -> Result<Vec<Option<String>>, Error> {
    let config = api.http()?.timeout_global(Some(TIMEOUT)).http_status_as_error(false);
    let agent: ureq::Agent = config.build().into();
    let url = format!("{}/api/devices", api.url.trim_end_matches('/'));
    let client = Client { agent, key: api.key.as_deref() };
    devices.iter().map(|(id, device_type)| client.register(&url, id, device_type)).collect()
}

struct Client<'a> {
    agent: ureq::Agent,
    key: Option<&'a str>,
}

impl Client<'_> {
    fn register(&self, url: &str, device_id: &str, device_type: &str) -> Result<Option<String>, Error> {
        let body = serde_json::json!({
            "device_id": device_id,
            "device_name": format!("Simulated meter {device_id}"),
            "device_type": device_type,
            "metadata": {"simulated": true},
        });
        match self.token(url, device_id, &body) {
            Err(Error::RegisterRefused { status: 409, .. }) if self.key.is_some() => {
                self.token(&format!("{url}/{device_id}/token"), device_id, &serde_json::json!({}))
            }
            Err(Error::RegisterRefused { status: 409, .. }) => Ok(None),
            other => other,
        }
    }

    /// The token that the call answers with.
    fn token(&self, url: &str, device_id: &str, body: &serde_json::Value) -> Result<Option<String>, Error> {
        let failed =
            |source| Error::Register { device_id: device_id.into(), url: url.into(), source: Box::new(source) };
        let mut status = 0;
        for _ in 0..PATIENCE {
            let mut request = self.agent.post(url);
            if let Some(key) = self.key {
                request = request.header("Authorization", format!("Bearer {key}"));
            }
            let mut response = request.send_json(body).map_err(failed)?;
            status = response.status().as_u16();
            match status {
                200 | 201 => return Ok(response.body_mut().read_json::<Answer>().map_err(failed)?.token),
                429 => {
                    let after = response.headers().get("Retry-After").and_then(|v| v.to_str().ok());
                    let seconds = after.and_then(|v| v.parse().ok()).unwrap_or(1).clamp(1, 10);
                    std::thread::sleep(Duration::from_secs(seconds));
                }
                _ => break,
            }
        }
        Err(Error::RegisterRefused { device_id: device_id.into(), url: url.into(), status })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Answers one call a connection with the next of `answers`; returns what was called.
    fn check(key: Option<&str>, answers: &[(u16, &str)], expected: Option<&str>, refused: Option<u16>) -> Vec<String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let api = ApiAccess { url, key: key.map(Into::into), ca_file: None };
        std::thread::scope(|scope| {
            let server = scope.spawn(|| answers.iter().map(|answer| serve(&listener, *answer)).collect());
            let got = register(&api, &[("m-1".into(), "dc750")]);
            match refused {
                None => assert_eq!(got.unwrap(), [expected.map(Into::into)]),
                Some(code) => assert!(matches!(got, Err(Error::RegisterRefused { status, .. }) if status == code)),
            }
            server.join().unwrap()
        })
    }

    fn serve(listener: &TcpListener, (status, body): (u16, &str)) -> String {
        let mut socket = BufReader::new(listener.accept().unwrap().0);
        let (mut head, mut length) = (String::new(), 0);
        socket.read_line(&mut head).unwrap();
        let (mut line, mut key) = (String::new(), String::new());
        while socket.read_line(&mut line).unwrap() > 2 {
            let header = line.trim().to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
            if header.starts_with("authorization: ") {
                key = line.trim().to_owned();
            }
            line.clear();
        }
        socket.read_exact(&mut vec![0; length]).unwrap();
        let answer = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.get_mut().write_all(answer.as_bytes()).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        if key.is_empty() { path } else { format!("{path} {}", key.split_once(": ").unwrap().1) }
    }

    #[test]
    fn a_new_device_gets_the_token_of_its_registration() {
        let called = check(Some("k"), &[(201, r#"{"device_id":"m-1","token":"t1"}"#)], Some("t1"), None);
        assert_eq!(called, ["/api/devices Bearer k"]);
    }

    #[test]
    fn a_device_that_exists_gets_a_new_token_when_there_is_a_key() {
        let answers = [(409, r#"{"status":409}"#), (429, "{}"), (201, r#"{"device_id":"m-1","token":"t2"}"#)];
        let called = check(Some("k"), &answers, Some("t2"), None);
        assert_eq!(
            called,
            ["/api/devices Bearer k", "/api/devices/m-1/token Bearer k", "/api/devices/m-1/token Bearer k"]
        );
    }

    #[test]
    fn a_device_that_exists_is_left_as_it_is_without_a_key() {
        assert_eq!(check(None, &[(409, "{}")], None, None), ["/api/devices"]);
    }

    #[test]
    fn a_refusal_of_either_call_is_an_error_with_its_status() {
        check(Some("k"), &[(403, "{}")], None, Some(403));
        check(Some("k"), &[(409, "{}"), (404, "{}")], None, Some(404));
    }
}
