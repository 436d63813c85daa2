"""What the client tests share: the running server, a connection, a schema of one's own, the lake.

The server is started by tests/clients/run.py, which says where it is: TARN_URL is its Flight SQL address,
TARN_DATA_DIR the folder with `catalog.db` and `warehouse/`. PyIceberg opens the same SQLite catalog.
"""

import os
import pathlib
import time
import uuid
import warnings

import pytest
from adbc_driver_flightsql import dbapi
from pyiceberg.catalog.sql import SqlCatalog


class Tarn:
    """One ADBC connection with the few helpers that the tests need."""

    def __init__(self, url):
        with warnings.catch_warnings():
            # The driver asks for transactions first and says so when a server has none.
            warnings.simplefilter("ignore")
            self.connection = dbapi.connect(url)

    def rows(self, sql, parameters=None):
        table = self.table(sql, parameters)
        return [tuple(row.values()) for row in table.to_pylist()]

    def table(self, sql, parameters=None):
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetch_arrow_table()

    def value(self, sql, parameters=None):
        [(value,)] = self.rows(sql, parameters)
        return value

    def run(self, sql, parameters=None):
        """A statement that changes something: executed, closed, its answer never fetched."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)

    def close(self):
        self.connection.close()


@pytest.fixture(scope="session")
def url():
    return os.environ["TARN_URL"]


@pytest.fixture(scope="session")
def data_dir():
    return pathlib.Path(os.environ["TARN_DATA_DIR"])


@pytest.fixture
def tarn(url):
    tarn = Tarn(url)
    yield tarn
    tarn.close()


@pytest.fixture
def connect(url):
    """Further connections, closed at the end of the test."""
    opened = []

    def connect():
        opened.append(Tarn(url))
        return opened[-1]

    yield connect
    for tarn in opened:
        tarn.close()


@pytest.fixture(scope="session")
def catalog_name(url):
    tarn = Tarn(url)
    try:
        for catalog in tarn.connection.adbc_get_objects(depth="db_schemas").read_all().to_pylist():
            if any(schema["db_schema_name"] == "tpch" for schema in catalog["catalog_db_schemas"]):
                return catalog["catalog_name"]
    finally:
        tarn.close()
    pytest.fail("no catalog with the schema tpch")


@pytest.fixture
def schema(tarn):
    name = f"py_{uuid.uuid4().hex[:8]}"
    tarn.run(f"create schema {name}")
    yield name
    for (table,) in tarn.rows(
        f"select table_name from information_schema.tables where table_schema = '{name}'"
    ):
        tarn.run(f'drop table {name}."{table}" purge')
    tarn.run(f"drop schema {name}")


@pytest.fixture(scope="session")
def lake(data_dir, catalog_name):
    """PyIceberg over the very catalog that Tarn serves."""
    return SqlCatalog(
        catalog_name, uri=f"sqlite:///{data_dir}/catalog.db", warehouse=(data_dir / "warehouse").as_uri()
    )


def eventually(condition, seconds=5.0):
    """Another engine's commit is seen by the first query after one second; this waits for it, with a deadline."""
    deadline = time.monotonic() + seconds
    while True:
        late = time.monotonic() > deadline
        try:
            answer = condition()
        except Exception:
            if late:
                raise
        else:
            if answer or late:
                return answer
        time.sleep(0.1)
