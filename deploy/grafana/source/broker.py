"""The MQTT broker: who connects, what flows, what waits, what is turned away."""

from .panels import RATE, Board, instances, lines, prom, quantiles, stat, steps, zero


def board():
    page = Board("broker", "Broker", "The MQTT broker: connections, messages, queues, TLS, and external brokers.", [instances()])
    return sources(certificates(tls(queues(messages(connections(page))))))


def connections(page):
    return page.row("Connections").add(
        lines("Clients", "Connected now, and sessions kept, connected or not.", prom("sum(@mqtt_connections)", "connections"),
              prom("sum(@mqtt_sessions)", "sessions"), prom("sum(@mqtt_subscriptions)", "subscriptions")),
        lines("Accepted", "TCP connections a second, and those that had to wait for their turn to log in.",
              prom(f"sum(rate(@mqtt_accepts_total{RATE}))", "accepted"), prom(f"sum(rate(@mqtt_connects_delayed_total{RATE}))", "delayed"), unit="cps"),
        lines("Refused by reason", "Connections that did not get as far as an accepted CONNECT, a second.",
              prom(f"sum by (reason) (rate(@mqtt_refused_total{RATE}))", "{{reason}}"), unit="cps", stack=True),
        lines("Closed by the server", "After an accepted CONNECT, a second, by reason.",
              prom(f"sum by (reason) (rate(@mqtt_closed_total{RATE}))", "{{reason}}"), unit="cps", stack=True),
        lines("Last wills", "Published a second: clients that went without a word.", prom(f"sum(rate(@mqtt_wills_total{RATE}))", "wills"), unit="mps"),
        lines("Refused to connected clients", "Subscriptions and publishes answered with a refusal, a second.",
              prom(f"sum(rate(@mqtt_subscriptions_refused_total{RATE}))", "subscriptions"),
              prom(f"sum(rate(@mqtt_publishes_refused_total{RATE}))", "publishes")),
    )


def messages(page):
    return page.row("Messages").add(
        lines("Messages", "PUBLISH packets a second.", prom(f"sum(rate(@mqtt_messages_in_total{RATE}))", "in"),
              prom(f"sum(rate(@mqtt_messages_out_total{RATE}))", "out"), unit="mps"),
        lines("Bytes", "A second.", prom(f"sum(rate(@mqtt_received_bytes_total{RATE}))", "in"),
              prom(f"sum(rate(@mqtt_sent_bytes_total{RATE}))", "out"), unit="Bps"),
        lines("Acknowledgement", "Duration of the fsync a QoS 1 publisher waits for.", *quantiles("journal_fsync_duration_seconds"), unit="s"),
    )


def queues(page):
    return page.row("Subscribers").add(
        lines("Waiting", "Messages in flight and queued.", prom("sum(@mqtt_inflight_messages)", "in flight"), prom("sum(@mqtt_queued_messages)", "queued")),
        lines("Bytes kept", "Of queued and of retained messages.", prom("sum(@mqtt_queued_bytes)", "queued"),
              prom("sum(@mqtt_retained_bytes)", "retained"), unit="bytes"),
        lines("Retained", "Messages.", prom("sum(@mqtt_retained_messages)", "retained"), w=4),
        lines("Dropped", "Not delivered to a subscriber, a second, by reason; what meters sent is stored all the same.",
              prom(f"sum by (reason) (rate(@mqtt_messages_dropped_total{RATE}))", "{{reason}}"), unit="mps", w=4),
    )


def tls(page):
    return page.row("TLS").add(
        lines("Handshakes", "Completed a second.", prom(f"sum by (server, kind) (rate(@tls_handshakes_total{RATE}))", "{{server}} {{kind}}")),
        lines("Refused handshakes", "A second, by reason.", prom(f"sum by (server, reason) (rate(@tls_refused_total{RATE}))", "{{server}} {{reason}}"), stack=True),
        lines("Reloads", "New certificates taken from their files, and looks that found no good one, an hour.",
              prom("sum by (result) (increase(@mqtt_tls_reloads_total[1h]))", "{{result}}")),
    )


def certificates(page):
    return page.row("Certificates").add(
        stat("Time left", "Until a certificate ends: the server's, its authority's, and the first of the devices'. Without TLS there are none.",
             prom("min by (of) (@certificate_expiry_seconds)", "{{of}}"), "dtdurations", w=12, h=8,
             limits=steps((None, "red"), (7 * 86400, "orange"), (30 * 86400, "green"))),
        lines("Certificates of devices", "By state; those that should have been renewed by now are among the valid ones too.",
              prom("max by (state) (@certificates)", "{{state}}"), w=12),
    )


def sources(page):
    return page.row("External brokers").add(
        lines("Connected", "1 while connected and subscribed; a line a broker, 0 alone where none is configured.",
              zero("min by (source) (@source_connected)", "broker {{source}}"), w=6),
        lines("Messages", "Taken a second, by what became of them.",
              zero(f"sum by (outcome) (rate(@source_messages_total{RATE}))", "{{outcome}}"), unit="mps", w=6),
        lines("Not yet on disk", "Messages taken and not yet acknowledged, and devices heard through each broker.",
              zero("sum by (source) (@source_unconfirmed_messages)", "messages, broker {{source}}"),
              zero("sum by (source) (@source_devices)", "devices, broker {{source}}"), w=6),
        lines("Failures and commands", "Connections that failed, an hour, and commands by what became of them.",
              zero("sum by (source) (increase(@source_failures_total[1h]))", "failures, broker {{source}}"),
              zero("sum by (outcome) (increase(@source_commands_total[1h]))", "commands {{outcome}}"), w=6),
    )
