"""Best times of each query in DuckDB: a request as JSON comes in, a list of seconds goes out."""
import json
import sys
import time

import duckdb

request = json.load(sys.stdin)
connection = duckdb.connect()
for table, files in request["tables"].items():
    names = ", ".join("'" + name.replace("'", "''") + "'" for name in files)
    connection.execute(f"create view {table} as select * from read_parquet([{names}])")
seconds = []
for number, sql in enumerate(request["queries"], 1):
    best = None
    for round_number in range(request["rounds"] + 1):
        began = time.perf_counter()
        connection.execute(sql).fetch_arrow_table()
        elapsed = time.perf_counter() - began
        if round_number > 0:
            best = elapsed if best is None else min(best, elapsed)
    print(f"DuckDB: query {number} {best:.3f} s", file=sys.stderr)
    seconds.append(best)
json.dump(seconds, sys.stdout)
