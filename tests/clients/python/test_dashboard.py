"""The demo's dashboard: Tarn's answers are DuckDB's over the same rows, which PyIceberg reads."""

import decimal
import pathlib

import duckdb
import pytest

QUERIES = pathlib.Path(__file__).resolve().parents[3] / "src" / "demo" / "queries"
TABLES = [
    "fact_sales",
    "fact_payments",
    "dim_dates",
    "dim_customers",
    "dim_products",
    "dim_sellers",
    "dim_promotions",
    "dim_payments",
]


@pytest.fixture(scope="module")
def oracle(lake):
    """DuckDB with the tables of schema shop, read by PyIceberg from Tarn's files."""
    connection = duckdb.connect()
    connection.execute("create schema shop")
    for name in TABLES:
        content = lake.load_table(f"shop.{name}").scan().to_arrow()
        connection.register("content", content)
        connection.execute(f"create table shop.{name} as from content")
        connection.unregister("content")
    return connection


@pytest.mark.parametrize("path", sorted(QUERIES.glob("*.sql")), ids=lambda path: path.stem)
@pytest.mark.parametrize("mode", ["local", "pipelined", "staged"])
def test_dashboard_equals_duckdb(tarn, oracle, path, mode):
    sql = path.read_text()
    tarn.run(f"set execution_mode = '{mode}'")
    seen = [[plain(value) for value in row] for row in tarn.rows(sql)]
    expected = [[plain(value) for value in row] for row in oracle.execute(sql).fetchall()]
    assert seen
    assert len(seen) == len(expected)
    for ours, theirs in zip(seen, expected):
        assert ours == [
            pytest.approx(value, rel=1e-9) if isinstance(value, float) else value for value in theirs
        ]


def plain(value):
    """A decimal without its scale, and a double that may be compared with one."""
    return value.normalize() + 0 if isinstance(value, decimal.Decimal) else value


@pytest.mark.parametrize("dimension", ["customer", "product", "seller"])
def test_facts_point_at_the_version_that_was_valid(tarn, dimension):
    wrong = tarn.value(
        f"select count(*) from shop.fact_sales f join shop.dim_{dimension}s d"
        f" on f.{dimension}_key = d.{dimension}_key"
        " where f.sold_at < d.valid_from or f.sold_at >= d.valid_to"
    )
    assert wrong == 0
    joined = tarn.value(
        f"select count(*) from shop.fact_sales f join shop.dim_{dimension}s d"
        f" on f.{dimension}_key = d.{dimension}_key"
    )
    assert joined == tarn.value("select count(*) from shop.fact_sales")


def test_versions_of_a_dimension_do_not_overlap(tarn):
    current, superseded, entities = tarn.rows(
        "select count(*) filter (where is_current), count(*) filter (where not is_current),"
        " count(distinct customer_id) from shop.dim_customers"
    )[0]
    assert current == entities
    assert 0.10 < superseded / (current + superseded) < 0.20
    assert (
        tarn.value(
            "select count(*) from shop.dim_customers where is_current <> (extract(year from valid_to) = 2100)"
        )
        == 0
    )


def test_facts_are_partitioned_by_month(tarn, lake):
    table = lake.load_table("shop.fact_sales")
    assert [str(field.transform) for field in table.spec().fields] == ["month"]
    first, last = tarn.rows("select min(sold_at), max(sold_at) from shop.fact_sales")[0]
    assert (first.year, last.year) == (2021, 2025)
    assert len({task.file.partition[0] for task in table.scan().plan_files()}) == 60
