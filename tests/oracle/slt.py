#!/usr/bin/env python3
"""Runs the portable files of tests/slt with DuckDB: their answers are not only Tarn's own.

    /tmp/oracle/bin/python tests/oracle/slt.py

Portable is a file whose first line says so.
"""

import datetime
import pathlib
import sys

import duckdb

SLT = pathlib.Path(__file__).resolve().parent.parent / "slt"


def main():
    failures = 0
    for path in sorted(SLT.glob("*.slt")):
        if path.read_text().startswith("# Portable"):
            failures += run(path)
    sys.exit(1 if failures else 0)


def run(path):
    connection = duckdb.connect()
    records = failures = 0
    for number, record in blocks(path.read_text()):
        head, *body = record
        if head.startswith("statement"):
            connection.execute("\n".join(body))
        elif head.startswith("query"):
            cut = body.index("----")
            rows = connection.execute("\n".join(body[:cut])).fetchall()
            seen = [" ".join(" ".join(map(text, row)).split()) for row in rows]
            expected = [" ".join(line.split()) for line in body[cut + 1 :]]
            if head.endswith("rowsort"):
                seen.sort()
                expected.sort()
            if seen != expected:
                failures += 1
                print(f"{path.name}:{number}: expected {expected}, DuckDB says {seen}")
        records += 1
    print(f"{path.name}: {records} records, {failures} differ from DuckDB")
    return failures


def blocks(content):
    """(line number, lines) of each record; comments are left out."""
    record, start = [], 0
    for number, line in enumerate(content.splitlines() + [""], 1):
        if line.startswith("#"):
            continue
        if line.strip():
            start = start or number
            record.append(line)
        elif record:
            yield start, record
            record, start = [], 0


def text(value):
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return str(value)


if __name__ == "__main__":
    main()
