"""The benchmarks. Each runs its contenders in turn, round by round, and returns results for the table."""

import contextlib
import json
import random
import resource
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

import msgspec

from benchmarks.apps import RAW_READS
from benchmarks.load import RequestResult, RequestTask, StreamResult, StreamTask
from benchmarks.process import Process
from benchmarks.provider import Pacing, answer_of
from benchmarks.stage import Person, Stage, post, postgresql


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table: the measured value of each round, and the floor in the same round.

    The target is an upper bound for the ratio of the two or for the measured value.
    """

    name: str
    unit: str
    measured: list[float]
    floor: list[float]
    target: float
    bounds: Literal["ratio", "measured"] = "ratio"

    @property
    def ratio(self) -> float | None:
        """The median of the rounds' ratios; None without a floor."""
        pairs = [(a, b) for a, b in zip(self.measured, self.floor, strict=False) if b]
        return median(a / b for a, b in pairs) if pairs else None

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        bounded = self.ratio if self.bounds == "ratio" else median(self.measured)
        return bounded is not None and bounded <= self.target


@dataclass(frozen=True, slots=True)
class Run:
    """The options of a run, and the results of all its rounds. ``report_progress`` shows a message to the user."""

    folder: Path
    rounds: int
    quick: bool
    database: str
    report_progress: Callable[[str], None]
    raw: list[dict[str, Any]] = field(default_factory=list)

    def schedule(self, *contenders: str) -> Iterator[tuple[int, str]]:
        """Round 0, which is the warm-up, and then every other round, each with all contenders."""
        for number in range(self.rounds + 1):
            for contender in contenders:
                yield number, contender

    def record(self, benchmark: str, number: int, contender: str, result: msgspec.Struct | dict[str, Any]) -> None:
        """Record one contender's result of a round, for ``--json``."""
        self.raw.append(
            {"benchmark": benchmark, "round": number, "contender": contender, "result": msgspec.to_builtins(result)}
        )


# -- Streams -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Setup:
    """The provider, the load generator, and the relays between them."""

    provider: Process
    load: Process
    relays: dict[str, Process]
    people: list[Person]

    def run(
        self, relay: str, pacing: Pacing, streams: int, burst: list[str] | None = None, concurrency: int = 16
    ) -> StreamResult:
        """Open this number of streams through a relay and read them to their end."""
        self.provider.ask(msgspec.to_builtins(pacing))
        process = self.relays[relay]
        task = StreamTask(
            process.port,
            [post("/", {}) if relay == "floor" else each.question() for each in self.people[:streams]],
            answer_of(pacing.chunks),
            {"relay": process.pid, "provider": self.provider.pid, "load": self.load.pid},
            burst or [],
            concurrency,
        )
        result = msgspec.convert(self.load.ask(msgspec.to_builtins(task)), StreamResult)
        if result.complete < streams:
            raise RuntimeError(f"{streams - result.complete} of {streams} answers through {relay} were incomplete")
        return result


DATABASES = ("sqlite", "postgresql")


@contextlib.contextmanager
def _setup(
    run: Run,
    name: str,
    people: int,
    *,
    database: str = "sqlite",
    workers: int = 1,
    sdk: bool = False,
    metrics: bool = False,
    **settings: str,
) -> Iterator[_Setup]:
    folder = run.folder / f"{name}-{database}"
    with contextlib.ExitStack() as stack:
        url = ""
        if database == "postgresql":
            url = stack.enter_context(postgresql(run.folder / f"{name}-server", run.database))
        provider = stack.enter_context(Process(run.folder, "benchmarks.provider"))
        load = stack.enter_context(Process(run.folder, "benchmarks.load"))
        stage = Stage.build(folder, provider=provider.port, database_url=url)
        stage.environment.update(settings)
        users = stage.people([f"olenor{number}" for number in range(people)])
        relays = {
            "floor": Process(run.folder, "benchmarks.relay", str(provider.port)),
            "baio": stage.server(workers),
            **({"sdk": stage.app("sdk")} if sdk else {}),
            **({"metrics": stage.server(workers, BAIO_METRICS="127.0.0.1:0")} if metrics else {}),
        }
        for relay in relays.values():
            stack.enter_context(relay)
        yield _Setup(provider, load, relays, users)


