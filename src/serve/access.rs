//! Who gets in, put together of the settings: the token issuer and the authenticator.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Parts;
use super::supervise::Tasks;
use crate::api;
use crate::config::Settings;
use crate::domain::Clock;
use crate::oidc::{Client, Issuer, KeySource, Options, TASK};

/// The issuer, with the task that keeps its keys fresh; `None` = none is configured.
pub fn start_issuer(
    settings: &Settings,
    parts: &Parts,
    stopping: &watch::Receiver<bool>,
    tasks: &mut Tasks,
) -> Option<Arc<Issuer>> {
    let issuer = Arc::new(Issuer::new(options(settings)?, parts.board.clock().clone()));
    let running = Arc::clone(&issuer).run(parts.board.clone(), stopping.clone());
    tasks.spawn(TASK, async move {
        running.await;
        Ok(())
    });
    Some(issuer)
}

fn options(settings: &Settings) -> Option<Options> {
    let oidc = &settings.oidc;
    if oidc.issuer.is_empty() {
        return None;
    }
    let path = |text: &str| text.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    Some(Options {
        issuer: oidc.issuer.clone(),
        audience: oidc.audience.clone(),
        algorithms: oidc.algorithms.clone(),
        keys: match (&oidc.jwks_file, oidc.jwks_url.as_str()) {
            (Some(file), _) => KeySource::File(file.clone()),
            (None, "") => KeySource::Discovery,
            (None, url) => KeySource::Url(url.to_owned()),
        },
        role_claim: path(&oidc.role_claim),
        roles: oidc.roles.clone(),
        devices_claim: path(&oidc.devices_claim),
        client: (!oidc.client_id.is_empty()).then(|| Client {
            id: oidc.client_id.clone(),
            secret: oidc.client_secret.as_ref().map(|secret| secret.reveal().to_owned()),
            redirect_url: oidc.redirect_url.clone(),
            scopes: oidc.scopes.clone(),
        }),
    })
}

/// Who judges credentials of the API.
pub fn authenticator(
    settings: &Settings,
    open: bool,
    clock: &Clock,
    issuer: Option<Arc<Issuer>>,
) -> api::Authenticator {
    let rules = api::SessionRules {
        life: Duration::from_secs(settings.auth.session_life_s),
        idle: Duration::from_secs(settings.auth.session_idle_s),
    };
    let alertmanager = settings.alertmanager.token.as_ref().map(|token| token.reveal());
    api::Authenticator::new(open, clock.clone())
        .with_session_rules(rules)
        .with_issuer(issuer)
        .with_alertmanager_token(alertmanager)
}
