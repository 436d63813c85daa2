#!/usr/bin/env python3
"""Asks all queries of TPC-H and TPC-DS in every mode, and compares each answer with DuckDB's on the same files.

    python3 tests/answers/run.py --tarn target/release/tarn --scale 1

Configurations: local in one process; pipelined and staged with 1, 2 and 4 executors apart from the scheduler. A table of
query and configuration, each cell the seconds or what differed, is printed as it comes and written to
benches/results/answers-sf<scale>-<date>.md. The exit code is 1 if anything differed.

    --only tpcds:47,57 --configurations local,pipelined-2     some of it; written only if --out says where

- `data`: DuckDB's generators write Parquet, PyIceberg makes tables of the files
- `suites`: the texts, and the order each asks for; `compare`: when a result equals an answer
- `servers`: Tarn's processes, on loopback; `report`: the table

The data of a scale (0.4 GB at scale 1) is made on the first run and kept in $XDG_CACHE_HOME/tarn/answers, and so is the Python
environment. A query ends by --timeout, a server that does not start or stop by the deadlines of `servers`.
"""

import argparse
import hashlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import venv

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "tarn"
CONFIGURATIONS = ["local", *(f"{mode}-{executors}" for executors in (1, 2, 4) for mode in ("pipelined", "staged"))]


def main():
    parser = argparse.ArgumentParser(description="compare Tarn's answers to TPC-H and TPC-DS with DuckDB's")
    parser.add_argument("--tarn", required=True, type=pathlib.Path, help="the binary")
    parser.add_argument("--scale", default="0.01", help="scale factor of both benchmarks")
    parser.add_argument("--configurations", default=",".join(CONFIGURATIONS), help="some of those named by default")
    parser.add_argument("--only", action="append", default=[], metavar="SUITE[:N,…]", help="some queries")
    parser.add_argument("--timeout", default=300, type=int, help="seconds that one query may take")
    parser.add_argument("--data", default=CACHE / "answers", type=pathlib.Path, help="folder of the data")
    parser.add_argument("--out", type=pathlib.Path, help="folder of the result [default: benches/results, if all is asked]")
    options = parser.parse_args()
    in_environment()

    # So that servers end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    from report import Report

    whole = not options.only and options.configurations == parser.get_default("configurations")
    configurations = [parse(name) for name in options.configurations.split(",")]
    report = Report(options, [name for name, _, _ in configurations])
    ask_all(options, configurations, report)
    print(report.summary())
    out = options.out or (HERE.parent.parent / "benches" / "results" if whole else None)
    if out:
        print(f"written: {report.write(out)}")
    sys.exit(1 if report.faults else 0)


def ask_all(options, configurations, report):
    import compare
    import servers
    from data import Data

    data = Data(options.data, options.scale)
    data.make()
    queries = chosen(options.only)
    answers = {}
    for suite in sorted({query.suite for query in queries}):
        connection = data.duckdb(suite)
        for query in queries:
            if query.suite == suite:
                began = time.monotonic()
                answers[query] = compare.ask(connection, query)
                report.add("DuckDB", query, time.monotonic() - began)
        connection.close()
    with tempfile.TemporaryDirectory(prefix="tarn-answers-") as logs:
        # Both modes of a number of executors ask the same servers.
        for executors in sorted({executors for _, _, executors in configurations}):
            with servers.Cluster(options.tarn.resolve(), data, executors, pathlib.Path(logs)) as cluster:
                for name, mode, wanted in configurations:
                    if wanted == executors:
                        ask_in(cluster, name, mode, answers, options.timeout, report)


def ask_in(cluster, name, mode, answers, timeout, report):
    """Asks every query in one mode, each suite in a session."""
    import compare

    for suite in sorted({query.suite for query in answers}):
        with cluster.session(suite, mode, timeout) as ask:
            for query, answer in answers.items():
                if query.suite != suite:
                    continue
                began = time.monotonic()
                try:
                    table = ask(query.text)
                    seconds = time.monotonic() - began
                    fault = compare.difference(answer, table)
                except Exception as error:  # Whatever the driver says is the outcome of this query, and the next is asked.
                    seconds = time.monotonic() - began
                    fault = str(error) if cluster.is_alive() else f"a server ended: {error}"
                report.add(name, query, seconds, fault)


def chosen(only):
    """The queries that `--only` names, or all."""
    import suites
    from data import SUITES

    wanted = {suite: set() for suite in SUITES} if not only else {}
    for each in only:
        suite, _, numbers = each.partition(":")
        wanted.setdefault(suite, set()).update(map(int, filter(None, numbers.split(","))))
    return [query for suite in wanted for query in suites.queries(suite) if not wanted[suite] or query.number in wanted[suite]]


def parse(name):
    """(name, mode, executors apart from the scheduler)"""
    mode, _, executors = name.partition("-")
    if name not in CONFIGURATIONS:
        sys.exit(f"no configuration {name!r}: there are {', '.join(CONFIGURATIONS)}")
    return name, mode, int(executors or 0)


def in_environment():
    """Goes on in a virtual environment that holds exactly requirements.txt, made on the first run."""
    requirements = HERE / "requirements.txt"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    home = CACHE / f"venv-answers-{version}-{digest}"
    if pathlib.Path(sys.prefix) == home:
        return
    if not (home / "complete").exists():
        venv.create(home, with_pip=True, clear=True)
        command = [home / "bin" / "python", "-m", "pip", "install", "--quiet", "--requirement", requirements]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        (home / "complete").touch()
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.execv(home / "bin" / "python", [home / "bin" / "python", *sys.argv])


if __name__ == "__main__":
    main()