def _cpu_per_chunk(result: StreamResult, process: str = "relay") -> float:
    return (result.first_end.cpu[process] - result.all_open.cpu[process]) / result.chunks * 1e6


def _core_percent(result: StreamResult, process: str) -> float:
    """A process's load of one core, in percent, while all streams were open."""
    used = result.first_end.cpu[process] - result.all_open.cpu[process]
    return used / (result.first_end.at - result.all_open.at) * 100


def measure_relay(run: Run) -> list[Result]:
    """Processor time per relayed chunk, with 100 streams: BAiO, the raw relay, and the SDK's own stream.

    The measurement starts when all streams are open and have their first chunk, and stops when the first one ends. It
    includes relaying and its checkpoints, but neither the start nor the end of an answer.
    """
    streams, pacing = 100, Pacing(chunks=40 if run.quick else 60, interval_seconds=0.1, barrier=100)
    results = []
    for database in DATABASES:
        found: dict[str, list[float]] = {name: [] for name in ("floor", "baio", "sdk")}
        with _setup(run, "relay", streams, database=database, sdk=True) as setup:
            for number, relay in run.schedule(*found):
                result = setup.run(relay, pacing, streams)
                run.record(f"relay {database}", number, relay, result)
                cost = _cpu_per_chunk(result)
                run.report_progress(f"{database}, round {number}, {relay}: {cost:.0f} µs per chunk of {result.chunks}")
                if number:
                    found[relay].append(cost)
        results += [
            Result(f"{database}, a chunk, against the raw relay", "µs CPU", found["baio"], found["floor"], 2.5),
            Result(f"{database}, a chunk, against the SDK's stream", "µs CPU", found["baio"], found["sdk"], 1 / 3),
        ]
    return results


def measure_metrics(run: Run) -> list[Result]:
    """Processor time per relayed chunk with BAIO_METRICS, compared with the same without; 100 streams."""
    streams, pacing = 100, Pacing(chunks=40 if run.quick else 60, interval_seconds=0.1, barrier=100)
    found: dict[str, list[float]] = {"baio": [], "metrics": []}
    with _setup(run, "metrics", streams, metrics=True) as setup:
        for number, relay in run.schedule(*found):
            result = setup.run(relay, pacing, streams)
            run.record("metrics", number, relay, result)
            cost = _cpu_per_chunk(result)
            run.report_progress(f"round {number}, {relay}: {cost:.0f} µs per chunk of {result.chunks}")
            if number:
                found[relay].append(cost)
    return [Result("a chunk, against one without metrics", "µs CPU", found["metrics"], found["baio"], 1.03)]


def measure_streams(run: Run) -> list[Result]:
    """Gaps and memory of 1,000 streams through one worker (100 chunks at 100 ms)."""
    streams, chunks = (200, 40) if run.quick else (1000, 100)
    return _measure_gaps_and_memory(
        run,
        "streams",
        streams,
        Pacing(chunks, interval_seconds=0.1, barrier=streams),
        workers=1,
        max_gap_ratio=1.3,
        max_kib=48,
    )


def measure_two_workers(run: Run) -> list[Result]:
    """Gaps and memory of 3,000 streams through two workers (50 chunks at 200 ms)."""
    streams, chunks = (600, 20) if run.quick else (3000, 50)
    return _measure_gaps_and_memory(
        run,
        "two-workers",
        streams,
        Pacing(chunks, interval_seconds=0.2, barrier=streams),
        workers=2,
        max_gap_ratio=1.5,
        max_kib=60,
    )


