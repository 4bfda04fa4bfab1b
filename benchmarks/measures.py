"""The measurements. Each takes its contenders in turn, round by round, and gives lines for the table."""

import contextlib
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

import msgspec

from benchmarks.apps import RAW_READS
from benchmarks.load import Requested, Requests, Streamed, Streams
from benchmarks.process import Process
from benchmarks.provider import Profile, answer_of
from benchmarks.stage import Person, Stage, post, postgresql


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: what was measured in each round, and beside it the floor in the same round.

    The target is an upper bound of the ratio, or of what was measured.
    """

    what: str
    unit: str
    measured: list[float]
    floor: list[float]
    target: float
    bounds: Literal["ratio", "measured"] = "ratio"

    @property
    def ratio(self) -> float | None:
        """The median of the rounds' ratios; None where there is no floor."""
        pairs = [(a, b) for a, b in zip(self.measured, self.floor, strict=False) if b]
        return median(a / b for a, b in pairs) if pairs else None

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        bounded = self.ratio if self.bounds == "ratio" else median(self.measured)
        return bounded is not None and bounded <= self.target


@dataclass(frozen=True, slots=True)
class Run:
    """How to measure: where, how often, how much; ``say`` tells the reader how far it is."""

    folder: Path
    rounds: int
    quick: bool
    database: str
    say: Callable[[str], None]
    raw: list[dict[str, Any]] = field(default_factory=list)

    def turns(self, *contenders: str) -> Iterator[tuple[int, str]]:
        """Each contender once to warm up, as round 0, and then in every round."""
        for number in range(self.rounds + 1):
            for contender in contenders:
                yield number, contender

    def keep(self, benchmark: str, number: int, contender: str, result: msgspec.Struct | dict[str, Any]) -> None:
        """Keep what a round gave, for the file."""
        self.raw.append(
            {"benchmark": benchmark, "round": number, "contender": contender, "result": msgspec.to_builtins(result)}
        )


# -- Streams -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Streaming:
    """The provider, the clients, and the relays between them."""

    provider: Process
    load: Process
    relays: dict[str, Process]
    people: list[Person]

    def follow(
        self, relay: str, profile: Profile, streams: int, meanwhile: list[str] | None = None, at_once: int = 16
    ) -> Streamed:
        """Open so many streams through this relay and follow them to their end."""
        self.provider.ask(msgspec.to_builtins(profile))
        process = self.relays[relay]
        task = Streams(
            process.port,
            [post("/", {}) if relay == "floor" else each.question() for each in self.people[:streams]],
            answer_of(profile.chunks),
            {"relay": process.pid, "provider": self.provider.pid, "load": self.load.pid},
            meanwhile or [],
            at_once,
        )
        streamed = msgspec.convert(self.load.ask(msgspec.to_builtins(task)), Streamed)
        if streamed.whole < streams:
            raise RuntimeError(f"{streams - streamed.whole} of {streams} answers through {relay} were not whole")
        return streamed


DATABASES = ("sqlite", "postgresql")


@contextlib.contextmanager
def _streaming(
    run: Run, name: str, people: int, *, database: str = "sqlite", workers: int = 1, sdk: bool = False
) -> Iterator[_Streaming]:
    folder = run.folder / f"{name}-{database}"
    with contextlib.ExitStack() as stack:
        url = ""
        if database == "postgresql":
            url = stack.enter_context(postgresql(run.folder / f"{name}-server", run.database))
        provider = stack.enter_context(Process(run.folder, "benchmarks.provider"))
        load = stack.enter_context(Process(run.folder, "benchmarks.load"))
        stage = Stage.build(folder, provider=provider.port, database_url=url)
        researchers = stage.people([f"olenor{number}" for number in range(people)])
        relays = {
            "floor": Process(run.folder, "benchmarks.relay", str(provider.port)),
            "baio": stage.server(workers),
            **({"sdk": stage.app("sdk")} if sdk else {}),
        }
        for relay in relays.values():
            stack.enter_context(relay)
        yield _Streaming(provider, load, relays, researchers)


