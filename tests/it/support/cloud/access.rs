//! Who may come in, and the metadata services of the clouds, from which a machine gets credentials of its role: those of EC2
//! (IMDSv2), of containers (EKS Pod Identity) and of Google's machines, as their documentation describes them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use hyper::{HeaderMap, Request};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{HttpResponse, S3Result, s3_error};
use serde_json::json;

use super::service::answer;
use super::{KEY_ID, POD_TOKEN, SECRET};

const SESSION: &str = "of-the-metadata-session";
const ROLE: &str = "iot-meter-role";

/// Credentials lent to a role.
struct Lent {
    token: String,
    until: SystemTime,
    is_used: bool,
}

impl Lent {
    fn is_over(&self) -> bool {
        self.until <= SystemTime::now()
    }
}

pub(super) struct Access {
    life: Duration,
    /// By number, which their names end with.
    lent: Mutex<Vec<Lent>>,
    late: AtomicUsize,
}

/// The secrets that requests are signed with.
pub(super) struct Keys(pub(super) Arc<Access>);

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, id: &str) -> S3Result<SecretKey> {
        match id.strip_prefix("ASIA") {
            None if id == KEY_ID => Ok(SECRET.into()),
            Some(number) => Ok(secret(number).into()),
            None => Err(s3_error!(InvalidAccessKeyId)),
        }
    }
}

fn secret(number: impl std::fmt::Display) -> String {
    format!("secret-{number}")
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

impl Access {
    pub(super) fn new(life: Duration) -> Self {
        Self { life, lent: Mutex::default(), late: AtomicUsize::new(0) }
    }

    pub(super) fn outlived(&self) -> usize {
        self.lent.lock().unwrap().iter().filter(|lent| lent.is_used && lent.is_over()).count()
    }

    pub(super) fn late(&self) -> usize {
        self.late.load(Ordering::SeqCst)
    }

    /// New credentials: their number and token.
    fn issue(&self) -> (usize, String, SystemTime) {
        let (mut all, until) = (self.lent.lock().unwrap(), SystemTime::now() + self.life);
        let (number, token) = (all.len(), format!("token-{}", all.len()));
        all.push(Lent { token: token.clone(), until, is_used: false });
        (number, token, until)
    }

    /// Whether this token was lent and still holds; it is used then.
    pub(super) fn holds(&self, token: &str) -> bool {
        let mut all = self.lent.lock().unwrap();
        let Some(lent) = all.iter_mut().find(|lent| lent.token == token) else { return false };
        self.late.fetch_add(usize::from(lent.is_over()), Ordering::SeqCst);
        lent.is_used = true;
        !lent.is_over()
    }

    /// Why a request to S3 may not come in, if so: a key that is lent may with its token, while it lasts, and the other with none.
    /// (Whether it is signed with the key's secret is asked later.)
    pub(super) fn refuse(&self, headers: &HeaderMap) -> Option<HttpResponse> {
        let refused = |code: &str| Some(answer(403, format!("<Error><Code>{code}</Code><Message></Message></Error>")));
        let id = header(headers, "authorization").split("Credential=").nth(1).and_then(|rest| rest.split('/').next());
        let token = header(headers, "x-amz-security-token");
        match id.and_then(|id| id.strip_prefix("ASIA")) {
            None if token.is_empty() => None,
            Some(number) if token == format!("token-{number}") => match self.holds(token) {
                true => None,
                false => refused("ExpiredToken"),
            },
            _ => refused("InvalidToken"),
        }
    }

    /// The answer of a metadata service, if that is what is asked.
    pub(super) fn lend<B>(&self, request: &Request<B>) -> Option<HttpResponse> {
        let (headers, roles) = (request.headers(), "/latest/meta-data/iam/security-credentials/");
        let has_session = header(headers, "x-aws-ec2-metadata-token") == SESSION;
        let lent = match (request.method().as_str(), request.uri().path()) {
            ("PUT", "/latest/api/token") if headers.contains_key("x-aws-ec2-metadata-token-ttl-seconds") => {
                answer(200, SESSION)
            }
            ("GET", path) if path == roles && has_session => answer(200, ROLE),
            ("GET", path) if path.strip_prefix(roles) == Some(ROLE) && has_session => answer(200, self.amazons()),
            ("GET", "/container/credentials") if header(headers, "authorization") == POD_TOKEN => {
                answer(200, self.amazons())
            }
            ("GET", "/computeMetadata/v1/instance/service-accounts/default/token")
                if header(headers, "metadata-flavor") == "Google" =>
            {
                let body =
                    json!({"access_token": self.issue().1, "expires_in": self.life.as_secs(), "token_type": "Bearer"});
                answer(200, body.to_string())
            }
            (_, path) if ["/latest/", "/container/", "/computeMetadata/"].iter().any(|of| path.starts_with(of)) => {
                answer(401, "")
            }
            _ => return None,
        };
        Some(lent)
    }

    fn amazons(&self) -> String {
        let (number, token, until) = self.issue();
        let until = chrono::DateTime::<chrono::Utc>::from(until).to_rfc3339();
        json!({
            "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": format!("ASIA{number}"),
            "SecretAccessKey": secret(number), "Token": token, "Expiration": until,
        })
        .to_string()
    }
}