def _measure_gaps_and_memory(
    run: Run, name: str, streams: int, pacing: Pacing, *, workers: int, max_gap_ratio: float, max_kib: float
) -> list[Result]:
    """The gaps between chunks, and the memory per stream.

    The raw relay shows how regular the provider and the load generator are by themselves. The progress messages and the
    JSON file show the load of each process. A stream's memory is the difference between all streams open and idle after
    the warm-up.
    """
    results = []
    for database in DATABASES:
        found: dict[str, dict[str, list[float]]] = {
            quantity: {"floor": [], "baio": []} for quantity in ("gap", "memory", "base")
        }
        with _setup(run, name, streams, database=database, workers=workers) as setup:
            for relay in setup.relays:
                setup.run(relay, Pacing(20, 0.05, 20), 20)
            for number in range(1, run.rounds + 1):
                for relay in setup.relays:
                    result = setup.run(relay, pacing, streams)
                    run.record(f"{name} {database}", number, relay, result)
                    loads = ", ".join(f"{name} {_core_percent(result, name):.0f} %" for name in result.all_open.cpu)
                    run.report_progress(
                        f"{database}, round {number}, {relay}: p99 gap {result.gap_p99 * 1e3:.0f} ms,"
                        f" {_cpu_per_chunk(result):.0f} µs per chunk; of a core: {loads}"
                    )
                    found["gap"][relay].append(result.gap_p99 * 1e3)
                    peak = max(result.all_open.memory["relay"], result.first_end.memory["relay"])
                    # A process does not return memory to the system: only its first round shows what the streams need.
                    if number == 1:
                        idle = result.before.memory["relay"]
                        found["memory"][relay].append((peak - idle) / streams / 1024)
                        found["base"][relay].append(idle / workers / 2**20)
        gap, memory, base = found["gap"], found["memory"], found["base"]
        max_gap = pacing.interval_seconds * 1e3 * max_gap_ratio
        results += [
            Result(f"{database}, p99 gap between chunks", "ms", gap["baio"], gap["floor"], max_gap, "measured"),
            Result(f"{database}, memory per open stream", "KiB", memory["baio"], memory["floor"], max_kib, "measured"),
        ]
        if workers == 1:  # several workers also have a supervisor process
            results.append(
                Result(f"{database}, memory of an idle worker", "MiB", base["baio"], base["floor"], 120, "measured")
            )
    return results


def measure_tools(run: Run) -> list[Result]:
    """Gaps of 100 streams while tools compute on sequences of 5 Mb, against those of the same streams at rest."""
    streams, pacing = 100, Pacing(chunks=40 if run.quick else 80, interval_seconds=0.1, barrier=100)
    letters = "".join(random.Random("baio tools").choices("ACGT", k=5_000_000))
    found: dict[str, list[float]] = {"rest": [], "tools": []}
    with _setup(run, "tools", streams) as setup:
        jobs = [_job(setup.relays["baio"].port, each, letters) for each in setup.people[: 4 if run.quick else 8]]
        for number, contender in run.schedule(*found):
            result = setup.run("baio", pacing, streams, jobs if contender == "tools" else [])
            run.record("tools", number, contender, result)
            run.report_progress(
                f"round {number}, {contender}: p99 gap {result.gap_p99 * 1e3:.1f} ms,"
                f" jobs {result.burst_statuses} in {result.burst_seconds:.1f} s"
            )
            if number:
                found[contender].append(result.gap_p99 * 1e3)
    return [Result("p99 gap between chunks while tools compute", "ms", found["tools"], found["rest"], 1.1)]


def _job(port: int, person: Person, letters: str) -> str:
    """Store a sequence of the person's; a request that searches it for reading frames, which takes a second."""
    stored = urllib.request.Request(
        f"http://127.0.0.1:{port}/chat/addSequences/",
        json.dumps({"name": "genome", "content": letters, "topology": "circular"}).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {person.token}"},
    )
    with urllib.request.urlopen(stored) as response:
        sequence_id = json.load(response)[0]["id"]
    arguments = {"sequence": f"seq_{sequence_id}", "min_length": 300}
    return post("/chat/runTool/", {"tool": "find_orfs", "arguments": arguments}, person.token)


