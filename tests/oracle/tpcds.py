#!/usr/bin/env python3
"""Makes the TPC-DS data and answers that the end-to-end tests compare Tarn with.

    python3 -m venv /tmp/oracle && /tmp/oracle/bin/pip install -r tests/answers/requirements.txt
    /tmp/oracle/bin/python tests/oracle/tpcds.py

DuckDB's generator makes the data at scale factor 0.01, and DuckDB answers some of the 99 queries (tests/queries/tpcds) from
the Parquet files it wrote. Nothing of Tarn takes part; data, texts and order are those of tests/answers, which asks all of
them, at any scale, in every mode. Out come:

    tests/e2e/data/tpcds/TABLE.parquet     one file a table; the test cuts large ones
    tests/e2e/answers/tpcds/q03.json ...   columns (name, DuckDB's type), rows as text, how many rows of equal ORDER BY keys
                                           stand together, in their order, and the LIMIT, if rows beyond it tie with the last

With `--check` nothing is written: texts, answers and rows of the data are compared with what is committed.
"""

import argparse
import pathlib
import sys
import tempfile

import duckdb

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path.append(str(TESTS / "answers"))

import compare  # noqa: E402
import data  # noqa: E402
import suites  # noqa: E402
from tpch import render, text  # noqa: E402

SCALE = "0.01"
ANSWERS = TESTS / "e2e" / "answers" / "tpcds"
FILES = TESTS / "e2e" / "data" / "tpcds"
# Stars with one fact and with several, ROLLUP, windows over groups, INTERSECT, EXCEPT, a correlated subquery, EXISTS,
# scalar subqueries, FULL OUTER JOIN, semi joins of a fact with itself, UNION ALL. At this scale 3 and 73 have no rows.
QUERIES = [1, 3, 7, 9, 19, 27, 35, 38, 42, 43, 47, 51, 52, 53, 55, 63, 68, 70, 73, 76, 87, 89, 95, 97, 98]


def main():
    parser = argparse.ArgumentParser(description="make the TPC-DS data and answers with DuckDB")
    parser.add_argument("--check", action="store_true", help="compare with what is committed, write nothing")
    options = parser.parse_args()
    connection = duckdb.connect()
    data.load_extension(connection, "tpcds")
    if changed := suites.changed(connection, "tpcds"):
        sys.exit(f"queries whose text is not DuckDB's: {changed}")
    connection.execute(data.GENERATE["tpcds"].format(SCALE))
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) if options.check else FILES
        tables = export(connection, folder)
        answers = duckdb.connect()
        data.speak_as_tarn(answers)
        for table in tables:
            answers.execute(f"create view {table} as from read_parquet('{folder}/{table}.parquet')")
        files = {f"q{query.number:02}.json": answer(answers, query) for query in suites.queries("tpcds") if query.number in QUERIES}
        if options.check:
            differing = [name for name, made in files.items() if (ANSWERS / name).read_text() != made]
            differing += [table for table in tables if rows(folder, table) != rows(FILES, table)]
            sys.exit(f"differing from what is committed: {', '.join(differing)}" if differing else 0)
    ANSWERS.mkdir(parents=True, exist_ok=True)
    for name, made in files.items():
        (ANSWERS / name).write_text(made)
    print(f"wrote {len(files)} answers and {len(tables)} tables")


def export(connection, folder):
    folder.mkdir(parents=True, exist_ok=True)
    tables = [table for (table,) in connection.execute("select table_name from duckdb_tables() order by 1").fetchall()]
    for table in tables:
        connection.execute(f"copy (from {table} order by rowid) to '{folder}/{table}.parquet' (format parquet, compression zstd)")
    return tables


def rows(folder, table):
    return duckdb.sql(f"select count(*), bit_xor(hash(t)) from read_parquet('{folder}/{table}.parquet') t").fetchone()


def answer(connection, query):
    found = compare.ask(connection, query)
    columns = [{"name": name, "duckdb": duckdb_type} for name, duckdb_type in zip(found.names, found.types)]
    head = {
        "query": f"q{query.number:02}",
        "scale": SCALE,
        "ties": [end - begin for begin, end in found.ties()],
        "limit": found.limit if len(found.rows) > found.count else None,
        "columns": columns,
    }
    return render(head, "rows", [[text(value) for value in row[: len(columns)]] for row in found.rows])


if __name__ == "__main__":
    main()
