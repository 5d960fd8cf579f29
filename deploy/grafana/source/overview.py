"""Is it well? One page for a look in passing."""

from .panels import (FIRING, GOOD_BAD, RATE, Board, instances, lines, prom, quantiles, stat, states, steps, words, zero)

UP_DOWN = words({"0": ("down", "red"), "1": ("up", "green")})
KUBE = 'statefulset="iot-meter"'
PODS = 'pod=~"iot-meter-.*"'


def board():
    page = Board("overview", "Overview", "Health, traffic, messages, fleet and process at one look.", [instances()])
    return kubernetes(process(nodes(business(pipeline(http(health(page)))))))


def health(page):
    return page.row("Service health").add(
        stat("Up", "Servers that answer Prometheus.", prom('sum(up{job="iot-meter"})', now=True), "none",
             limits=steps((None, "red"), (1, "green"))),
        stat("Firing alerts", "Alerts of the rules in deploy/prometheus/rules.yml that fire now.",
             prom(f"count(ALERTS{{{FIRING}}}) or vector(0)", now=True), "none",
             limits=steps((None, "green"), (1, "red"))),
        stat("Oldest unstored message", "Age of the oldest message that is on disk but not yet in the database.",
             prom('max(@reader_lag_seconds{reader="collector"})'), "s", limits=steps((None, "green"), (10, "orange"), (60, "red"))),
        stat("Journal used", "Part of journal.max_bytes that is not yet both stored and archived; at 100 % meters are slowed down.",
             prom("max(@journal_unreleased_bytes / @journal_limit_bytes)"), "percentunit",
             limits=steps((None, "green"), (0.5, "orange"), (0.8, "red"))),
        stat("Uptime", "Time since the last start, of the server that started last.", prom("min(@uptime_seconds)", now=True), "dtdurations"),
        stat("Version", "What runs.", prom("max by (version) (@build_info)", "{{version}}", now=True), "none", text="name"),
        states("Readiness", "What /readyz says: whether each part can do its work.", prom("min by (check) (@ready)", "{{check}}"),
               {"0": GOOD_BAD["0"], "1": GOOD_BAD["1"]}),
        states("Tasks", "Whether each task of the process runs.", prom('min by (task) (@task_state{state="running"})', "{{task}}"),
               {"0": ("not running", "red"), "1": ("running", "green")}),
    )


def http(page):
    return page.row("HTTP traffic").add(
        lines("Requests by status", "Answers a second by status code.",
              prom(f"sum by (status) (rate(@http_requests_total{RATE}))", "{{status}}"), unit="reqps", stack=True),
        lines("Latency", "Time to an answer, all routes.", *quantiles("http_request_duration_seconds"), unit="s"),
        lines("95th percentile by route", "The ten slowest routes.",
              prom(f"topk(10, histogram_quantile(0.95, sum by (le, route) (rate(@http_request_duration_seconds_bucket{RATE}))))",
                   "{{route}}"), unit="s"),
        lines("Server errors", "Part of the requests answered with 5xx.",
              zero(f'sum(rate(@http_requests_total{{status=~"5.."}}{RATE})) / sum(rate(@http_requests_total{RATE}))', "5xx"),
              unit="percentunit", limits=steps((None, "green"), (0.01, "red"))),
        lines("Client errors", "Answers with 4xx a second, by status.",
              zero(f'sum by (status) (rate(@http_requests_total{{status=~"4.."}}{RATE}))', "{{status}}"), unit="reqps"),
        lines("In flight and rate-limited", "Requests being answered, and those refused by a rate limit.",
              prom("sum(@http_requests_in_flight)", "in flight"),
              prom(f"sum by (limit) (rate(@http_rate_limited_total{RATE}))", "limited a second: {{limit}}")),
    )


def pipeline(page):
    return page.row("MQTT pipeline").add(
        lines("Messages of meters", "On disk and acknowledged; stored; copies; refused, each a second.",
              prom(f"sum(rate(@messages_received_total{RATE}))", "acknowledged"),
              prom(f"sum(rate(@messages_processed_total{RATE}))", "stored"),
              prom(f"sum(rate(@messages_duplicate_total{RATE}))", "copies"),
              prom(f"sum(rate(@messages_refused_total{RATE}))", "refused"), unit="mps"),
        lines("Refused by reason", "Messages that could not be used, a second; their bytes are kept.",
              prom(f"sum by (reason) (rate(@messages_refused_total{RATE}))", "{{reason}}"), unit="mps", stack=True),
        lines("Lag", "Age of the oldest record each reader of the journal has still to do.",
              prom("max by (reader) (@reader_lag_seconds)", "{{reader}}"), unit="s"),
        lines("To disk", "Duration of the journal's fsync: what a meter waits for its acknowledgement.",
              *quantiles("journal_fsync_duration_seconds"), unit="s"),
        lines("To the database", "Duration of the collector's transactions.", *quantiles("commit_duration_seconds"), unit="s"),
        lines("Clients", "Connected now.", prom("sum(@mqtt_connections)", "connections"), prom("sum(@mqtt_sessions)", "sessions")),
    )