def measure_first_text(run: Run) -> list[Result]:
    """Time to the first text of 100 simultaneous questions, minus that of the raw relay."""
    streams, pacing = 100, Pacing(chunks=20, interval_seconds=0.1)
    results = []
    for database in DATABASES:
        found: dict[str, list[float]] = {"floor": [], "baio": []}
        with _setup(run, "first-text", streams, database=database) as setup:
            for number, relay in run.schedule(*found):
                result = setup.run(relay, pacing, streams, concurrency=streams)
                run.record(f"first-text {database}", number, relay, result)
                run.report_progress(f"{database}, round {number}, {relay}: p99 {result.first_text_p99 * 1e3:.0f} ms")
                if number:
                    found[relay].append(result.first_text_p99 * 1e3)
        above = [baio - floor for baio, floor in zip(found["baio"], found["floor"], strict=True)]
        results.append(
            Result(f"{database}, p99 to the first text, above the floor", "ms", above, found["floor"], 500, "measured")
        )
    return results


def measure_rounds(run: Run) -> list[Result]:
    """Time that one round with a call of a tool takes, beyond that of the provider, which the raw relay takes."""
    people, rounds = 10 if run.quick else 40, 4
    pacings = {"floor": Pacing(1, 0.001), "plain": Pacing(1, 0.001), "calling": Pacing(1, 0.001, rounds=rounds)}
    results = []
    for database in DATABASES:
        found: dict[str, list[float]] = {name: [] for name in pacings}
        with _setup(run, "rounds", people, database=database, BAIO_TOOL_NOTES="off") as setup:
            for number, name in run.schedule(*pacings):
                result = setup.run("floor" if name == "floor" else "baio", pacings[name], people, concurrency=1)
                run.record(f"rounds {database}", number, name, result)
                run.report_progress(f"{database}, round {number}, {name}: p50 {result.first_text_p50 * 1e3:.1f} ms")
                if number:
                    found[name].append(result.first_text_p50 * 1e3)
        of_three = zip(found["calling"], found["plain"], found["floor"], strict=True)
        beyond = [(calling - plain) / rounds - floor for calling, plain, floor in of_three]
        results.append(
            Result(f"{database}, p50 of a round, above the floor", "ms", beyond, found["floor"], 25, "measured")
        )
    return results


def measure_starts(run: Run) -> list[Result]:
    """Processor time and time per question with an answer of one chunk, from its connection to its last byte."""
    questions, pacing = 100 if run.quick else 400, Pacing(chunks=1, interval_seconds=0.001)
    # At once, milliseconds of processor time and milliseconds per question. One worker uses about one core.
    targets = {"sqlite": {4: (1.1, 1.4), 32: (0.85, 0.9)}, "postgresql": {4: (4.2, 6.5), 32: (4.2, 6.5)}}
    results = []
    for database in DATABASES:
        found: dict[tuple[str, int], list[StreamResult]] = {}
        with _setup(run, "starts", questions, database=database) as setup:
            for number, relay in run.schedule("floor", "baio"):
                for at_once in targets[database]:
                    result = setup.run(relay, pacing, questions, concurrency=at_once)
                    run.record(f"starts {database} {at_once}", number, relay, result)
                    run.report_progress(
                        f"{database}, round {number}, {relay}, {at_once} at once:"
                        f" {_cpu_per_answer(result, questions):.2f} ms CPU, {questions / result.seconds:.0f} a second"
                    )
                    if number:
                        found.setdefault((relay, at_once), []).append(result)
        for at_once, (cpu, seconds) in targets[database].items():
            floor, baio = found["floor", at_once], found["baio", at_once]
            name = f"{database}, a question, {at_once} at once"
            results += [
                Result(
                    name,
                    "ms CPU",
                    [_cpu_per_answer(each, questions) for each in baio],
                    [_cpu_per_answer(each, questions) for each in floor],
                    cpu,
                    "measured",
                ),
                Result(
                    name,
                    "ms",
                    [each.seconds / questions * 1e3 for each in baio],
                    [each.seconds / questions * 1e3 for each in floor],
                    seconds,
                    "measured",
                ),
            ]
    return results


def _cpu_per_answer(result: StreamResult, answers: int) -> float:
    return (result.after.cpu["relay"] - result.before.cpu["relay"]) / answers * 1e3


