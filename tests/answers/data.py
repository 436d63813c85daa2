"""The data of both benchmarks: DuckDB's own generators write Parquet files, PyIceberg makes tables of these very files.

    DATA/sf0.01/parquet/tpcds/store_sales/0.parquet    what DuckDB reads when it answers
    DATA/sf0.01/lake/catalog.db                        the catalog that Tarn serves, over the same files

Facts lie in several files, so that executors share them. The rule: nothing of Tarn makes the data, and no byte of it is
there twice.
"""

import json
import pathlib
import shutil

import duckdb
import duckdb_extensions
import pyarrow.parquet
from pyiceberg.catalog.sql import SqlCatalog

SUITES = ("tpch", "tpcds")
GENERATE = {"tpch": "call dbgen(sf = {})", "tpcds": "call dsdgen(sf = {})"}
CATALOG = "lake"

# A table of at least so many rows is cut into files of at most FILE_ROWS, and at least FILES_MIN of them.
CUT_ROWS = 5_000
FILE_ROWS = 2_000_000
FILES_MIN = 4
FACTS = {
    "tpch": ("lineitem", "orders", "partsupp", "customer", "part"),
    "tpcds": ("store_sales", "catalog_sales", "web_sales", "store_returns", "catalog_returns", "web_returns", "inventory"),
}


class Data:
    """The data of one scale, made by the first run and kept."""

    def __init__(self, folder, scale):
        self.folder = pathlib.Path(folder).resolve() / f"sf{scale}"
        self.scale = scale
        self.lake = self.folder / "lake"
        self.marker = self.folder / "complete.json"

    def make(self):
        if self.marker.exists():
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.lake / "warehouse").mkdir(parents=True)
        for suite in SUITES:
            self.generate(suite)
            self.register(suite)
        self.marker.write_text(json.dumps({"scale": self.scale, "duckdb": duckdb.__version__}) + "\n")

    def tables(self, suite):
        """The files of each table."""
        folders = sorted((self.folder / "parquet" / suite).iterdir())
        return {folder.name: sorted(map(str, folder.glob("*.parquet"))) for folder in folders}

    def generate(self, suite):
        # On disk: the generators would else hold all of a scale in memory.
        database = self.folder / f"{suite}.duckdb"
        connection = duckdb.connect(database)
        load_extension(connection, suite)
        connection.execute(GENERATE[suite].format(self.scale))
        tables = connection.execute("select table_name from duckdb_tables() order by 1").fetchall()
        for (table,) in tables:
            folder = self.folder / "parquet" / suite / table
            folder.mkdir(parents=True)
            (rows,) = connection.execute(f"select count(*) from {table}").fetchone()
            for number, (begin, end) in enumerate(cuts(rows, table in FACTS[suite])):
                part = f"select * from {table} where rowid >= {begin} and rowid < {end} order by rowid"
                connection.execute(f"copy ({part}) to '{folder}/{number}.parquet' (format parquet, compression zstd)")
        connection.close()
        database.unlink()

    def register(self, suite):
        catalog = SqlCatalog(
            CATALOG, uri=f"sqlite:///{self.lake}/catalog.db", warehouse=(self.lake / "warehouse").as_uri()
        )
        catalog.create_namespace_if_not_exists(suite)
        for table, files in self.tables(suite).items():
            made = catalog.create_table((suite, table), pyarrow.parquet.read_schema(files[0]))
            made.add_files([pathlib.Path(file).as_uri() for file in files])

    def duckdb(self, suite):
        """DuckDB over the files of a suite."""
        connection = duckdb.connect()
        speak_as_tarn(connection)
        for table, files in self.tables(suite).items():
            connection.execute(f"create view {table} as from read_parquet({files})")
        return connection


def speak_as_tarn(connection):
    """Sets DuckDB to Tarn's dialect, as far as these queries show a difference.

    Where NULL stands when a text does not say, and that an integer divided by an integer is an integer.
    """
    connection.execute("set default_null_order = 'nulls_last_on_asc_first_on_desc'")
    connection.execute("set integer_division = true")


def cuts(rows, is_fact):
    """Ranges of row numbers, one a file."""
    files = max(FILES_MIN, -(-rows // FILE_ROWS)) if is_fact and rows >= CUT_ROWS else 1
    bounds = [rows * number // files for number in range(files + 1)]
    return list(zip(bounds, bounds[1:]))


def load_extension(connection, suite):
    duckdb_extensions.import_extension(suite, con=connection)
    connection.load_extension(suite)
