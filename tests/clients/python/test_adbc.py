"""Tarn through the ADBC Flight SQL driver: queries, parameters, changes, metadata, mistakes."""

import concurrent.futures
import datetime
import decimal

import pyarrow
import pytest

D = decimal.Decimal


# Queries.


def test_values_of_every_type_come_back(tarn):
    table = tarn.table(
        "select cast(7 as int) as i, cast(9000000000 as bigint) as l, cast(1.5 as double) as d,"
        " cast(-12.3456 as decimal(18, 4)) as m, 'tärn' as s, true as b, date '2024-02-29' as dt,"
        " cast('2024-02-29 12:34:56.123456' as timestamp) as ts, cast(null as int) as n"
    )
    assert table.to_pylist() == [
        {
            "i": 7,
            "l": 9_000_000_000,
            "d": 1.5,
            "m": D("-12.3456"),
            "s": "tärn",
            "b": True,
            "dt": datetime.date(2024, 2, 29),
            "ts": datetime.datetime(2024, 2, 29, 12, 34, 56, 123456),
            "n": None,
        }
    ]
    assert table.schema.field("m").type == pyarrow.decimal128(18, 4)
    assert table.schema.field("s").type == pyarrow.string()


def test_rows_of_a_join_are_right(tarn):
    rows = tarn.rows(
        "select r_name, count(*) from tpch.region join tpch.nation on r_regionkey = n_regionkey"
        " group by r_name order by r_name"
    )
    assert rows == [("AFRICA", 5), ("AMERICA", 5), ("ASIA", 5), ("EUROPE", 5), ("MIDDLE EAST", 5)]


def test_result_of_many_batches_arrives_whole(tarn):
    announced, total = tarn.rows("select count(*), sum(l_orderkey) from tpch.lineitem")[0]
    column = tarn.table("select l_orderkey, l_comment from tpch.lineitem")["l_orderkey"]
    assert (len(column), sum(column.to_pylist())) == (announced, total)
    assert announced > 8192


def test_empty_result_has_its_columns(tarn):
    table = tarn.table("select n_name, n_nationkey from tpch.nation where 1 = 0")
    assert table.num_rows == 0
    assert table.schema.names == ["n_name", "n_nationkey"]


def test_rowcount_of_a_select_is_unknown(tarn):
    with tarn.connection.cursor() as cursor:
        cursor.execute("select * from tpch.nation")
        assert cursor.rowcount == -1


def test_closing_a_cursor_in_the_middle_leaves_the_connection_usable(tarn):
    with tarn.connection.cursor() as cursor:
        cursor.execute("select * from tpch.lineitem")
        cursor.fetchone()
    assert tarn.value("select count(*) from tpch.nation") == 25


def test_connections_work_side_by_side(connect):
    def ask(_):
        tarn = connect()
        return [tarn.value("select count(*) from tpch.nation") for _ in range(5)]

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == [[25] * 5] * 4


# Parameters.


@pytest.mark.parametrize("placeholder", ["?", "$1"])
def test_parameter_selects_the_row(tarn, placeholder):
    sql = f"select n_name from tpch.nation where n_nationkey = {placeholder}"
    assert [tarn.value(sql, (key,)) for key in (3, 7, 24)] == ["CANADA", "GERMANY", "UNITED STATES"]


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("bigint", 2**62),
        ("double", 2.5),
        ("varchar", "it's ? ünïcode"),
        ("boolean", True),
        ("date", datetime.date(1969, 12, 31)),
        ("timestamp", datetime.datetime(2031, 12, 31, 23, 59, 59, 987654)),
        ("decimal(18, 4)", D("-99999999999999.9999")),
    ],
)
def test_parameter_of_every_type_is_kept_exactly(tarn, schema, type_, value):
    tarn.run(f"create table {schema}.t (id int, v {type_})")
    tarn.run(f"insert into {schema}.t values (1, ?), (2, ?)", (value, None))
    assert tarn.rows(f"select id, v from {schema}.t order by id") == [(1, value), (2, None)]
    assert tarn.rows(f"select id from {schema}.t where v = ?", (value,)) == [(1,)]


def test_placeholder_inside_a_string_is_no_parameter(tarn):
    assert tarn.rows("select 'why? $1', ? -- what?", ("this",)) == [("why? $1", "this")]


# Changes.


def test_statements_run_once_though_nobody_fetches_their_answer(tarn, schema):
    for i in range(20):
        tarn.run(f"create table {schema}.t{i} (id bigint)")
    names = tarn.rows(f"select table_name from information_schema.tables where table_schema = '{schema}'")
    assert sorted(name for (name,) in names) == sorted(f"t{i}" for i in range(20))

    for i in range(20):
        tarn.run(f"insert into {schema}.t0 values ({i})")
    assert tarn.rows(f"select count(*), count(distinct id) from {schema}.t0") == [(20, 20)]