def measure_logins(run: Run) -> list[Result]:
    """Longest gap in 20 streams (at 50 ms) while 50 users sign in at once; the floor is without sign-ins."""
    users, streams, pacing = 50, 20, Pacing(chunks=60 if run.quick else 140, interval_seconds=0.05, barrier=20)
    found: dict[str, list[float]] = {"quiet": [], "signing in": []}
    with _setup(run, "logins", users) as setup:
        for number, contender in run.schedule(*found):
            requests = [] if contender == "quiet" else [each.sign_in() for each in setup.people]
            result = setup.run("baio", pacing, streams, requests)
            run.record("logins", number, contender, result)
            if set(result.burst_statuses) - {200}:
                raise RuntimeError(f"sign-ins were answered with {set(result.burst_statuses)}")
            above = (result.gap_max - pacing.interval_seconds) * 1e3
            run.report_progress(f"round {number}, {contender} {result.burst_seconds:.1f} s: {above:.0f} ms above 50 ms")
            if number:
                found[contender].append(above)
    return [Result("longest gap above 50 ms", "ms", found["signing in"], found["quiet"], 200, "measured")]


# -- Requests ----------------------------------------------------------------------------------------------------------


CONNECTIONS = (1, 16)
"""How many connections send requests at the same time."""


def _cpu(results: list[RequestResult]) -> list[float]:
    return [result.cpu["server"] for result in results]


def _latency(results: list[RequestResult]) -> list[float]:
    return [result.latency_p50 for result in results]


def _run_requests(load: Process, server: Process, request: str, count: int, connections: int = 1) -> RequestResult:
    task = RequestTask(server.port, request, count, connections, {"server": server.pid})
    return msgspec.convert(load.ask(msgspec.to_builtins(task)), RequestResult)


def measure_reads(run: Run) -> list[Result]:
    """Processor time of each read endpoint, compared with the database driver only."""
    results = []
    with Process(run.folder, "benchmarks.load") as load:
        results += _measure_reads(run, "sqlite", load, Stage.build(run.folder / "reads"))
        with postgresql(run.folder / "postgresql", run.database) as url:
            results += _measure_reads(run, "postgresql", load, Stage.build(run.folder / "reads-pg", database_url=url))
    return results


def _measure_reads(run: Run, database: str, load: Process, stage: Stage) -> list[Result]:
    person = stage.people(["olenor"], conversations=10, messages=20)[0]
    results = []
    with stage.app("raw") as server:
        for name in RAW_READS:
            path = f"/user/{name}/" if name == "getInfo" else f"/chat/{name}/"
            paths = {"raw": f"/raw/{name}", "baio": path}
            if name == "getConversation":
                paths["baio"] += f"?conversation_id={person.conversations[0]}"
            done: dict[tuple[str, int], list[RequestResult]] = {
                (contender, n): [] for contender in paths for n in CONNECTIONS
            }
            for number, contender in run.schedule(*paths):
                for connections in CONNECTIONS:
                    result = _run_requests(
                        load, server, person.get(paths[contender]), 100 if run.quick else 200, connections
                    )
                    run.record(f"reads {database} {name} {connections}", number, contender, result)
                    done[contender, connections].append(result)
            raw, baio = (msgspec.json.decode(done[contender, 1][-1].body) for contender in ("raw", "baio"))
            if raw != baio:
                raise RuntimeError(f"{name} differs:\n{raw}\n{baio}")
            for connections in CONNECTIONS:
                title = f"{database} {name}, {connections} at once"
                cpu, latency = (
                    {
                        contender: [each * 1e3 for each in values(done[contender, connections][1:])]
                        for contender in paths
                    }
                    for values in (_cpu, _latency)
                )
                results.append(Result(title, "ms CPU", cpu["baio"], cpu["raw"], 2.0))
                run.report_progress(
                    f"{title}: latency {median(latency['baio']):.2f} against {median(latency['raw']):.2f} ms"
                )
    return results


