"""Where messages are kept: journal, database, archive."""

from .panels import RATE, Board, heat, instances, lines, prom, quantiles, stat, steps, zero


def board():
    page = Board("storage", "Storage", "Journal, database and archive: how full, how fast, how far behind.", [instances()])
    return rollups(upkeep(archive(database(journal(standing(page))))))


def standing(page):
    return page.row("At one look").add(
        stat("Journal", "Whether it can write.", prom("max(@journal_stalled)"), "none", text="value", limits=steps((None, "green"), (1, "red")),
             mappings=[{"type": "value", "options": {"0": {"text": "writes", "color": "green", "index": 0}, "1": {"text": "stalled", "color": "red", "index": 1}}}]),
        stat("Journal used", "Part of journal.max_bytes that is not yet both stored and archived.",
             prom("max(@journal_unreleased_bytes / @journal_limit_bytes)"), "percentunit", limits=steps((None, "green"), (0.5, "orange"), (0.8, "red"))),
        stat("Oldest unstored message", "On disk, and not yet in the database.", prom('max(@reader_lag_seconds{reader="collector"})'), "s",
             limits=steps((None, "green"), (10, "orange"), (60, "red"))),
        stat("Oldest unarchived message", "On disk, and not yet in the archive.", prom('max(@reader_lag_seconds{reader="archiver"})'), "s",
             limits=steps((None, "green"), (300, "orange"), (900, "red"))),
        stat("Database", "Whether it answers.", prom('min(@ready{check="database"})'), "none", text="value", limits=steps((None, "red"), (1, "green")),
             mappings=[{"type": "value", "options": {"0": {"text": "away", "color": "red", "index": 0}, "1": {"text": "answers", "color": "green", "index": 1}}}]),
        stat("Archive", "Whether the archiver runs.", prom('min(@ready{check="archive"})'), "none", text="value", limits=steps((None, "red"), (1, "green")),
             mappings=[{"type": "value", "options": {"0": {"text": "stands", "color": "red", "index": 0}, "1": {"text": "runs", "color": "green", "index": 1}}}]),
    )


def journal(page):
    return page.row("Journal").add(
        lines("Records", "Appended, brought to disk, stored and archived, a second.",
              prom(f"sum(rate(@journal_head_records{RATE}))", "appended"), prom(f"sum(rate(@journal_durable_records{RATE}))", "on disk"),
              prom(f"sum by (reader) (rate(@reader_position_records{RATE}))", "{{reader}}"), unit="rps"),
        lines("Still to do", "Durable records each reader has still to process.", prom("max by (reader) (@reader_lag_records)", "{{reader}}")),
        lines("Size", "Bytes of its files, those not yet released, and the limit.", prom("sum(@journal_size_bytes)", "files"),
              prom("sum(@journal_unreleased_bytes)", "unreleased"), prom("sum(@journal_limit_bytes)", "limit"), unit="bytes"),
        lines("fsync", "Duration; one for all messages waiting for it.", *quantiles("journal_fsync_duration_seconds"), unit="s"),
        heat("fsync, all of them", "How many took how long.", "journal_fsync_duration_seconds"),
        lines("Written", "Bytes brought to disk a second.", prom(f"sum(rate(@journal_synced_bytes_total{RATE}))", "bytes"), unit="Bps", w=4),
        lines("Segments", "Files.", prom("sum(@journal_segments)", "segments"), w=4),
    )


def database(page):
    return page.row("Database").add(
        lines("Transactions", "Of the collector: how long they take.", *quantiles("commit_duration_seconds"), unit="s"),
        heat("Transactions, all of them", "How many took how long.", "commit_duration_seconds"),
        lines("Messages in a transaction", "On average: under load many go in one.",
              prom(f"sum(rate(@messages_processed_total{RATE})) / sum(rate(@commit_duration_seconds_count{RATE}))", "messages")),
        lines("Reads and writes", "Calls a second but the collector's transactions.",
              prom(f"sum by (operation) (rate(@database_query_duration_seconds_count{RATE}))", "{{operation}}"), unit="ops"),
        lines("Their duration", "Waiting for a connection included.", *quantiles("database_query_duration_seconds", by="operation"), unit="s"),
        lines("Failures", "A second; they are tried again.", prom(f"sum(rate(@commit_failures_total{RATE}))", "transactions"),
              prom(f"sum by (operation) (rate(@database_query_failures_total{RATE}))", "{{operation}}")),
    )


def archive(page):
    return page.row("Archive").add(
        lines("Objects", "Written a minute.", prom(f"60 * sum(rate(@archive_objects_total{RATE}))", "objects"), w=6),
        lines("Bytes", "Written a second.", prom(f"sum(rate(@archive_written_bytes_total{RATE}))", "bytes"), unit="Bps", w=6),
        lines("Duration", "Of writing an object.", *quantiles("archive_write_duration_seconds"), unit="s", w=6, span=True),
        lines("Failures", "A second; they are tried again.", prom(f"sum(rate(@archive_failures_total{RATE}))", "failures"), w=6),
    )


def upkeep(page):
    took = "sum(increase(@archive_compact_duration_seconds_sum[1h])) / clamp_min(sum(increase(@archive_compact_duration_seconds_count[1h])), 1)"
    return page.row("Upkeep of the archive").add(
        lines("Put together", "Small objects of finished hours that became part of larger ones, an hour.",
              prom("sum(increase(@archive_compacted_total[1h]))", "objects"), w=6, bars=True),
        lines("Removed", "Objects an hour: they are in a larger one, or past retention.raw_days.",
              prom("sum by (why) (increase(@archive_removed_total[1h]))", "{{why}}"), w=6, bars=True),
        lines("Time of putting together", "On average, one object; 0 while there was nothing to do.", zero(took, "seconds"), unit="s", w=6),
        lines("Failures of upkeep", "Passes an hour that failed in part; they are tried again.",
              prom("sum(increase(@archive_upkeep_failures_total[1h]))", "passes"), w=6, bars=True),
        lines("Reads of what only the archive has", "A second: telemetry older than the database keeps it.",
              prom(f"sum by (result) (rate(@history_archive_reads_total{RATE}))", "{{result}}"), unit="ops", w=24, h=6),
    )


def rollups(page):
    return page.row("Rollups").add(
        lines("Behind", "Age of the moment up to which every device is rolled up; up to an hour where all is well.",
              prom("max(@rollup_behind_seconds)", "behind"), unit="s", w=6),
        lines("Still to do", "Devices with finished hours, and days of devices with late data.",
              prom("max(@rollup_waiting_devices)", "devices"), prom("max(@rollup_dirty_partitions)", "days with late data"), w=6),
        lines("Done", "Hours of devices rolled up, a second.", prom(f"sum by (kind) (rate(@rollup_parts_total{RATE}))", "{{kind}}"), unit="ops", w=6),
        lines("Failures of rolling up", "Steps an hour that failed; they are tried again.",
              prom("sum(increase(@rollup_failures_total[1h]))", "steps"), w=6, bars=True),
    )
