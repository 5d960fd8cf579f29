"""Who was let in and who was not."""

from .panels import RATE, Board, instances, lines, prom


def board():
    page = Board("security", "Security", "Log-ins, refusals, certificates and the audit log.", [instances()])
    return audit(devices(people(page)))


def people(page):
    return page.row("HTTP").add(
        lines("Refusals", "Requests refused for want of a credential or a right, a second.",
              prom(f"sum by (reason) (rate(@http_auth_refusals_total{RATE}))", "{{reason}}"), unit="reqps", stack=True),
        lines("Bad credentials", "By what was wrong with them, a second.", prom(f"sum by (reason) (rate(@auth_failures_total{RATE}))", "{{reason}}"),
              unit="reqps", stack=True),
        lines("Rate limits", "Requests refused, a second.", prom(f"sum by (limit) (rate(@http_rate_limited_total{RATE}))", "{{limit}}"), unit="reqps"),
        lines("Sessions of the console", "Begun and ended, an hour.", prom("sum by (event) (increase(@web_sessions_total[1h]))", "{{event}}"), w=12),
        lines("Keys of the token issuer", "Reads an hour; after a bad one the last good keys stay in use.",
              prom("sum by (result) (increase(@oidc_key_refreshes_total[1h]))", "{{result}}"), w=12),
    )


def devices(page):
    wrong = "credentials|not_authorized|client_id|tls"
    return page.row("MQTT").add(
        lines("Refused log-ins", "A second, by reason.", prom(f'sum by (reason) (rate(@mqtt_refused_total{{reason=~"{wrong}"}}{RATE}))', "{{reason}}"), unit="cps"),
        lines("Refused handshakes", "A second, by reason.", prom(f"sum by (server, reason) (rate(@tls_refused_total{RATE}))", "{{server}} {{reason}}"), stack=True),
        lines("Certificates of devices", "By state.", prom("max by (state) (@certificates)", "{{state}}")),
    )


def audit(page):
    return page.row("Audit log").add(
        lines("Entries", "An hour: written, counted within another, or lost.",
              prom("sum by (result) (increase(@audit_entries_total[1h]))", "{{result}}"), w=24),
    )
