"""What /metrics shows: pulled from what the gateway's parts know when it is asked, so that a call pays nothing for it.

Names and units are Prometheus's (https://prometheus.io/docs/practices/naming/). No label has a value that a workload
chooses: no project, model, token, host or path of a request. A path of the store may name a project, where an operator
has put a key for it; of those that have a key or can't be read `MOST_PATHS` are shown, the latest used, and all are
counted in ``tollhouse_key_paths``.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, get_args

from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from tollhouse import __version__
from tollhouse.book import Book
from tollhouse.budget.purse import Purse
from tollhouse.call_counts import CallCounts
from tollhouse.credential.cache import KeyCache
from tollhouse.credential.entry import OUTCOMES, KeyStatus, Shown
from tollhouse.dispatch.breaker import Breakers, State
from tollhouse.dispatch.relay import Relay
from tollhouse.journey import Journey
from tollhouse.ledger.spool import Spool
from tollhouse.site.exposition import told
from tollhouse.site.totals import Families

MOST_PATHS: Final = 50
STATES: Final = get_args(Shown)
PAUSES: Final = ("rate", "money", "refused")


class AddonCounts(Protocol):
    """Of the operator's addons, by their names in the configuration."""

    @property
    def labels(self) -> Sequence[str]: ...
    @property
    def failed(self) -> Mapping[str, int]: ...
    @property
    def slow(self) -> Mapping[str, int]: ...


class AlertCounts(Protocol):
    """Of the receivers of alerts, by their names in the configuration."""

    @property
    def names(self) -> Sequence[str]: ...
    @property
    def dropped(self) -> Mapping[str, int]: ...
    @property
    def waiting(self) -> Mapping[str, int]: ...
    @property
    def attempts(self) -> Mapping[tuple[str, str], int]: ...


class TelemetryCounts(Protocol):
    """Of what a collector is told: signal, outcome and how many."""

    def counts(self) -> Iterator[tuple[str, str, int]]: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """Whose numbers they are. ``reasons`` is why the gateway is not ready."""

    reasons: Callable[[], Sequence[str]]
    journey: Journey
    purse: Purse
    spool: Spool
    book: Book
    breakers: Breakers
    relay: Relay
    keys: KeyCache
    addons: AddonCounts | None = None
    alerts: AlertCounts | None = None
    telemetry: TelemetryCounts | None = None