def _cpu_per_chunk(streamed: Streamed, process: str = "relay") -> float:
    return (streamed.ending.cpu[process] - streamed.begun.cpu[process]) / streamed.chunks * 1e6


def _share(streamed: Streamed, process: str) -> float:
    """How much of one core a process took while everything streamed."""
    used = streamed.ending.cpu[process] - streamed.begun.cpu[process]
    return used / (streamed.ending.at - streamed.begun.at) * 100


def measure_relay(run: Run) -> list[Line]:
    """Processor time per relayed chunk, of 100 paced streams: BAiO, the raw relay, and the SDK's ordinary stream.

    All streams are open and have had their first chunk when the clock starts, and none has ended when it stops: what
    is counted is relaying, with the checkpoints that belong to it, and not the start of the answers or their end.
    """
    streams, profile = 100, Profile(chunks=40 if run.quick else 60, seconds=0.1, gate=100)
    lines = []
    for database in DATABASES:
        found: dict[str, list[float]] = {name: [] for name in ("floor", "baio", "sdk")}
        with _streaming(run, "relay", streams, database=database, sdk=True) as streaming:
            for number, relay in run.turns(*found):
                streamed = streaming.follow(relay, profile, streams)
                run.keep(f"relay {database}", number, relay, streamed)
                cost = _cpu_per_chunk(streamed)
                run.say(f"{database}, round {number}, {relay}: {cost:.0f} µs per chunk of {streamed.chunks}")
                if number:
                    found[relay].append(cost)
        lines += [
            Line(f"{database}, a chunk, against the raw relay", "µs CPU", found["baio"], found["floor"], 2.5),
            Line(f"{database}, a chunk, against the SDK's stream", "µs CPU", found["baio"], found["sdk"], 1 / 3),
        ]
    return lines


def measure_streams(run: Run) -> list[Line]:
    """A thousand streams of 100 chunks at 100 ms through one worker: gaps, losses, memory."""
    streams, chunks = (200, 40) if run.quick else (1000, 100)
    return _steady(
        run, "streams", streams, Profile(chunks, seconds=0.1, gate=streams), workers=1, most_times=1.3, most_kib=48
    )


def measure_crowd(run: Run) -> list[Line]:
    """Three thousand streams of 50 chunks at 200 ms through two workers: gaps, losses, memory."""
    streams, chunks = (600, 20) if run.quick else (3000, 50)
    return _steady(
        run, "crowd", streams, Profile(chunks, seconds=0.2, gate=streams), workers=2, most_times=1.5, most_kib=60
    )


def _steady(
    run: Run, name: str, streams: int, profile: Profile, *, workers: int, most_times: float, most_kib: float
) -> list[Line]:
    """How steady streams are, and what they take.

    The raw relay between the same provider and the same clients shows how steady those are by themselves; how much of
    a core each of them takes stands in the progress and in the file. Memory is that of the processes when everything
    streams, less what it was when idle after the warm-up.
    """
    lines = []
    for database in DATABASES:
        found: dict[str, dict[str, list[float]]] = {
            what: {"floor": [], "baio": []} for what in ("gap", "memory", "base")
        }
        with _streaming(run, name, streams, database=database, workers=workers) as streaming:
            for relay in streaming.relays:
                streaming.follow(relay, Profile(20, 0.05, 20), 20)
            for number in range(1, run.rounds + 1):
                for relay in streaming.relays:
                    streamed = streaming.follow(relay, profile, streams)
                    run.keep(f"{name} {database}", number, relay, streamed)
                    shares = ", ".join(f"{name} {_share(streamed, name):.0f} %" for name in streamed.begun.cpu)
                    run.say(
                        f"{database}, round {number}, {relay}: p99 gap {streamed.gap_p99 * 1e3:.0f} ms,"
                        f" {_cpu_per_chunk(streamed):.0f} µs per chunk; of a core: {shares}"
                    )
                    found["gap"][relay].append(streamed.gap_p99 * 1e3)
                    most = max(streamed.begun.memory["relay"], streamed.ending.memory["relay"])
                    # A process keeps memory that it had once: only its first round shows what streams take.
                    if number == 1:
                        idle = streamed.before.memory["relay"]
                        found["memory"][relay].append((most - idle) / streams / 1024)
                        found["base"][relay].append(idle / workers / 2**20)
        gap, memory, base = found["gap"], found["memory"], found["base"]
        longest = profile.seconds * 1e3 * most_times
        lines += [
            Line(f"{database}, p99 gap between chunks", "ms", gap["baio"], gap["floor"], longest, "measured"),
            Line(f"{database}, memory per open stream", "KiB", memory["baio"], memory["floor"], most_kib, "measured"),
        ]
        if workers == 1:  # several have a supervisor besides
            lines.append(
                Line(f"{database}, memory of an idle worker", "MiB", base["baio"], base["floor"], 120, "measured")
            )
    return lines


