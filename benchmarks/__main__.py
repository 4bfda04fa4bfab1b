"""Take the measurements and print them beside their floors and targets."""

import argparse
import os
import platform
import signal
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

import msgspec

from benchmarks.measures import BENCHMARKS, Line, Run

PACKAGES = ("litestar", "uvicorn", "uvloop", "httptools", "msgspec", "sqlalchemy", "psycopg", "openai", "aiohttp")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="take only this one; may be repeated")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender has its turn (default: 5)")
    parser.add_argument("--quick", action="store_true", help="shorter and smaller, for a first impression")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--database", default="", help="a PostgreSQL server to measure on, instead of one of its own")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no child outlives this process
    lines: dict[str, list[Line]] = {}
    raw = []
    for name in asked.only or BENCHMARKS:
        started = time.monotonic()

        def say(what: str, name: str = name, started: float = started) -> None:
            print(f"  {name} {time.monotonic() - started:4.0f} s  {what}", file=sys.stderr, flush=True)

        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            run = Run(Path(folder), asked.rounds, asked.quick, asked.database, say)
            lines[name] = BENCHMARKS[name](run)
        raw += run.raw
    print(table(lines))
    if asked.json:
        asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(report(lines, raw))))
    return 0 if all(line.met for of_one in lines.values() for line in of_one) else 1


def table(lines: dict[str, list[Line]]) -> str:
    rows = [("", "measured", "floor", "ratio", "target", "met")]
    for name, of_one in lines.items():
        for line in of_one:
            target = f"<= {line.target:.3g}" + (f" {line.unit}" if line.bounds == "measured" else " times")
            rows.append(
                (
                    f"{name}: {line.what}",
                    f"{median(line.measured):.3g} {line.unit}",
                    f"{median(line.floor):.3g}",
                    "" if line.ratio is None else f"{line.ratio:.2f}",
                    target,
                    "yes" if line.met else "NO",
                )
            )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def report(lines: dict[str, list[Line]], raw: list[dict[str, object]]) -> dict[str, object]:
    return {
        "machine": {
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "cpus": os.cpu_count(),
            "load": os.getloadavg(),
            "packages": {name: version(name) for name in PACKAGES},
        },
        "lines": [
            {"benchmark": name, **msgspec.to_builtins(line), "ratio": line.ratio, "met": line.met}
            for name, of_one in lines.items()
            for line in of_one
        ],
        "rounds": raw,
    }


if __name__ == "__main__":
    sys.exit(main())
