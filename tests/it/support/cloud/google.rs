//! What Google's XML API has of its own beside S3's: a service account's signed token or a lent one instead of signed requests, and
//! conditions by generation. Made after its description; it is no program of Google's.

use std::process::Command;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use s3s::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

use super::access::Access;
use super::service::answer;

const EMAIL: &str = "meters@test.example";

/// A service account.
pub(super) struct Account {
    /// As it is downloaded from Google.
    pub(super) json: String,
    public: Vec<u8>,
}

/// The one that may come in.
pub(super) fn account() -> &'static Account {
    static ACCOUNT: LazyLock<Account> = LazyLock::new(Account::new);
    &ACCOUNT
}

impl Account {
    pub(super) fn new() -> Self {
        let mut made = Command::new("openssl");
        made.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
        let pem = String::from_utf8(made.output().expect("openssl is installed").stdout).unwrap();
        let der = STANDARD.decode(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap();
        let public = RsaKeyPair::from_pkcs8(&der).unwrap().public().as_ref().to_vec();
        let json = json!({
            "type": "service_account", "project_id": "test", "private_key_id": "1", "private_key": pem, "client_email": EMAIL,
        });
        Self { json: json.to_string(), public }
    }

    /// Whether a token is signed by this account and holds.
    fn has_signed(&self, token: &str) -> bool {
        let Some((signed, signature)) = token.rsplit_once('.') else { return false };
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public);
        let claims = signed.split('.').nth(1).and_then(|text| serde_json::from_slice::<Value>(&decode(text)).ok());
        let Some(claims) = claims else { return false };
        let holds = claims["exp"].as_i64().is_some_and(|until| until > chrono::Utc::now().timestamp());
        let is_meant = claims["scope"]
            .as_str()
            .is_some_and(|scope| scope.contains("devstorage") || scope.contains("cloud-platform"));
        key.verify(signed.as_bytes(), &decode(signature)).is_ok() && holds && is_meant && claims["iss"] == EMAIL
    }
}

/// Makes the request one to S3, or says why it may not come in.
pub(super) fn refuse_or_translate(request: &mut HttpRequest, access: &Access) -> Option<HttpResponse> {
    let headers = request.headers_mut();
    let taken = |headers: &mut hyper::HeaderMap, name: &str| {
        headers.remove(name).map(|value| value.to_str().unwrap_or_default().to_owned())
    };
    let authorization = taken(headers, "authorization").unwrap_or_default();
    let token = authorization.strip_prefix("Bearer ").unwrap_or_default();
    if !access.holds(token) && !account().has_signed(token) {
        return Some(answer(401, ""));
    }
    match taken(headers, "x-goog-if-generation-match").as_deref() {
        None => {}
        Some("0") => drop(headers.insert("if-none-match", "*".parse().expect("a value"))),
        Some(_) => return Some(answer(501, "")),
    }
    None
}
