#!/usr/bin/env python3
"""Makes the TPC-H answers that the end-to-end tests compare Tarn with.

    python3 -m venv /tmp/oracle && /tmp/oracle/bin/pip install -r tests/oracle/requirements.txt
    /tmp/oracle/bin/python tests/oracle/tpch.py

The data is written as Parquet by `tpchgen-cli` at scale factor 0.02 (the smallest at which every query has
a telling answer: at 0.01, query 17 is null and query 8 zero), the queries are those of tests/queries/tpch,
and DuckDB answers them from the Parquet files. Nothing of Tarn takes part.
Out come, in tests/e2e/answers/tpch:

    q01.json ... q22.json   columns (name, DuckDB's type, the type that Tarn must announce), the ORDER BY
                            keys (column numbers from 1, minus for descending) and the rows as text
    tables.json             for each table its row count, and for each column a sum over the generator's
                            file: of the numbers, of the days since 1970-01-01, of the lengths of the text

Equal means: rows in the order of the ORDER BY keys, and as a multiset among ties and where there is no
order; integers, decimals, dates and text exact; doubles to 1e-9 relative; column types exactly TYPES below.
Two kinds of column have another type in Tarn than in DuckDB, so their values are compared after a rescale:
an average or quotient of decimals is a double in DuckDB and a decimal of scale s in Tarn (they may differ
by less than one unit of the last place of s), and a decimal of another scale is compared as a number.

With `--check` nothing is written: the answers are compared with the committed ones.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import sysconfig
import tempfile

import duckdb

SCALE = "0.02"
TESTS = pathlib.Path(__file__).resolve().parent.parent
QUERIES = TESTS / "queries" / "tpch"
ANSWERS = TESTS / "e2e" / "answers" / "tpch"
TABLES = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"]

TEXT, INT, LONG, DATE, DOUBLE = "Utf8", "Int32", "Int64", "Date32", "Float64"


def decimal(precision, scale):
    return f"Decimal128({precision}, {scale})"


MONEY = decimal(15, 2)
# The rules: a sum of decimal(p, s) is decimal(p + 10, s); an average decimal(p + 4, s + 4); a product
# decimal(p1 + p2 + 1, s1 + s2); an integer literal beside a decimal is decimal(20, 0); precision ends at
# 38. A quotient of decimals has four digits more than its dividend. A literal with a point is a double.
DISCOUNTED = decimal(38, 4)
TYPES = {
    1: [TEXT, TEXT, decimal(25, 2), decimal(25, 2), DISCOUNTED, decimal(38, 6)]
    + [decimal(19, 6)] * 3
    + [LONG],
    2: [MONEY, TEXT, TEXT, LONG, TEXT, TEXT, TEXT, TEXT],
    3: [LONG, DISCOUNTED, DATE, INT],
    4: [TEXT, LONG],
    5: [TEXT, DISCOUNTED],
    6: [DISCOUNTED],
    7: [TEXT, TEXT, INT, DISCOUNTED],
    8: [INT, decimal(38, 8)],
    9: [TEXT, INT, DISCOUNTED],
    10: [LONG, TEXT, DISCOUNTED, MONEY, TEXT, TEXT, TEXT, TEXT],
    11: [LONG, decimal(36, 2)],
    12: [TEXT, LONG, LONG],
    13: [LONG, LONG],
    14: [DOUBLE],
    15: [LONG, TEXT, TEXT, TEXT, DISCOUNTED],
    16: [TEXT, TEXT, INT, LONG],
    17: [DOUBLE],
    18: [TEXT, LONG, LONG, DATE, MONEY, decimal(25, 2)],
    19: [DISCOUNTED],
    20: [TEXT, TEXT],
    21: [TEXT, LONG],
    22: [TEXT, LONG, decimal(25, 2)],
}
ORDER = {
    1: [1, 2], 2: [-1, 3, 2, 4], 3: [-2, 3], 4: [1], 5: [-2], 7: [1, 2, 3], 8: [1], 9: [1, -2], 10: [-3],
    11: [-2], 12: [1], 13: [-2, -1], 15: [1], 16: [-4, 1, 2, 3], 18: [-5, 4], 20: [1], 21: [-2, 1], 22: [1],
}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description="make the TPC-H answers with DuckDB")
    parser.add_argument(
        "--check", action="store_true", help="compare with the committed answers, write nothing"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        generate(folder)
        connection = duckdb.connect()
        for table in TABLES:
            connection.execute(f"create view {table} as from read_parquet('{folder}/{table}.parquet')")
        files = {f"q{n:02}.json": answer(connection, n) for n in range(1, 23)}
        files["tables.json"] = sums(connection)
        checked = compare_with_stock_queries(connection)
    print(f"{checked} of 22 query texts give the rows of DuckDB's own texts")
    if options.check:
        differing = [name for name, text in files.items() if (ANSWERS / name).read_text() != text]
        sys.exit(f"differing from the committed answers: {', '.join(differing)}" if differing else 0)
    ANSWERS.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (ANSWERS / name).write_text(text)
    print(f"wrote {len(files)} files to {ANSWERS.relative_to(TESTS.parent)}")


def generate(folder):
    program = pathlib.Path(sysconfig.get_path("scripts")) / "tpchgen-cli"
    subprocess.run([program, "parquet", "-s", SCALE, "--no-progress", "-o", folder], check=True)


def answer(connection, number):
    cursor = connection.execute((QUERIES / f"q{number:02}.sql").read_text())
    names = [column[0] for column in cursor.description]
    types = [str(column[1]) for column in cursor.description]
    rows = cursor.fetchall()
    if len(names) != len(TYPES[number]):
        sys.exit(f"q{number}: {len(names)} columns, but {len(TYPES[number])} in TYPES")
    columns = [
        {"name": name, "duckdb": duckdb_type, "tarn": tarn_type}
        for name, duckdb_type, tarn_type in zip(names, types, TYPES[number])
    ]
    head = {"query": f"q{number:02}", "scale": SCALE, "order_by": ORDER.get(number, []), "columns": columns}
    return render(head, "rows", [[text(value) for value in row] for row in rows])


def sums(connection):
    rows = []
    for table in TABLES:
        described = connection.execute(f"describe {table}").fetchall()
        for name, duckdb_type, *_ in described:
            measured = {"VARCHAR": f"length({name})", "DATE": f"({name} - date '1970-01-01')"}.get(
                duckdb_type, name
            )
            count, total = connection.execute(f"select count(*), sum({measured}) from {table}").fetchone()
            rows.append([table, str(count), name, text(total)])
    return render({"scale": SCALE, "columns": ["table", "row_count", "column", "sum"]}, "rows", rows)


def compare_with_stock_queries(connection):
    """DuckDB ships the same queries in its own words: the same rows must come out of both."""
    try:
        import duckdb_extensions

        duckdb_extensions.import_extension("tpch", con=connection)
        connection.load_extension("tpch")
        stock = connection.execute("select query_nr, query from tpch_queries()").fetchall()
    except Exception as error:  # The extension is a nicety; the answers do not need it.
        print(f"no tpch extension, so no comparison of the query texts: {error}", file=sys.stderr)
        return 0
    for number, query in stock:
        ours = connection.execute((QUERIES / f"q{number:02}.sql").read_text()).fetchall()
        theirs = connection.execute(query).fetchall()
        if [list(map(text, row)) for row in ours] != [list(map(text, row)) for row in theirs]:
            sys.exit(f"q{number}: our text and DuckDB's give different rows")
    return len(stock)


def text(value):
    """Exact text: decimals with their digits, doubles so that they read back the same."""
    if value is None:
        return None
    return repr(value) if isinstance(value, float) else str(value)


def render(head, name, rows):
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    fields = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items())
    return f"{{\n{fields},\n{json.dumps(name)}: [\n{lines}\n]\n}}\n"


if __name__ == "__main__":
    main()
