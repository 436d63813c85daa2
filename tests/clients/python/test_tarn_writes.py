"""Tarn writes, PyIceberg reads: rows, types, partitions, column bounds, snapshots."""

import datetime
import decimal
import pathlib

import duckdb
import pyarrow.parquet
import pytest
from pyiceberg import types
from pyiceberg.conversions import from_bytes
from pyiceberg.exceptions import NoSuchTableError

D = decimal.Decimal
DAY = datetime.date
AT = datetime.datetime
UTC = datetime.timezone.utc


def rows_of(table, *key):
    rows = [tuple(row.values()) for row in table.scan().to_arrow().to_pylist()]
    return sorted(rows, key=key[0]) if key else sorted(rows)


def file_path(uri):
    return uri.removeprefix("file://")


def test_every_type_is_read_back(tarn, lake, schema):
    tarn.run(
        f"create table {schema}.t (b boolean, i int, l bigint not null, f real, d double, m decimal(18, 4),"
        " dt date, ts timestamp, tz timestamp with time zone, s varchar, x varbinary)"
    )
    tarn.run(
        f"insert into {schema}.t values"
        " (true, 1, 10, 0.5, 0.25, 12.3456, date '2024-02-29', timestamp '2024-02-29 12:34:56.123456',"
        "  timestamp '2024-02-29 12:34:56.5+00:00', 'tärn', X'00ff10'),"
        " (null, null, 11, null, null, null, null, null, null, null, null)"
    )
    table = lake.load_table(f"{schema}.t")
    assert [field.field_type for field in table.schema().fields] == [
        types.BooleanType(),
        types.IntegerType(),
        types.LongType(),
        types.FloatType(),
        types.DoubleType(),
        types.DecimalType(18, 4),
        types.DateType(),
        types.TimestampType(),
        types.TimestamptzType(),
        types.StringType(),
        types.BinaryType(),
    ]
    assert [field.required for field in table.schema().fields] == [False, False, True] + [False] * 8
    at = AT(2024, 2, 29, 12, 34, 56, 123456)
    zoned = AT(2024, 2, 29, 12, 34, 56, 500000, UTC)
    assert rows_of(table, lambda row: row[2]) == [
        (True, 1, 10, 0.5, 0.25, D("12.3456"), DAY(2024, 2, 29), at, zoned, "tärn", b"\x00\xff\x10"),
        (None, None, 11) + (None,) * 8,
    ]


PARTITIONS = {
    "region": "identity",
    "bucket(4, id)": "bucket[4]",
    "truncate(3, name)": "truncate[3]",
    "year(moment)": "year",
    "month(moment)": "month",
    "day(moment)": "day",
    "hour(moment)": "hour",
    "bucket(8, name)": "bucket[8]",
    "truncate(10, id)": "truncate[10]",
    "month(day)": "month",
    "bucket(5, price)": "bucket[5]",
}


@pytest.mark.parametrize("clause", [*PARTITIONS, "region, bucket(3, id), month(moment)"])
def test_partitions_are_those_of_the_specification(tarn, lake, schema, clause):
    """Each file's partition, recomputed by PyIceberg from the rows that the file holds."""
    tarn.run(
        f"create table {schema}.t (id bigint, name varchar, region varchar, moment timestamp, day date,"
        f" price decimal(9, 2)) partitioned by ({clause})"
    )
    rows = ", ".join(
        f"({n}, 'näme {n % 7}', '{('a/b', 'c d', 'e=f%', 'ü')[n % 4]}',"
        f" timestamp '{1968 + n % 5}-{n % 12 + 1:02}-{n % 28 + 1:02} {n % 24:02}:00:00',"
        f" date '{1968 + n % 5}-{n % 12 + 1:02}-01', {n - 20}.25)"
        for n in range(40)
    )
    tarn.run(f"insert into {schema}.t values {rows}, (null, null, null, null, null, null)")

    table = lake.load_table(f"{schema}.t")
    spec = table.spec()
    if clause in PARTITIONS:
        assert [str(field.transform) for field in spec.fields] == [PARTITIONS[clause]]
    seen = 0
    for task in table.scan().plan_files():
        content = pyarrow.parquet.read_table(file_path(task.file.file_path), partitioning=None)
        seen += content.num_rows
        assert content.num_rows == task.file.record_count
        for position, field in enumerate(spec.fields):
            source = table.schema().find_field(field.source_id)
            transform = field.transform.transform(source.field_type)
            values = {transform(to_iceberg(value)) for value in content[source.name].to_pylist()}
            assert values == {task.file.partition[position]}, f"{field.name} of {task.file.file_path}"
    assert seen == 41
    assert table.scan().to_arrow().num_rows == 41
    # Pruned or not, a filter finds the same rows.
    whole = table.scan().to_arrow()
    for condition in ("id = 7", "region = 'c d'", "name > 'näme 4'", "id is null"):
        expected = duckdb.sql(f"select count(*) from whole where {condition}").fetchone()[0]
        assert tarn.value(f"select count(*) from {schema}.t where {condition}") == expected, condition


