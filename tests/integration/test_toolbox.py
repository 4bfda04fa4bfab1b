"""Tools run in a process of their own, which costs the server nothing however they misbehave."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from baio_adapters.biology import worker
from baio_adapters.biology.toolbox import COMMAND, WorkerToolbox
from baio_domain.tools import ToolOutcome, canonical_json
from tests.integration import misbehaving_tools
from tests.unit.tools import call

pytestmark = pytest.mark.anyio

MISBEHAVING = (sys.executable, "-I", str(Path(misbehaving_tools.__file__)))

PROMPTLY = 60.0
"""Seconds in which a busy machine does what takes a moment; a test that waits so long has failed."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def toolbox(anyio_backend: str) -> AsyncIterator[WorkerToolbox]:
    """BAiO's tools."""
    del anyio_backend
    installed = WorkerToolbox()
    yield installed
    await installed.aclose()


@asynccontextmanager
async def misbehaving(queue: int = 32) -> AsyncIterator[WorkerToolbox]:
    """Tools that misbehave."""
    toolbox = WorkerToolbox(misbehaving_tools.TOOLS, MISBEHAVING, call_seconds=PROMPTLY, queue=queue)
    try:
        yield toolbox
    finally:
        await toolbox.aclose()


class Pipe:
    """A named pipe that a tool keeps open while it runs."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)

    async def begun(self) -> int:
        """Wait until the tool has begun; the id of its process."""
        self._file: BinaryIO = await asyncio.wait_for(asyncio.to_thread(open, self.path, "rb"), PROMPTLY)
        return int(await asyncio.wait_for(asyncio.to_thread(self._file.readline), PROMPTLY))

    async def ended(self) -> None:
        """Wait until every process of the tool has ended."""
        rest = await asyncio.wait_for(asyncio.to_thread(self._file.read), PROMPTLY)
        self._file.close()
        assert rest == b""


@pytest.fixture
def pipe(tmp_path: Path) -> Pipe:
    return Pipe(tmp_path / "pipe")


def error_of(outcome: ToolOutcome) -> object:
    assert outcome.result["detail"]
    assert outcome.line == ""
    return outcome.result["error"]


# --- calls


async def test_a_call_has_the_outcome_that_its_function_has(toolbox: WorkerToolbox) -> None:
    for arguments in (
        {"sequence": ">pUC19 x\nacgtN", "window": "2"},
        {"sequence": "MEEPQ"},
        {"sequence": "ACGT", "ambiguous": "x"},
    ):
        asked = await toolbox.run("gc_content", arguments)
        direct = call("gc_content", **arguments)
        assert canonical_json(asked.result) == canonical_json(direct.result)
        assert (asked.state, asked.inputs, asked.line) == (direct.state, direct.inputs, direct.line)
    assert asked.library.startswith("Biopython")


async def test_a_call_with_missing_defaults_says_what_it_computed_with(toolbox: WorkerToolbox) -> None:
    outcome = await toolbox.run("melting_temperature", {"sequence": "ACGTACGTAC", "na_mm": "100"})
    assert outcome.arguments == {
        "sequence": "ACGTACGTAC", "method": "nearest_neighbor", "oligo_nm": 50, "na_mm": 100, "mg_mm": 1.5,
        "dntp_mm": 0.6,
    }  # fmt: skip
    assert outcome.coerced == ("na_mm",)


async def test_the_tools_are_baios_own(toolbox: WorkerToolbox) -> None:
    assert [spec.name for spec in toolbox.specs()] == [
        "apply_mutation", "check_primer", "codon_usage", "describe_sequence", "dilution", "extract", "find_motif",
        "find_orfs", "gc_content", "melting_temperature", "molar_amount", "molecular_weight", "pairwise_align",
        "protein_properties", "restriction_digest", "restriction_sites", "reverse_complement", "simulate_pcr",
        "transcribe", "translate",
    ]  # fmt: skip


async def test_an_unknown_tool_and_bad_arguments_are_outcomes(toolbox: WorkerToolbox) -> None:
    unknown = await toolbox.run("blast", {"sequence": "ACGT"})
    assert (unknown.state, error_of(unknown)) == ("refused", "unknown-tool")
    assert "gc_content, melting_temperature" in str(unknown.result["detail"])
    bad = await toolbox.run("gc_content", {"seq": "ACGT"})
    assert (bad.state, error_of(bad)) == ("refused", "bad-arguments")


async def test_no_process_is_started_for_what_needs_none() -> None:
    toolbox = WorkerToolbox(command=("no such program",))
    assert (await toolbox.run("blast", {})).state == "refused"
    assert (await toolbox.run("gc_content", {})).state == "refused"
    failed = await toolbox.run("gc_content", {"sequence": "ACGT"})
    assert (failed.state, error_of(failed)) == ("failed", "worker-died")


async def test_calls_are_answered_in_order_by_one_process() -> None:
    async with misbehaving() as toolbox:
        outcomes = await asyncio.gather(*(toolbox.run("talk", {}) for _ in range(5)))
        assert len({outcome.result["pid"] for outcome in outcomes}) == 1
        ended: list[float] = []

        async def run(seconds: float) -> None:
            await toolbox.run("sleep", {"seconds": seconds})
            ended.append(seconds)

        await asyncio.gather(run(0.03), run(0.02), run(0.01))
        assert ended == [0.03, 0.02, 0.01]


async def test_when_the_queue_is_full_a_call_is_busy(pipe: Pipe) -> None:
    async with misbehaving(queue=2) as toolbox:
        holding = asyncio.create_task(toolbox.run("hold", {"pipe": pipe.path}))
        await pipe.begun()
        waiting = [asyncio.create_task(toolbox.run("talk", {})) for _ in range(2)]
        await asyncio.sleep(0)  # they wait in the queue now
        busy = await toolbox.run("talk", {})
        assert (busy.state, error_of(busy)) == ("busy", "busy")
        holding.cancel()
        assert [outcome.state for outcome in await asyncio.gather(*waiting)] == ["done", "done"]
        await pipe.ended()


# --- what does not end well


async def test_cancelling_who_waits_ends_the_computation_and_all_its_processes(pipe: Pipe) -> None:
    async with misbehaving() as toolbox:
        waiting = asyncio.create_task(toolbox.run("wait", {"pipe": pipe.path}))
        first = await pipe.begun()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await pipe.ended()
        after = await toolbox.run("talk", {})
        assert after.state == "done"
        assert after.result["pid"] != first


async def test_cancelling_who_waits_in_the_queue_does_not_disturb_who_computes() -> None:
    async with misbehaving() as toolbox:
        pid = (await toolbox.run("talk", {})).result["pid"]
        computing = asyncio.create_task(toolbox.run("sleep", {"seconds": 0.1}))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(toolbox.run("talk", {}))
        await asyncio.sleep(0)
        waiting.cancel()
        assert (await computing).state == "done"
        assert (await toolbox.run("talk", {})).result["pid"] == pid


async def test_a_computation_that_takes_too_long_is_ended() -> None:
    async with misbehaving() as toolbox:
        first = (await toolbox.run("talk", {})).result["pid"]
        toolbox._call_seconds = 0.05
        failed = await toolbox.run("sleep", {"seconds": 600})
        assert (failed.state, error_of(failed)) == ("failed", "time-limit")
        toolbox._call_seconds = PROMPTLY
        assert (await toolbox.run("talk", {})).result["pid"] != first


@pytest.mark.parametrize(
    ("tool", "error"), [("die", "worker-died"), ("shout", "worker-died"), ("eat", "out-of-memory")]
)
async def test_a_crash_costs_one_call_alone(tool: str, error: str) -> None:
    async with misbehaving() as toolbox:
        failed, after = await asyncio.gather(toolbox.run(tool, {}), toolbox.run("talk", {}))
        assert (failed.state, error_of(failed)) == ("failed", error)
        assert after.state == "done"


async def test_a_process_that_was_killed_meanwhile_is_started_again() -> None:
    async with misbehaving() as toolbox:
        pid = (await toolbox.run("talk", {})).result["pid"]
        assert isinstance(pid, int)
        os.kill(pid, signal.SIGKILL)
        first = await toolbox.run("talk", {})  # it may have found the process dead, or dying
        assert first.state == "done" or error_of(first) == "worker-died"
        assert (await toolbox.run("talk", {})).state == "done"


async def test_closing_cancels_calls_and_ends_the_process(pipe: Pipe) -> None:
    async with misbehaving() as toolbox:
        calls = [asyncio.create_task(toolbox.run("hold", {"pipe": pipe.path})) for _ in range(2)]
        await pipe.begun()
        await toolbox.aclose()
        assert [outcome.state for outcome in await asyncio.gather(*calls)] == ["cancelled", "cancelled"]
        await pipe.ended()


# --- the process


async def test_the_process_has_no_environment_and_what_tools_print_or_read_is_nothing() -> None:
    async with misbehaving() as toolbox:
        talked = await toolbox.run("talk", {})
        assert (talked.state, talked.result["read"]) == ("done", "")
        environment = talked.result["environment"]
        assert isinstance(environment, dict)
        # Python sets the first itself where there is no locale (PEP 538).
        assert environment.keys() <= {"LC_CTYPE", *worker.ONE_THREAD}


async def test_a_large_library_fits_into_the_memory_of_a_tool() -> None:
    async with misbehaving() as toolbox:
        assert (await toolbox.run("load", {})).result == {"sum": 250_000}


async def test_the_process_ends_in_the_middle_of_a_call_when_its_input_ends(pipe: Pipe) -> None:
    process = await asyncio.create_subprocess_exec(*MISBEHAVING, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stdin is not None
    process.stdin.write(json.dumps({"tool": "hold", "arguments": {"pipe": pipe.path}}).encode() + b"\n")
    await pipe.begun()
    process.send_signal(signal.SIGTERM)  # which only its parent may mean
    process.send_signal(signal.SIGINT)
    process.stdin.close()
    await pipe.ended()
    assert await process.wait() == 0


PARENT = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from baio_adapters.biology.toolbox import WorkerToolbox
from tests.integration import misbehaving_tools
toolbox = WorkerToolbox(misbehaving_tools.TOOLS, sys.argv[3:])
asyncio.run(toolbox.run("hold", {"pipe": sys.argv[2]}))
"""