class Metrics:
    """Of one process. For the event loop that the parts belong to."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        # Reads /proc when it is asked; elsewhere it shows nothing.
        self._process = ProcessCollector(registry=None)

    def families(self) -> Families:
        return [told(metric) for metric in (*self._collect(), *self._process.collect())]

    def _collect(self) -> Iterator[Metric]:
        parts = self._parts
        build = {"version": __version__, "python": platform.python_version()}
        info = GaugeMetricFamily(
            "tollhouse_build_info", "1; its labels say what runs.", labels=list(build)
        )
        info.add_metric(list(build.values()), 1)
        yield info
        yield _gauge("tollhouse_ready", "1 while /readyz says 200, else 0.", not parts.reasons())
        yield from self._calls()
        yield from of_keys(parts.keys)
        if parts.addons is not None:
            yield from of_addons(parts.addons)
        if parts.alerts is not None:
            yield from of_alerts(parts.alerts)
        if parts.telemetry is not None:
            yield of_telemetry(parts.telemetry)

    def _calls(self) -> Iterator[Metric]:
        parts = self._parts
        yield _gauge(
            "tollhouse_calls_in_progress", "Calls under way.", len(parts.journey.under_way)
        )
        yield _gauge(
            "tollhouse_streams_open",
            "Answers under way whose head the client has.",
            sum(
                exchange.answered and not exchange.finished for exchange in parts.journey.under_way
            ),
        )
        yield from of_calls(parts.book.sums)
        yield _gauge(
            "tollhouse_holds",
            "Calls for which this gateway has money set aside.",
            len(parts.purse.held),
        )
        faults = CounterMetricFamily(
            "tollhouse_meter_faults",
            "Answers that went on unread, because reading them failed in the gateway; each is charged its hold.",
            labels=["provider"],
        )
        for name, count in parts.relay.meter_faults.items():
            faults.add_metric([name], count)
        yield faults
        unsaid = CounterMetricFamily(
            "tollhouse_answers_without_usage",
            "Whole answers of calls that cost money which told no usage; most are charged their hold.",
            labels=["provider"],
        )
        for name in {**parts.relay.meter_faults, **parts.purse.without_usage}:
            unsaid.add_metric([name], parts.purse.without_usage.get(name, 0))
        yield unsaid
        uneven = CounterMetricFamily(
            "tollhouse_uneven_usages",
            "Answers whose counts of tokens do not come to the total that they give.",
            labels=["provider"],
        )
        for name in {**parts.relay.meter_faults, **parts.purse.uneven}:
            uneven.add_metric([name], parts.purse.uneven.get(name, 0))
        yield uneven
        waiting = parts.spool.waiting + len(parts.purse.unsettled)
        yield _gauge(
            "tollhouse_spooled_settles", "Charges that Redis has not been told yet.", waiting
        )
        yield _by_state(
            "tollhouse_breakers",
            "Circuit breakers, one a provider's host, key, model and tenant, by state.",
            parts.breakers.states(),
        )
        yield _by_state(
            "tollhouse_shared_breakers",
            "Those of all tenants together, one a provider's host, key and model, by state.",
            parts.breakers.shared_states(),
        )


def of_calls(sums: CallCounts) -> Iterator[Metric]:
    """All calls, and tokens, dollars and times of those that left."""
    all_calls = CounterMetricFamily(
        "tollhouse_calls",
        "Lines written, by provider, model, class of the status answered and reason code; empty where there is none.",
        labels=("provider", "model", "status", "reason"),
    )
    for whose, count in sums.calls.items():
        all_calls.add_metric(whose, count)
    yield all_calls
    tokens = CounterMetricFamily(
        "tollhouse_tokens",
        "Tokens that providers have counted; cached, cache_write and reasoning are parts of input and output.",
        labels=("provider", "model", "type"),
    )
    for labels, count in sums.tokens.items():
        tokens.add_metric(labels, count)
    yield tokens
    dollars = CounterMetricFamily(
        "tollhouse_cost_usd",
        "Dollars charged, for rates: budgets are exact, and this is a float.",
        labels=("provider", "model"),
    )
    for names, nano_usd in sums.nano_usd.items():
        dollars.add_metric(names, nano_usd / 1e9)
    yield dollars
    for name, what, histograms in (
        ("call_duration", "From the request's head to the line.", sums.duration),
        ("overhead", "What the gateway added to a call.", sums.overhead),
        (
            "provider_response",
            "What the provider took: from an attempt's beginning to the head of its answer.",
            sums.response,
        ),
        ("time_to_first_token", "Of streams: until the first bytes.", sums.first_token),
    ):
        family = HistogramMetricFamily(f"tollhouse_{name}_seconds", what, labels=["provider"])
        for provider, histogram in histograms.items():
            family.add_metric([provider], histogram.buckets, histogram.sum)
        yield family
    if not sums.project_calls:
        return
    calls = CounterMetricFamily(
        "tollhouse_project_calls",
        "Lines written, by project, class of the status answered and reason code.",
        labels=("project", "status", "reason"),
    )
    spent = CounterMetricFamily(
        "tollhouse_project_cost_usd", "Dollars charged, by project.", labels=["project"]
    )
    for of, count in sums.project_calls.items():
        calls.add_metric(of, count)
    for project, nano_usd in sums.project_nano_usd.items():
        spent.add_metric([project], nano_usd / 1e9)
    yield from (calls, spent)


def _by_state(name: str, what: str, states: Counter[State]) -> Metric:
    breakers = GaugeMetricFamily(name, what, labels=["state"])
    for state in State:
        breakers.add_metric([state.value], states[state])
    return breakers


def of_addons(addons: AddonCounts) -> Iterator[Metric]:
    failed = CounterMetricFamily(
        "tollhouse_addon_failures",
        "Hooks of an operator's addon that raised, or did not return in time; the log has the fault.",
        labels=["addon"],
    )
    slow = CounterMetricFamily(
        "tollhouse_addon_slow_hooks",
        "Hooks of an operator's addon that held up all calls for more than 50 ms.",
        labels=["addon"],
    )
    for family, counts in ((failed, addons.failed), (slow, addons.slow)):
        for label in dict.fromkeys((*addons.labels, *counts)):
            family.add_metric([label], counts.get(label, 0))
    yield from (failed, slow)


def of_alerts(alerts: AlertCounts) -> Iterator[Metric]:
    waiting = GaugeMetricFamily(
        "tollhouse_alerts_waiting",
        "Alerts that wait for a receiver; told by the process that sends, of all on one Redis.",
        labels=["receiver"],
    )
    attempts = CounterMetricFamily(
        "tollhouse_alert_attempts",
        "Attempts to tell a receiver, by how they ended; dropped: too many waited, and none was made.",
        labels=("receiver", "outcome"),
    )
    for name in alerts.names:
        waiting.add_metric([name], alerts.waiting.get(name, 0))
        for outcome in ("delivered", "failed", "given_up"):
            attempts.add_metric((name, outcome), alerts.attempts.get((name, outcome), 0))
        attempts.add_metric((name, "dropped"), alerts.dropped.get(name, 0))
    yield from (waiting, attempts)


def of_telemetry(telemetry: TelemetryCounts) -> Metric:
    told = CounterMetricFamily(
        "tollhouse_otel_items",
        "Calls and spans, and requests of metrics, for the OTLP collector, by outcome; lost had no room to wait.",
        labels=("signal", "outcome"),
    )
    for signal, outcome, count in telemetry.counts():
        told.add_metric((signal, outcome), count)
    return told


def of_keys(keys: KeyCache) -> Iterator[Metric]:
    yield _gauge(
        "tollhouse_vault_login_ok",
        "0 while the login to the store of keys fails or can't be renewed.",
        not keys.trouble,
    )
    left_s = keys.login_left_s()
    if left_s is not None:
        what = "Seconds that the login's token lives still; none for one without an end."
        yield _gauge("tollhouse_vault_token_remaining_seconds", what, left_s)
    paths = GaugeMetricFamily(
        "tollhouse_key_paths", "Paths of the store that calls have asked for.", labels=["state"]
    )
    states = keys.states()
    for state in STATES:
        paths.add_metric([state], states[state])
    yield paths
    shown = keys.notable(MOST_PATHS)
    yield from _by_path(shown)
    refused = CounterMetricFamily(
        "tollhouse_key_refused",
        "Times that a provider refused a key which the store did not replace.",
        labels=("provider", "path", "fingerprint"),
    )
    for (provider, path, fingerprint), count in _refusals(keys, {status.path for status in shown}):
        refused.add_metric((provider, path, fingerprint), count)
    yield refused


def _refusals(keys: KeyCache, shown: set[str]) -> Iterator[tuple[tuple[str, str, str], int]]:
    for labels, count in sorted(keys.refusals().items()):
        if count or labels[1] in shown:
            yield labels, count


def _by_path(paths: Sequence[KeyStatus]) -> Iterator[Metric]:
    def family(name: str, what: str, *more: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(name, what, labels=("provider", "path", *more))

    info = family(
        "tollhouse_key_info",
        "1 for each key that is kept, as the line names it.",
        "version",
        "fingerprint",
    )
    state = family("tollhouse_key_state", "1 for the state of what is kept of the path.", "state")
    age = family("tollhouse_key_age_seconds", "Since the read that gave the value in use.")
    count = family("tollhouse_keys", "Keys in the secret.")
    paused = family(
        "tollhouse_keys_paused", "Keys that a provider wants left alone for a while.", "reason"
    )
    failed = family(
        "tollhouse_key_last_error_age_seconds",
        "Since the last read that told nothing; none if none did.",
    )
    reads = CounterMetricFamily(
        "tollhouse_key_reads",
        "Reads of the path, by outcome.",
        labels=("provider", "path", "outcome"),
    )
    malformed = CounterMetricFamily(
        "tollhouse_key_versions_refused",
        "Versions of the secret that were no key which could be used; the last good one serves on for a while.",
        labels=("provider", "path"),
    )
    for path in paths:
        labels = (path.provider, path.path)
        malformed.add_metric(labels, path.versions_refused)
        for name in STATES:
            state.add_metric((*labels, name), path.state == name)
        for name in OUTCOMES:
            reads.add_metric((*labels, name), path.reads[name])
        if path.error_age_s is not None:
            failed.add_metric(labels, path.error_age_s)
        if path.age_s is None:
            continue
        age.add_metric(labels, path.age_s)
        count.add_metric(labels, len(path.keys))
        whys = Counter(key.paused for key in path.keys)
        for why in PAUSES:
            paused.add_metric((*labels, why), whys[why])
        for key in path.keys:
            info.add_metric((*labels, path.version, key.fingerprint), 1)
    yield from (info, state, age, count, paused, reads, malformed, failed)


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(name, what, value=value)