def measure_starts(run: Run) -> list[Line]:
    """How much later than from the raw relay the first text of 100 questions asked at the same moment is there."""
    streams, profile = 100, Profile(chunks=20, seconds=0.1)
    lines = []
    for database in DATABASES:
        found: dict[str, list[float]] = {"floor": [], "baio": []}
        with _streaming(run, "starts", streams, database=database) as streaming:
            for number, relay in run.turns(*found):
                streamed = streaming.follow(relay, profile, streams, at_once=streams)
                run.keep(f"starts {database}", number, relay, streamed)
                run.say(f"{database}, round {number}, {relay}: p99 {streamed.first_p99 * 1e3:.0f} ms")
                if number:
                    found[relay].append(streamed.first_p99 * 1e3)
        beyond = [baio - floor for baio, floor in zip(found["baio"], found["floor"], strict=True)]
        lines.append(Line(f"{database}, p99 of the first text, beyond", "ms", beyond, found["floor"], 500, "measured"))
    return lines


def measure_logins(run: Run) -> list[Line]:
    """The longest silence of 20 streams at 50 ms while fifty people sign in at once; the floor is without them."""
    people, streams, profile = 50, 20, Profile(chunks=60 if run.quick else 140, seconds=0.05, gate=20)
    found: dict[str, list[float]] = {"quiet": [], "signing in": []}
    with _streaming(run, "logins", people) as streaming:
        for number, when in run.turns(*found):
            requests = [] if when == "quiet" else [each.sign_in() for each in streaming.people]
            streamed = streaming.follow("baio", profile, streams, requests)
            run.keep("logins", number, when, streamed)
            if set(streamed.meanwhile) - {200}:
                raise RuntimeError(f"signing in was answered with {set(streamed.meanwhile)}")
            beyond = (streamed.gap_longest - profile.seconds) * 1e3
            run.say(f"round {number}, {when} {streamed.meanwhile_seconds:.1f} s: {beyond:.0f} ms beyond 50")
            if number:
                found[when].append(beyond)
    return [Line("longest gap beyond 50 ms", "ms", found["signing in"], found["quiet"], 200, "measured")]


# -- Requests ----------------------------------------------------------------------------------------------------------


AT_ONCE = (1, 16)
"""Connections that ask at the same time."""


def _cpu(all_of_them: list[Requested]) -> list[float]:
    return [each.cpu["server"] for each in all_of_them]


def _latency(all_of_them: list[Requested]) -> list[float]:
    return [each.latency_p50 for each in all_of_them]


def _requested(load: Process, server: Process, request: str, count: int, connections: int = 1) -> Requested:
    task = Requests(server.port, request, count, connections, {"server": server.pid})
    return msgspec.convert(load.ask(msgspec.to_builtins(task)), Requested)


