//! An OpenID Connect issuer on this machine: real HTTP, real signatures.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What the issuer knows.
struct State {
    pair: EcdsaKeyPair,
    kid: String,
    is_away: bool,
    key_reads: usize,
    /// Codes given out: the challenge and nonce of their log-in.
    codes: HashMap<String, (String, String)>,
}

/// The issuer.
#[derive(Clone)]
pub struct Issuer {
    pub url: String,
    state: Arc<Mutex<State>>,
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn pair() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap()
}

impl Issuer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { pair: pair(), kid: "k1".into(), is_away: false, key_reads: 0, codes: HashMap::new() };
        let issuer = Self { url: format!("http://{address}"), state: Arc::new(Mutex::new(state)) };
        let own = issuer.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                own.answer(socket, address);
            }
        });
        issuer
    }

    /// Signs with another key from now on.
    pub fn rotate(&self, kid: &str) {
        let mut state = self.state.lock().unwrap();
        (state.pair, state.kid) = (pair(), kid.to_owned());
    }

    /// Answers 503 to everything.
    pub fn go_away(&self) {
        self.state.lock().unwrap().is_away = true;
    }

    pub fn key_reads(&self) -> usize {
        self.state.lock().unwrap().key_reads
    }

    /// A token with these claims besides the usual ones.
    pub fn token(&self, more: &Value) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({"iss": self.url, "aud": "meters-api", "sub": "anna", "iat": now, "exp": now + 300});
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let state = self.state.lock().unwrap();
        let header = json!({"alg": "ES256", "kid": state.kid, "typ": "JWT"});
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = state.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", encode(signature))
    }

    /// What the issuer does when somebody has logged in there: the code for our callback.
    pub fn log_in(&self, url: &str) -> (String, String) {
        let query = url.split_once('?').unwrap().1;
        let pairs: HashMap<&str, &str> = query.split('&').filter_map(|p| p.split_once('=')).collect();
        assert_eq!((pairs["response_type"], pairs["code_challenge_method"]), ("code", "S256"));
        let code = format!("code-{}", pairs["state"]);
        let known = (pairs["code_challenge"].to_owned(), pairs["nonce"].to_owned());
        self.state.lock().unwrap().codes.insert(code.clone(), known);
        (code, pairs["state"].to_owned())
    }

    fn answer(&self, mut socket: TcpStream, address: SocketAddr) {
        let mut reader = BufReader::new(socket.try_clone().unwrap());
        let (mut line, mut length) = (String::new(), 0);
        reader.read_line(&mut line).unwrap();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            if header.trim().is_empty() {
                break;
            }
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let path = line.split(' ').nth(1).unwrap_or_default();
        let is_away = self.state.lock().unwrap().is_away;
        let (status, text) = match path {
            _ if is_away => (503, json!({})),
            "/.well-known/openid-configuration" => (
                200,
                json!({
                    "issuer": self.url, "jwks_uri": format!("http://{address}/keys"),
                    "authorization_endpoint": format!("http://{address}/auth"),
                    "token_endpoint": format!("http://{address}/token"),
                }),
            ),
            "/keys" => (200, self.keys()),
            "/token" => self.redeem(&String::from_utf8(body).unwrap()),
            _ => (404, json!({})),
        };
        let text = text.to_string();
        let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\n");
        let _ = write!(socket, "{head}Content-Length: {}\r\n\r\n{text}", text.len());
    }

    fn keys(&self) -> Value {
        let mut state = self.state.lock().unwrap();
        state.key_reads += 1;
        let (x, y) = state.pair.public_key().as_ref()[1..].split_at(32);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "kid": state.kid, "x": encode(x), "y": encode(y)}]})
    }

    /// A code is good once, for whoever has the verifier of its challenge.
    fn redeem(&self, form: &str) -> (u16, Value) {
        let pairs: HashMap<&str, &str> = form.split('&').filter_map(|p| p.split_once('=')).collect();
        let known = self.state.lock().unwrap().codes.remove(pairs["code"]);
        let Some((challenge, nonce)) = known else { return (400, json!({"error": "invalid_grant"})) };
        if encode(Sha256::digest(pairs["code_verifier"])) != challenge {
            return (400, json!({"error": "invalid_grant"}));
        }
        (200, json!({"id_token": self.token(&json!({"aud": "console", "nonce": nonce, "groups": ["meter-ops"]}))}))
    }
}