def to_iceberg(value):
    """A Python value as the specification's transforms take it."""
    if isinstance(value, datetime.datetime):
        return int((value - AT(1970, 1, 1)) / datetime.timedelta(microseconds=1))
    if isinstance(value, datetime.date):
        return (value - DAY(1970, 1, 1)).days
    return value


def test_column_metrics_are_true(tarn, lake, schema):
    tarn.run(f"create table {schema}.t as select * from tpch.orders")
    table = lake.load_table(f"{schema}.t")
    fields = {field.field_id: field for field in table.schema().fields}
    files = [task.file for task in table.scan().plan_files()]
    assert files
    for file in files:
        content = pyarrow.parquet.read_table(file_path(file.file_path), partitioning=None)
        assert file.record_count == content.num_rows
        assert file.file_size_in_bytes == pathlib.Path(file_path(file.file_path)).stat().st_size
        for field_id, field in fields.items():
            column = [value for value in content[field.name].to_pylist() if value is not None]
            assert file.value_counts[field_id] == content.num_rows
            assert file.null_value_counts[field_id] == content.num_rows - len(column)
            lower = from_bytes(field.field_type, file.lower_bounds[field_id])
            upper = from_bytes(field.field_type, file.upper_bounds[field_id])
            smallest, largest = to_iceberg(min(column)), to_iceberg(max(column))
            if isinstance(field.field_type, types.StringType):
                assert smallest.startswith(lower) and upper >= largest
            else:
                assert (lower, upper) == (smallest, largest), field.name


def test_parquet_files_carry_the_field_ids(tarn, lake, schema):
    tarn.run(f"create table {schema}.t as select * from tpch.nation")
    table = lake.load_table(f"{schema}.t")
    [task] = table.scan().plan_files()
    content = pyarrow.parquet.read_schema(file_path(task.file.file_path))
    ids = {field.name: int(field.metadata[b"PARQUET:field_id"]) for field in content}
    assert ids == {field.name: field.field_id for field in table.schema().fields}


def test_each_insert_is_one_snapshot(tarn, lake, schema):
    tarn.run(f"create table {schema}.t (id bigint)")
    assert lake.load_table(f"{schema}.t").current_snapshot() is None
    for count in (1, 2, 3):
        tarn.run(f"insert into {schema}.t values {', '.join(f'({n})' for n in range(count))}")
    table = lake.load_table(f"{schema}.t")
    snapshots = sorted(table.snapshots(), key=lambda snapshot: snapshot.sequence_number)
    assert [snapshot.summary.operation.value for snapshot in snapshots] == ["append"] * 3
    assert [int(snapshot.summary["added-records"]) for snapshot in snapshots] == [1, 2, 3]
    assert [int(snapshot.summary["total-records"]) for snapshot in snapshots] == [1, 3, 6]
    assert [snapshot.parent_snapshot_id for snapshot in snapshots] == [None] + [
        s.snapshot_id for s in snapshots[:2]
    ]
    assert [entry.snapshot_id for entry in table.history()] == [s.snapshot_id for s in snapshots]
    for snapshot, total in zip(snapshots, (1, 3, 6)):
        assert table.scan(snapshot_id=snapshot.snapshot_id).to_arrow().num_rows == total
        assert (
            tarn.value(f"select count(*) from {schema}.t for version as of {snapshot.snapshot_id}") == total
        )


def test_the_demo_tables_are_read_whole(tarn, lake):
    for name in ("nation", "region", "supplier", "lineitem"):
        table = lake.load_table(f"tpch.{name}")
        assert table.scan().to_arrow().num_rows == tarn.value(f"select count(*) from tpch.{name}"), name
    assert rows_of(lake.load_table("tpch.nation")) == sorted(tarn.rows("select * from tpch.nation"))


def test_replaced_and_dropped_tables_are_seen_so(tarn, lake, schema):
    tarn.run(f"create table {schema}.t as select 1 as a")
    tarn.run(f"create or replace table {schema}.t as select 'x' as b, 2 as c")
    table = lake.load_table(f"{schema}.t")
    assert [field.name for field in table.schema().fields] == ["b", "c"]
    assert rows_of(table) == [("x", 2)]
    assert (schema, "t") in lake.list_tables(schema)
    tarn.run(f"drop table {schema}.t")
    with pytest.raises(NoSuchTableError):
        lake.load_table(f"{schema}.t")
