"""DuckDB's answers: files and queries come in, an Arrow file a query goes out.

The harness digests them with the code that digests every answer."""
import json
import pathlib
import sys
import time

import duckdb
import pyarrow

request = json.load(sys.stdin)
folder = pathlib.Path(request["folder"])
connection = duckdb.connect()
connection.execute("set enable_progress_bar = false")
connection.execute(f"set temp_directory = '{folder / 'spill'}'")
# The machine is not ours alone, and a query that does not fit goes to the disk.
connection.execute("set memory_limit = '4GB'")
for table, files in request["tables"].items():
    schema, _ = table.split(".")
    names = ", ".join("'" + name.replace("'", "''") + "'" for name in files)
    connection.execute(f"create schema if not exists {schema}")
    connection.execute(f"create view {table} as select * from read_parquet([{names}])")
for name, sql in request["queries"].items():
    began = time.perf_counter()
    reader = connection.execute(sql).to_arrow_reader(65536)
    with pyarrow.OSFile(str(folder / f"{name}.arrow"), "wb") as file:
        with pyarrow.ipc.new_stream(file, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
    print(f"DuckDB's answer to {name}: {time.perf_counter() - began:.2f} s", file=sys.stderr)
