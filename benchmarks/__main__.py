"""Run the benchmarks and print each result with its floor and its target. The exit code is 1 if a target is missed."""

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

from benchmarks.measurements import BENCHMARKS, Result, Run

PACKAGES = ("litestar", "uvicorn", "uvloop", "httptools", "msgspec", "sqlalchemy", "psycopg", "openai", "aiohttp")


def main() -> int:
    width = max(map(len, BENCHMARKS))
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="benchmarks:\n"
        + "\n".join(
            f"  {name:{width}}  {(measure.__doc__ or '').splitlines()[0]}" for name, measure in BENCHMARKS.items()
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", action="append", choices=BENCHMARKS, metavar="BENCHMARK", help="run only this one; can be repeated"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds per benchmark (default: 5)")
    parser.add_argument("--quick", action="store_true", help="run shorter and smaller benchmarks, for a rough estimate")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results of every round to this file")
    parser.add_argument(
        "--database", default="", metavar="URL", help="use this PostgreSQL server instead of starting a temporary one"
    )
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # exits normally, which ends the child processes
    results: dict[str, list[Result]] = {}
    raw = []
    for name in args.only or BENCHMARKS:
        started = time.monotonic()

        def report_progress(message: str, name: str = name, started: float = started) -> None:
            print(f"  {name} {time.monotonic() - started:4.0f} s  {message}", file=sys.stderr, flush=True)

        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            run = Run(Path(folder), args.rounds, args.quick, args.database, report_progress)
            results[name] = BENCHMARKS[name](run)
        raw += run.raw
    print(table(results))
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(report(results, raw))))
    return 0 if all(result.met for group in results.values() for result in group) else 1


def table(results: dict[str, list[Result]]) -> str:
    rows = [("", "measured", "floor", "ratio", "target", "met")]
    for name, group in results.items():
        for result in group:
            target = f"<= {result.target:.3g}" + (f" {result.unit}" if result.bounds == "measured" else " times")
            rows.append(
                (
                    f"{name}: {result.name}",
                    f"{median(result.measured):.3g} {result.unit}",
                    f"{median(result.floor):.3g}",
                    "" if result.ratio is None else f"{result.ratio:.2f}",
                    target,
                    "yes" if result.met else "NO",
                )
            )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def report(results: dict[str, list[Result]], raw: list[dict[str, object]]) -> dict[str, object]:
    return {
        "machine": {
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "cpus": os.cpu_count(),
            "load": os.getloadavg(),
            "packages": {name: version(name) for name in PACKAGES},
        },
        "results": [
            {"benchmark": name, **msgspec.to_builtins(result), "ratio": result.ratio, "met": result.met}
            for name, group in results.items()
            for result in group
        ],
        "rounds": raw,
    }


if __name__ == "__main__":
    sys.exit(main())
