"""The table of a run: a row a query, a column a configuration, each cell the seconds or where the fault is described."""

import datetime
import os
import pathlib
import subprocess

import duckdb

SHOWN = 1_000


class Report:
    def __init__(self, options, configurations):
        self.options, self.columns = options, ["DuckDB", *configurations]
        self.cells = {}
        # (configuration, query, what is wrong)
        self.faults = []

    def add(self, column, query, seconds, fault=None):
        self.cells[query.name, column] = f"{seconds:.2f}"
        if fault is not None:
            self.faults.append((column, query.name, " ".join(fault.split())[:SHOWN]))
            self.cells[query.name, column] = f"**fault {len(self.faults)}**"
        if column != "DuckDB":
            print(f"{column} {query.name}: {'ok' if fault is None else 'DIFFERS'} {seconds:.2f} s", flush=True)
        if fault is not None:
            print(f"    {self.faults[-1][2]}", flush=True)

    def queries(self):
        return list(dict.fromkeys(query for query, _ in self.cells))

    def summary(self):
        lines = []
        for column in self.columns[1:]:
            wrong = sum(1 for each, _, _ in self.faults if each == column)
            asked = sum(1 for _, each in self.cells if each == column)
            lines.append(f"{column}: {asked - wrong} of {asked} equal DuckDB's, {self.seconds(column):.1f} s")
        return "\n".join(lines)

    def seconds(self, column):
        return sum(float(cell) for (_, each), cell in self.cells.items() if each == column and "fault" not in cell)

    def markdown(self):
        columns = self.columns
        lines = [
            f"# Answers to TPC-H and TPC-DS at scale {self.options.scale}, compared with DuckDB {duckdb.__version__}",
            "",
            f"{machine()}; {datetime.date.today()}; {version(self.options.tarn)}",
            "",
            "Seconds of one run each, cold, through Flight SQL; `pipelined-2` has two executors beside the scheduler. Correctness is",
            "the matter here: the times are no benchmark. What equal means stands in `tests/answers/compare.py`.",
            "",
            *(f"- {line}" for line in self.summary().splitlines()),
            "",
            f"| query | {' | '.join(columns)} |",
            f"|---|{'---:|' * len(columns)}",
        ]
        for query in self.queries():
            cells = (self.cells.get((query, column), "") for column in columns)
            lines.append(f"| {query} | {' | '.join(cells)} |")
        lines += ["", "Faults:" if self.faults else "No faults.", ""]
        lines += [f"{number}. {column}, {query}: `{fault}`" for number, (column, query, fault) in enumerate(self.faults, 1)]
        return "\n".join(lines).rstrip() + "\n"

    def write(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"answers-sf{self.options.scale}-{datetime.date.today()}.md"
        path.write_text(self.markdown())
        return path


def machine():
    """Processor, cores and memory in one line."""
    processor = "unknown processor"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{processor}, {os.cpu_count()} cores, {-(-memory >> 30)} GiB"


def version(tarn):
    answer = subprocess.run([tarn, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return f"{answer}, {'debug' if 'debug' in tarn.resolve().parts else 'release'} build"