def business(page):
    return page.row("Business metrics").add(
        stat("Devices", "Registered devices that are active.", prom('max(@devices{status="active"})'), "none"),
        stat("Online", "Part of the registered devices that is connected.",
             prom('max(@device_connections{state="online"}) / clamp_min(sum(max by (state) (@device_connections)), 1)'), "percentunit",
             limits=steps((None, "red"), (0.5, "orange"), (0.9, "green"))),
        stat("Unacknowledged alerts", "Alerts of devices nobody has seen.", prom("max(@alerts_unacknowledged)"), "none",
             limits=steps((None, "green"), (1, "orange"), (100, "red"))),
        stat("Commands on their way", "Pending, sent or delivered, and not yet acknowledged by the meter.",
             prom('sum(max by (status) (@commands{status=~"pending|sent|delivered"}))'), "none"),
        stat("Readings a second", "Measured values committed to the database.", prom(f"sum(rate(@readings_stored_total{RATE}))"), "rps"),
        stat("Gaps", "Ranges of sequence numbers found missing within the dashboard's time.",
             prom("sum(increase(@sequence_gaps_total[$__range]))", now=True), "none", limits=steps((None, "green"), (1, "orange"))),
        lines("Devices by connection", "Online, offline, or not heard of since the start.",
              prom("max by (state) (@device_connections)", "{{state}}"), w=12, stack=True),
        lines("Commands by status", "How commands to meters ended, or where they are.",
              prom("max by (status) (@commands)", "{{status}}"), w=12, stack=True),
    )


def nodes(page):
    return page.row("Nodes").add(
        stat("Alive", "Nodes on the database that say they are there; one alone counts too.", prom('max(@nodes{state="alive"})'), "none",
             limits=steps((None, "red"), (1, "green"))),
        stat("Silent", "Nodes that have not said so for nodes.timeout_s: what they have not stored waits on their disks.",
             prom('max(@nodes{state="dead"})'), "none", limits=steps((None, "green"), (1, "red"))),
        stat("Stopped", "Nodes that ended in good order.", prom('max(@nodes{state="stopped"})'), "none"),
        states("Duties", "Which node does what one does for all.", prom("max by (instance, duty) (@node_duty)", "{{duty}} at {{instance}}"),
               {"0": ("another one's", "gray"), "1": ("does it", "green")}),
        lines("Meters", "Connected to each node.", prom("sum by (instance) (@mqtt_connections)", "{{instance}}"), w=8),
        lines("Stored", "Messages a second, by node.", prom(f"sum by (instance) (rate(@messages_processed_total{RATE}))", "{{instance}}"), unit="mps", w=8),
        lines("Oldest unstored message", "Of each node: on its disk, and not yet in the database.",
              prom('max by (instance) (@reader_lag_seconds{reader="collector"})', "{{instance}}"), unit="s", w=8),
    )


def process(page):
    return page.row("Process and host").add(
        lines("Processor", "Cores in use.", prom(f"sum by (instance) (rate(@process_cpu_seconds_total{RATE}))", "{{instance}}"), w=6),
        lines("Memory", "Resident.", prom("@process_resident_memory_bytes", "{{instance}}"), unit="bytes", w=6),
        lines("File descriptors", "Open ones, and how many the system lets the process have.",
              prom("@process_open_fds", "open on {{instance}}"), prom("min(@process_max_fds)", "limit"), w=6),
        lines("Threads and starts", "Threads, and starts within the last hour.",
              prom("@process_threads", "threads on {{instance}}"), prom("sum(resets(@uptime_seconds[1h]))", "starts"), w=6),
    )


def kubernetes(page):
    """From kube-state-metrics and the kubelet, not from iot-meter."""
    return page.row("Kubernetes (where it runs there)", collapsed=True).add(
        lines("Replicas", "Wanted, and ready.",
              prom(f"sum(kube_statefulset_replicas{{{KUBE}}})", "wanted"),
              prom(f"sum(kube_statefulset_status_replicas_ready{{{KUBE}}})", "ready"), w=6),
        lines("Restarts", "Restarts of containers within the last hour.",
              prom(f"sum by (pod) (increase(kube_pod_container_status_restarts_total{{{PODS}}}[1h]))", "{{pod}}"), w=6),
        lines("Memory of pods", "Working set, which is what a limit is compared with.",
              prom(f'sum by (pod) (container_memory_working_set_bytes{{{PODS}, container="iot-meter"}})', "{{pod}}"), unit="bytes", w=6),
        lines("Volumes", "Part of each volume that is used.",
              prom('kubelet_volume_stats_used_bytes{persistentvolumeclaim=~".*iot-meter.*"}'
                   ' / kubelet_volume_stats_capacity_bytes{persistentvolumeclaim=~".*iot-meter.*"}', "{{persistentvolumeclaim}}"),
              unit="percentunit", w=6),
    )