async def test_the_process_ends_with_a_parent_that_is_killed(pipe: Pipe) -> None:
    root = str(Path(__file__).parents[2])
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, root, pipe.path, *MISBEHAVING)
    assert await pipe.begun() != parent.pid
    parent.kill()
    await pipe.ended()
    await parent.wait()


def modules_after(statements: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after these statements."""
    ask = f"{statements}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-I", "-c", ask], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_server_never_loads_what_tools_compute_with() -> None:
    listed = "from baio_adapters.biology.toolbox import WorkerToolbox; assert len(WorkerToolbox().specs()) == 20"
    assert not {"Bio", "numpy"} & modules_after(listed)


RUN_ALL = """
from baio_adapters.biology import installed_tools
from baio_domain.tool_calls import complete_arguments, perform
given = {
    "sequence": "ATGTACGTAC", "enzymes": ["EcoRI"], "start": 1, "end": 2, "motif": "ACG", "codon": 2, "to": "GAC",
    "mass": "1 ug", "c1": "2 M", "v1": "1 L", "c2": "1 M", "template": "ACGT", "forward": "ACGT", "reverse": "ACGT",
}
for tool in installed_tools().values():
    if tool.spec.name == "pairwise_align":
        continue
    asked = {name: value for name, value in given.items() if name in tool.spec.parameters["properties"]}
    assert perform(tool, complete_arguments(tool.spec.parameters, asked)).state == "done"
"""


def test_no_tool_but_the_alignment_loads_numpy() -> None:
    loaded = modules_after(RUN_ALL)
    assert "Bio" in loaded
    assert "numpy" not in loaded


def test_baios_own_process_is_isolated_python() -> None:
    assert COMMAND[1:] == ("-I", "-m", "baio_adapters.biology.worker")