def measure_list(run: Run) -> list[Result]:
    """Time to list a user's 50 conversations in a very large table, compared with a small one."""
    sizes = {"few": 10_000, "many": 100_000 if run.quick else 1_000_000}
    cpu: dict[str, list[float]] = {size: [] for size in sizes}
    latency: dict[str, list[float]] = {size: [] for size in sizes}
    with contextlib.ExitStack() as stack:
        load = stack.enter_context(Process(run.folder, "benchmarks.load"))
        servers: dict[str, tuple[Process, Person]] = {}
        for size, rows in sizes.items():
            stage = Stage.build(run.folder / f"list-{size}")
            person = stage.people(["olenor"], conversations=50)[0]
            others = stage.people([f"other{number}" for number in range(500)])
            stage.add_conversations([each.id for each in others], rows)
            servers[size] = stack.enter_context(stage.server()), person
            run.report_progress(f"added {rows} rows")
        for number, size in run.schedule(*sizes):
            server, person = servers[size]
            done = _run_requests(load, server, person.get("/chat/getConversations/"), 200 if run.quick else 600)
            run.record("list", number, size, done)
            if number:
                cpu[size].append(done.cpu["server"] * 1e3)
                latency[size].append(done.latency_p50 * 1e3)
    return [
        Result(f"50 conversations among {sizes['many']} rows", "ms CPU", cpu["many"], cpu["few"], 1.3),
        Result(f"50 conversations among {sizes['many']} rows", "ms", latency["many"], latency["few"], 1.3),
    ]


def measure_search(run: Run) -> list[Result]:
    """Time to find a user's conversations by words, common and rare, among many messages, compared with few."""
    with Process(run.folder, "benchmarks.load") as load:
        return [result for database in DATABASES for result in _measure_search(run, database, load)]


def _measure_search(run: Run, database: str, load: Process) -> list[Result]:
    sizes = {"few": 1_000, "many": 20_000 if run.quick else 200_000}
    words = {"common": "codon", "rare": f"sample{sizes['few'] // 2}", "unknown": "nowhere"}
    found: dict[tuple[str, str], list[float]] = {(size, kind): [] for size in sizes for kind in words}
    with contextlib.ExitStack() as stack:
        servers: dict[str, tuple[Process, Person]] = {}
        for size, messages in sizes.items():
            folder, url = run.folder / f"search-{database}-{size}", ""
            if database == "postgresql":
                url = stack.enter_context(postgresql(run.folder / f"search-server-{size}", run.database))
            stage = Stage.build(folder, database_url=url)
            person, *others = stage.people(["olenor", "other"])
            for each in (person, *others):
                stage.add_messages(each.id, messages)
            servers[size] = stack.enter_context(stage.server()), person
            run.report_progress(f"{database}: added {2 * messages} messages")
        for number, size in run.schedule(*sizes):
            server, person = servers[size]
            for kind, query in words.items():
                request = person.get(f"/chat/findConversations/?query={query}")
                done = _run_requests(load, server, request, 50 if run.quick else 200)
                run.record(f"search {database} {kind}", number, size, done)
                if number:
                    found[size, kind].append(done.latency_p50 * 1e3)
    return [
        Result(
            f"{database}, {kind} words in {sizes['many']} messages",
            "ms",
            found["many", kind],
            found["few", kind],
            25,
            "measured",
        )
        for kind in words
    ]


# -- The command line --------------------------------------------------------------------------------------------------


def measure_help(run: Run) -> list[Result]:
    """Processor time of baio --help."""
    commands = {"floor": ["-c", "pass"], "baio": ["-m", "baio_api.cli", "--help"]}
    found: dict[str, list[float]] = {name: [] for name in commands}
    for number, name in run.schedule(*commands):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *commands[name]], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        run.record("help", number, name, {"seconds": seconds})
        if number:
            found[name].append(seconds)
    return [Result("baio --help", "s CPU", found["baio"], found["floor"], 0.3, "measured")]


BENCHMARKS: dict[str, Callable[[Run], list[Result]]] = {
    "relay": measure_relay,
    "metrics": measure_metrics,
    "streams": measure_streams,
    "two-workers": measure_two_workers,
    "tools": measure_tools,
    "first-text": measure_first_text,
    "rounds": measure_rounds,
    "starts": measure_starts,
    "reads": measure_reads,
    "list": measure_list,
    "search": measure_search,
    "logins": measure_logins,
    "help": measure_help,
}
