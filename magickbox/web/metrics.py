"""The box's numbers as Prometheus reads them: what the running box counts, what is in its ledger; no patient data."""

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from magickbox import __version__
from magickbox.errors import MagickboxError
from magickbox.ledger import jobs
from magickbox.web.context import Context
from magickbox.web.problems import Problem

TYPE = "text/plain; version=0.0.4; charset=utf-8"
_COUNTED = {
    "associations": "Associations that were accepted since the start",
    "rejected": "Associations that were rejected since the start",
    "instances": "Instances received since the start",
    "bytes": "Bytes of files received since the start",
    "put_off": "Instances refused for now (0xA7xx) since the start",
    "refused": "Instances refused for good since the start",
}
_STANDING = {
    "open_associations": ("associations_open", "Associations that are open"),
    "open_connections": ("connections_open", "Connections that are open"),
    "behind": ("receiver_lag_instances", "Acknowledged instances that the coordinator has not taken yet"),
    "jobs_waiting": ("jobs_waiting", "Jobs that wait for a processor"),
    "receiving_pause": ("receiving_pause_seconds", "How long each answer to C-STORE waits, since too many jobs wait"),
    "disk_free": ("disk_free_bytes", "Bytes that can still be written"),
    "disk_mark": ("disk_mark_bytes", "Bytes below which nothing new is taken"),
}


class _Box(Collector):
    def __init__(self, context: Context) -> None:
        self._context = context

    def collect(self) -> Iterator[Metric]:
        """One look at everything."""
        try:
            status = self._context.status()
        except (Problem, MagickboxError):
            status = None
        yield GaugeMetricFamily("magickbox_up", "1 if the box answers", 1.0 if status else 0.0)
        build = GaugeMetricFamily("magickbox_build_info", "The version", labels=("version",))
        build.add_metric((__version__,), 1.0)
        yield build
        if status is not None:
            yield from _of_status(status)
        try:
            yield from _of_ledger(self._context)
        except MagickboxError:
            yield GaugeMetricFamily("magickbox_ledger_readable", "1 if the ledger can be read", 0.0)


def _of_status(status: dict[str, Any]) -> Iterator[Metric]:
    for name, meaning in _COUNTED.items():
        yield CounterMetricFamily(f"magickbox_received_{name}", meaning, status["received"][name])
    for key, (name, meaning) in _STANDING.items():
        yield GaugeMetricFamily(f"magickbox_{name}", meaning, status[key])
    yield _answers(**status["answers"])
    yield GaugeMetricFamily(
        "magickbox_gathering_instances", "Instances of studies that are being gathered",
        sum(each["instances"] for each in status["gathering"]),
    )  # fmt: skip
    yield GaugeMetricFamily("magickbox_rules_valid", "1 if the rules of the file are in force", _is(status, "rules"))
    yield GaugeMetricFamily("magickbox_ledger_writable", "1 if the ledger can be written", _is(status, "ledger"))
    yield GaugeMetricFamily("magickbox_processors_bad", "Drop-ins that cannot be used", len(status["bad_processors"]))


def _answers(bounds: list[float], counts: list[int], seconds: float) -> Metric:
    made = HistogramMetricFamily("magickbox_store_seconds", "From the command of a C-STORE to its being safe on disk")
    buckets = zip([*map(str, bounds), "+Inf"], accumulate(counts), strict=True)
    made.add_metric((), list(buckets), seconds)
    return made


def _is(status: dict[str, Any], what: str) -> float:
    return 1.0 if status[f"{what}_problem"] is None else 0.0


def _of_ledger(context: Context) -> Iterator[Metric]:
    states = GaugeMetricFamily("magickbox_jobs", "Jobs by their state", labels=("state",))
    outcomes = CounterMetricFamily("magickbox_outcomes", "Jobs by the outcome of their processor", labels=("outcome",))
    sent = GaugeMetricFamily("magickbox_deliveries", "Deliveries by state", labels=("destination", "state"))
    runs = CounterMetricFamily("magickbox_runs", "Runs of processors that ended", labels=("processor",))
    spent = CounterMetricFamily("magickbox_run_seconds", "Time spent in runs that ended", labels=("processor",))
    with context.ledger.reading() as tx:
        for state, count in jobs.count_by_state(tx).items():
            states.add_metric((state,), count)
        for row in tx.execute("SELECT outcome, count(*) FROM jobs WHERE outcome IS NOT NULL GROUP BY outcome"):
            outcomes.add_metric((str(row[0]),), row[1])
        for row in tx.execute("SELECT lane, state, count(*) FROM deliveries GROUP BY state, lane"):
            sent.add_metric((str(row[0]), str(row[1])), row[2])
        for row in tx.execute(
            "SELECT processor, count(*), sum((julianday(ended) - julianday(began)) * 86400) FROM attempts"
            " WHERE ended IS NOT NULL GROUP BY processor"
        ):
            runs.add_metric((str(row[0]),), row[1])
            spent.add_metric((str(row[0]),), max(0.0, row[2] or 0.0))
    yield from (states, outcomes, sent, runs, spent)


def collected(context: Context) -> bytes:
    """All of it, as text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Box(context))
    return generate_latest(registry)
