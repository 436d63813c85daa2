"""TPC-DS by DuckDB's dsdgen: a scale and a folder come in, a Parquet file a table goes out.

Rows of a fact come in the order of their days, so that files made of them have narrow ranges."""
import json
import pathlib
import sys

import duckdb

request = json.load(sys.stdin)
folder = pathlib.Path(request["folder"])
connection = duckdb.connect(str(folder / "dsdgen.duckdb"))
connection.execute("set enable_progress_bar = false")
try:
    connection.execute("load tpcds")
except duckdb.Error:
    import duckdb_extension_tpcds  # noqa: F401  the package that brings the extension, if it is not found by itself

    connection.execute("install tpcds")
    connection.execute("load tpcds")
connection.execute(f"call dsdgen(sf={float(request['scale'])})")
days = {
    "store_sales": "ss_sold_date_sk",
    "store_returns": "sr_returned_date_sk",
    "catalog_sales": "cs_sold_date_sk",
    "catalog_returns": "cr_returned_date_sk",
    "web_sales": "ws_sold_date_sk",
    "web_returns": "wr_returned_date_sk",
    "inventory": "inv_date_sk",
}
tables = [row[0] for row in connection.execute("select table_name from information_schema.tables").fetchall()]
for table in sorted(tables):
    order = f"order by {days[table]}" if table in days else ""
    path = str(folder / f"{table}.parquet").replace("'", "''")
    connection.execute(f"copy (select * from {table} {order}) to '{path}' (format parquet)")
connection.close()
json.dump(sorted(tables), sys.stdout)