def measure_reads(run: Run) -> list[Line]:
    """Processor time of each read endpoint against the driver alone, in the same process, on both databases."""
    lines = []
    with Process(run.folder, "benchmarks.load") as load:
        lines += _reads(run, "sqlite", load, Stage.build(run.folder / "reads"))
        with postgresql(run.folder / "postgresql", run.database) as url:
            lines += _reads(run, "postgresql", load, Stage.build(run.folder / "reads-pg", database_url=url))
    return lines


def _reads(run: Run, database: str, load: Process, stage: Stage) -> list[Line]:
    person = stage.people(["olenor"], conversations=10, messages=20)[0]
    lines = []
    with stage.app("raw") as server:
        for name in RAW_READS:
            path = f"/user/{name}/" if name == "getInfo" else f"/chat/{name}/"
            paths = {"raw": f"/raw/{name}", "baio": path}
            if name == "getConversation":
                paths["baio"] += f"?conversation_id={person.conversations[0]}"
            done: dict[tuple[str, int], list[Requested]] = {(who, n): [] for who in paths for n in AT_ONCE}
            for number, who in run.turns(*paths):
                for connections in AT_ONCE:
                    requested = _requested(load, server, person.get(paths[who]), 100 if run.quick else 200, connections)
                    run.keep(f"reads {database} {name} {connections}", number, who, requested)
                    done[who, connections].append(requested)
            raw, baio = (msgspec.json.decode(done[who, 1][-1].body) for who in ("raw", "baio"))
            if raw != baio:
                raise RuntimeError(f"{name} differs:\n{raw}\n{baio}")
            for connections in AT_ONCE:
                what = f"{database} {name}, {connections} at once"
                cpu, latency = (
                    {who: [each * 1e3 for each in values(done[who, connections][1:])] for who in paths}
                    for values in (_cpu, _latency)
                )
                lines.append(Line(what, "ms CPU", cpu["baio"], cpu["raw"], 2.0))
                run.say(f"{what}: latency {median(latency['baio']):.2f} against {median(latency['raw']):.2f} ms")
    return lines


def measure_list(run: Run) -> list[Line]:
    """What one's own 50 conversations cost to list among few of other people's, and among very many."""
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
            stage.crowd([each.id for each in others], rows)
            servers[size] = stack.enter_context(stage.server()), person
            run.say(f"{rows} rows are there")
        for number, size in run.turns(*sizes):
            server, person = servers[size]
            done = _requested(load, server, person.get("/chat/getConversations/"), 200 if run.quick else 600)
            run.keep("list", number, size, done)
            if number:
                cpu[size].append(done.cpu["server"] * 1e3)
                latency[size].append(done.latency_p50 * 1e3)
    return [
        Line(f"own 50 among {sizes['many']} rows", "ms CPU", cpu["many"], cpu["few"], 1.3),
        Line(f"own 50 among {sizes['many']} rows", "ms", latency["many"], latency["few"], 1.3),
    ]


# -- The command line --------------------------------------------------------------------------------------------------


def measure_help(run: Run) -> list[Line]:
    """Processor time of ``baio --help``, from start to end."""
    commands = {"floor": ["-c", "pass"], "baio": ["-m", "baio_api.cli", "--help"]}
    found: dict[str, list[float]] = {name: [] for name in commands}
    for number, name in run.turns(*commands):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *commands[name]], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        run.keep("help", number, name, {"seconds": seconds})
        if number:
            found[name].append(seconds)
    return [Line("baio --help", "s CPU", found["baio"], found["floor"], 0.3, "measured")]


BENCHMARKS: dict[str, Callable[[Run], list[Line]]] = {
    "relay": measure_relay,
    "streams": measure_streams,
    "crowd": measure_crowd,
    "starts": measure_starts,
    "reads": measure_reads,
    "list": measure_list,
    "logins": measure_logins,
    "help": measure_help,
}
