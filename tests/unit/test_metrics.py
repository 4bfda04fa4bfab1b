"""Metrics: what is measured of an answer, how it is reported, and what it adds up to."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import Pipe

import msgspec
import pytest

from baio_adapters.metrics.measures import MAX_NAMES, OTHER, Measures
from baio_adapters.metrics.reports import MAX_NOTES, Report, Reporter, Reports
from baio_api.container import Container, open_metrics
from baio_api.settings import Settings, SettingsError
from baio_domain.entities import AnswerState, Caller, Usage
from baio_domain.ports import NO_METRICS, EndedAnswer, Finished
from baio_domain.tools import ToolState
from tests.unit.world import BAiO, heard, later


def shown(measures: Measures) -> dict[str, float]:
    """Every series that is shown, and its value."""
    text = measures.exposition("")[0].decode()
    return {name: float(value) for name, value in re.findall(r"(?m)^(\w+(?:\{.*\})?) (\S+)$", text)}


def until(true: Callable[[], bool]) -> None:
    """Wait for another thread."""
    give_up_at = time.monotonic() + 60
    while not true():
        assert time.monotonic() < give_up_at
        time.sleep(0.005)


@contextmanager
def reporting(measures: Measures) -> Iterator[Reporter]:
    """A worker that reports there; at the end its last report has been taken."""
    reporter = Reporter(Reports(measures)())
    with reporter.watching({"running_answers": lambda: 2}):
        yield reporter
    until(lambda: shown(measures)["baio_worker_cpu_seconds_total"] > 0 and not measures._levels)


# -- What is measured of an answer -------------------------------------------------------------------------------------


async def test_an_answer_is_measured_from_the_request_to_its_first_text_and_to_its_stored_end(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    measures = Measures("1.0")
    with reporting(measures) as baio.answering._metrics:
        baio.openai.script(later(3), "Three ", later(8), "letters.", Finished("stop", usage=Usage(42, 11)))
        await heard(await baio.ask(caller, conversation))
    found = shown(measures)
    assert found['baio_answers_total{provider="OpenAI",state="complete"}'] == 1
    assert found['baio_answer_first_text_seconds_sum{provider="OpenAI"}'] == pytest.approx(3, abs=0.5)
    assert found['baio_answer_seconds_sum{provider="OpenAI"}'] == pytest.approx(8, abs=0.5)
    for way, tokens in (("in", 42), ("out", 11)):
        assert found[f'baio_answer_tokens_total{{direction="{way}",model="gpt-4o-mini",provider="OpenAI"}}'] == tokens
    assert found["baio_checkpoint_seconds_count"] > 8


async def test_an_answer_without_text_and_without_counts_has_neither(
    baio: BAiO, caller: Caller, conversation: int
) -> None:
    measures = Measures("1.0")
    with reporting(measures) as baio.answering._metrics:
        baio.openai.script(later(5), Finished("stop"))
        await heard(await baio.ask(caller, conversation))
    found = shown(measures)
    assert found['baio_answers_total{provider="OpenAI",state="failed"}'] == 1
    assert found['baio_answers_total{provider="OpenAI",state="interrupted"}'] == 0  # there from the beginning
    assert not [name for name in found if "first_text" in name or "tokens" in name]


def test_nothing_is_measured_where_nobody_wants_it() -> None:
    assert open_metrics(Settings()) is None
    assert Container(settings=Settings()).metrics() is NO_METRICS


# -- Reports -----------------------------------------------------------------------------------------------------------


def test_a_worker_waits_for_no_receiver_and_says_how_much_it_gave_up() -> None:
    receiving, sending = Pipe(duplex=False)
    reporter = Reporter(sending)
    for _ in range(2 * MAX_NOTES + 7):
        reporter.checkpoint_stored(0.25)  # nobody takes reports
    measures = Measures("1.0")
    with reporter.watching({}):  # the report is longer than what a pipe holds
        Reports(measures)._listen(receiving)
        until(lambda: shown(measures)["baio_checkpoint_seconds_count"] >= MAX_NOTES)
    until(lambda: not measures._levels)  # with its last report
    assert shown(measures)["baio_checkpoint_seconds_count"] == MAX_NOTES
    assert shown(measures)["baio_metrics_missed_total"] == MAX_NOTES + 7


def test_a_worker_goes_on_when_its_receiver_has_died() -> None:
    receiving, sending = Pipe(duplex=False)
    reporter = Reporter(sending)
    receiving.close()
    with reporter.watching({}):
        pass
    for _ in range(MAX_NOTES + 1):
        reporter.tool_process_started()
    assert not reporter._notes


def test_a_note_that_cannot_be_reported_is_no_hindrance_to_later_ones(caplog: pytest.LogCaptureFixture) -> None:
    measures = Measures("1.0")
    with reporting(measures) as reporter:
        reporter.request_ended("GET", "/\ud800", 200, 0.01)
        until(lambda: "metrics not reported" in caplog.text)
        reporter.tool_process_started()
    assert shown(measures)["baio_tool_process_starts_total"] == 1


def test_what_is_no_report_ends_that_worker_alone() -> None:
    measures = Measures("1.0")
    reports = Reports(measures)
    broken = reports()
    reporter = Reporter(reports())
    with reporter.watching({"open_streams": lambda: 4}):
        broken.send_bytes(b'{"notes": 3}')
        until(lambda: shown(measures)["baio_open_streams"] == 4)
        reporter.tool_process_started()
    until(lambda: shown(measures)["baio_workers"] == 0)
    assert shown(measures)["baio_tool_process_starts_total"] == 1
    with pytest.raises(OSError, match="Broken pipe"):
        broken.send_bytes(b"{}")


# -- What they add up to -----------------------------------------------------------------------------------------------


def report(*notes: tuple[str, list[object]], **levels: int) -> Report:
    return Report(list(notes), levels, missed=0, cpu_seconds=1.5, memory_bytes=1000)


def test_what_only_grows_outlives_its_worker_and_what_goes_up_and_down_does_not() -> None:
    measures, request = Measures("1.0"), ("request_ended", ["GET", "/chat/getTags", 200, 0.01])
    measures.take("first", report(request, request, running_answers=3))
    measures.take("second", report(request, running_answers=4))
    assert shown(measures)["baio_running_answers"] == 7
    assert shown(measures)["baio_worker_memory_bytes"] == 2000
    measures.gone("first")
    measures.take("its successor", report(request, running_answers=1))
    measures.take("second", report(running_answers=0))
    found = shown(measures)
    assert found['baio_http_requests_total{method="GET",route="/chat/getTags",status="200"}'] == 4
    assert (found["baio_running_answers"], found["baio_workers"]) == (1, 2)
    assert found["baio_worker_cpu_seconds_total"] == 6


def test_there_are_only_so_many_series_whatever_arrives() -> None:
    measures = Measures("1.0")
    ended = [
        msgspec.to_builtins([EndedAnswer("OpenAI", f"model-{number}", AnswerState.COMPLETE, 1.0, 0.5, Usage(1, 1))])
        for number in range(2 * MAX_NAMES)
    ]
    called = [[f"tool-{number}", "done", 0.1] for number in range(2 * MAX_NAMES)]
    asked = [[f"M{number}", f"/{number}", 200, 0.1] for number in range(2 * MAX_NAMES)]
    measures.take(
        "worker",
        report(
            *(("answer_ended", each) for each in ended),
            *(("tool_called", each) for each in called),
            *(("request_ended", each) for each in asked),
        ),
    )
    found = shown(measures)
    for name, each in (
        ("baio_answer_tokens_total", 2),
        ("baio_tool_calls_total", len(ToolState)),
        ("baio_http_requests_total", 1),
    ):
        assert sum(series.startswith(f"{name}{{") for series in found) == each * (MAX_NAMES + 1)
    others = f'{{direction="in",model="{OTHER}",provider="{OTHER}"}}'
    assert found[f"baio_answer_tokens_total{others}"] == MAX_NAMES


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/plain;version=0.0.4",
        "application/openmetrics-text; version=abc",
        "text/plain; version=é.;=",
        "q",
    ],
)
def test_whatever_a_client_accepts_it_is_shown_metrics(accept: str) -> None:
    body, content_type = Measures("1.0").exposition(accept)
    assert b"baio_workers 0.0" in body
    assert content_type.startswith(("text/plain", "application/openmetrics-text"))


# -- The start ---------------------------------------------------------------------------------------------------------


def test_without_its_package_the_start_is_refused_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "baio_adapters.metrics.measures")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(SettingsError, match=r"BAIO_METRICS needs .* pip install 'baio\[metrics\]'"):
        open_metrics(Settings(metrics="127.0.0.1:0"))