def test_insert_reports_its_rows(tarn, schema):
    tarn.run(f"create table {schema}.t (id bigint)")
    with tarn.connection.cursor() as cursor:
        cursor.execute(f"insert into {schema}.t values (1), (2), (3)")
        assert cursor.rowcount == 3


def test_executemany_inserts_every_row(tarn, schema):
    tarn.run(f"create table {schema}.t (id bigint, name varchar)")
    with tarn.connection.cursor() as cursor:
        cursor.executemany(f"insert into {schema}.t values (?, ?)", [(i, f"row {i}") for i in range(50)])
    assert tarn.rows(f"select count(*), count(distinct name), sum(id) from {schema}.t") == [(50, 50, 1225)]


def test_create_table_as_and_drop(tarn, schema):
    tarn.run(f"create table {schema}.n as select * from tpch.nation where n_regionkey = 3")
    assert tarn.value(f"select count(*) from {schema}.n") == 5
    tarn.run(f"create or replace table {schema}.n as select n_name from tpch.nation")
    assert tarn.table(f"select * from {schema}.n").schema.names == ["n_name"]
    assert tarn.value(f"select count(*) from {schema}.n") == 25
    tarn.run(f"drop table {schema}.n")
    with pytest.raises(Exception, match="n"):
        tarn.rows(f"select * from {schema}.n")


def test_two_sessions_do_not_share_their_schema(connect, schema):
    here, there = connect(), connect()
    here.run("use tpch")
    there.run(f"use {schema}")
    assert here.value("select count(*) from nation") == 25
    with pytest.raises(Exception, match="nation"):
        there.rows("select count(*) from nation")


# Metadata.


def test_get_objects_shows_the_whole_tree(tarn, catalog_name, schema):
    tarn.run(f"create table {schema}.typed (id bigint not null, price decimal(18, 4), moment timestamp)")
    objects = tarn.connection.adbc_get_objects(depth="all").read_all().to_pylist()
    [catalog] = [each for each in objects if each["catalog_name"] == catalog_name]
    schemas = {each["db_schema_name"]: each for each in catalog["catalog_db_schemas"]}
    assert {"tpch", schema} <= schemas.keys()
    tables = [table["table_name"] for table in schemas["tpch"]["db_schema_tables"]]
    assert sorted(tables) == "customer lineitem nation orders part partsupp region supplier".split()
    [table] = schemas[schema]["db_schema_tables"]
    assert (table["table_name"], table["table_type"]) == ("typed", "TABLE")
    columns = {each["column_name"]: each for each in table["table_columns"]}
    names = ["id", "price", "moment"]
    assert [columns[name]["ordinal_position"] for name in names] == [1, 2, 3]
    assert [columns[name]["xdbc_type_name"] for name in names] == ["BIGINT", "DECIMAL", "TIMESTAMP"]


def test_get_objects_filters(tarn, catalog_name):
    objects = tarn.connection.adbc_get_objects(
        depth="tables", catalog_filter=catalog_name, db_schema_filter="tpch", table_name_filter="part%"
    )
    [catalog] = objects.read_all().to_pylist()
    [schema] = catalog["catalog_db_schemas"]
    assert sorted(table["table_name"] for table in schema["db_schema_tables"]) == ["part", "partsupp"]


def test_get_table_schema(tarn, catalog_name):
    schema = tarn.connection.adbc_get_table_schema(
        "nation", catalog_filter=catalog_name, db_schema_filter="tpch"
    )
    assert schema.names == ["n_nationkey", "n_name", "n_regionkey", "n_comment"]
    assert schema.field("n_nationkey").type == pyarrow.int64()
    assert schema.field("n_name").type == pyarrow.string()
    assert [schema.field(name).nullable for name in schema.names] == [False] * 4


def test_table_types_and_info(tarn):
    assert "TABLE" in tarn.connection.adbc_get_table_types()
    info = tarn.connection.adbc_get_info()
    assert info["vendor_name"]
    assert info["vendor_version"]


# Mistakes.


def test_mistake_in_the_text_names_its_place(tarn):
    with pytest.raises(Exception, match=r"(?i)line:? *2"):
        tarn.rows("select n_name\nfrom tpch.nation wher n_nationkey = 1 order by")
    assert tarn.value("select 1") == 1


def test_unknown_table_is_refused_with_a_near_name(tarn):
    with pytest.raises(Exception, match="(?s)natoin.*nation"):
        tarn.rows("select * from tpch.natoin")


def test_insert_that_does_not_fit_changes_nothing(tarn, schema):
    tarn.run(f"create table {schema}.t (id bigint, name varchar)")
    for values in ("(1)", "(1, 'a', 2)", "('not a number', 'a')"):
        with pytest.raises(Exception):
            tarn.run(f"insert into {schema}.t values {values}")
    assert tarn.value(f"select count(*) from {schema}.t") == 0
