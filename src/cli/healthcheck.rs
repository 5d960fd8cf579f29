//! `healthcheck`: asks a server whether it is ready, for images without a shell and for scripts.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::global::{Global, local_api};
use super::{client, output};

/// Ask the server whether it is ready; exit code 0 means yes
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter healthcheck                                  the server running on the data directory
  iot-meter healthcheck --live                           alive is enough, ready or not
  iot-meter healthcheck --url http://127.0.0.1:8080/readyz")]
pub(super) struct HealthcheckArgs {
    /// What to ask [default: /readyz of the server running on the data directory]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Ask /healthz (the process runs) instead of /readyz (it does its work)
    #[arg(long)]
    live: bool,
    /// Longest wait
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=300))]
    timeout: u64,
}

pub(super) fn run(args: HealthcheckArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let base = match &args.url {
        Some(url) => url.clone(),
        None => local_api(&global.load(Vec::new())?.settings.data_dir)?,
    };
    let url = with_path(&base, args.live);
    let agent = client::agent(ureq::Agent::config_builder(), Duration::from_secs(args.timeout));
    let mut response = agent.get(&url).call().with_context(|| format!("no answer from {url}"))?;
    let is_good = response.status().is_success();
    let text = response.body_mut().with_config().limit(1 << 20).read_to_string().context("the answer broke off")?;
    let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let summary = json!({"url": url, "status": response.status().as_u16(), "answer": body});
    output::print(global.output, &summary, || describe(&body, response.status().as_u16()))?;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A URL without a path gets the one that is asked for.
fn with_path(url: &str, live: bool) -> String {
    let url = url.trim_end_matches('/');
    let has_path = url.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    match (has_path, live) {
        (true, _) => url.to_owned(),
        (false, true) => format!("{url}/healthz"),
        (false, false) => format!("{url}/readyz"),
    }
}

fn describe(body: &Value, status: u16) -> String {
    let word = body.get("status").and_then(Value::as_str).map_or_else(|| format!("HTTP {status}"), str::to_owned);
    let checks = body.get("checks").and_then(Value::as_object).into_iter().flatten();
    let reasons = checks.filter_map(|(name, reason)| Some(format!("  {name}: {}\n", reason.as_str()?)));
    format!("{word}\n{}", if status < 300 { String::new() } else { reasons.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_path_gets_one() {
        let check = |url: &str, live: bool, expected: &str| assert_eq!(with_path(url, live), expected);
        check("http://127.0.0.1:8080", false, "http://127.0.0.1:8080/readyz");
        check("http://127.0.0.1:8080/", true, "http://127.0.0.1:8080/healthz");
        check("http://127.0.0.1:8080/health", false, "http://127.0.0.1:8080/health");
    }

    #[test]
    fn a_server_that_is_not_ready_says_why() {
        let body = json!({"status": "not ready", "checks": {"store": "database is away"}});
        assert_eq!(describe(&body, 503), "not ready\n  store: database is away\n");
        assert_eq!(describe(&json!({"status": "ready", "checks": {"store": "running"}}), 200), "ready\n");
        assert_eq!(describe(&Value::Null, 502), "HTTP 502\n");
    }
}
