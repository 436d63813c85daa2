"""PyIceberg writes, Tarn reads: rows, types, evolved schemas and partitions, snapshots, odd names."""

import datetime
import decimal
import random

import duckdb
import pyarrow
import pytest
from conftest import eventually
from pyiceberg import transforms, types
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.types import NestedField

D = decimal.Decimal
DAY = datetime.date
AT = datetime.datetime
UTC = datetime.timezone.utc


def agree(tarn, table, name, *conditions):
    """Tarn gives the rows that PyIceberg reads: all of them, and those that DuckDB finds under each condition."""
    whole = table.scan().to_arrow()
    expected = multiset(whole)
    assert eventually(lambda: multiset(tarn.table(f"select * from {name}")) == expected), (
        multiset(tarn.table(f"select * from {name}")),
        expected,
    )
    for condition in conditions:
        expected = multiset(duckdb.sql(f"from whole where {condition}").to_arrow_table())
        assert multiset(tarn.table(f"select * from {name} where {condition}")) == expected, condition


def multiset(table):
    return sorted(repr(sorted(row.items())) for row in table.to_pylist())


def test_every_type_is_read(tarn, lake, schema):
    fields = [
        ("b", types.BooleanType(), pyarrow.bool_(), True),
        ("i", types.IntegerType(), pyarrow.int32(), -(2**31)),
        ("l", types.LongType(), pyarrow.int64(), 2**63 - 1),
        ("f", types.FloatType(), pyarrow.float32(), 0.5),
        ("d", types.DoubleType(), pyarrow.float64(), 1e-300),
        ("m", types.DecimalType(38, 10), pyarrow.decimal128(38, 10), D("1234567890123456789.0123456789")),
        ("dt", types.DateType(), pyarrow.date32(), DAY(1969, 12, 31)),
        ("tm", types.TimeType(), pyarrow.time64("us"), datetime.time(23, 59, 59, 999999)),
        ("ts", types.TimestampType(), pyarrow.timestamp("us"), AT(2031, 12, 31, 23, 59, 59, 987654)),
        ("tz", types.TimestamptzType(), pyarrow.timestamp("us", "UTC"), AT(1960, 1, 1, 0, 0, 0, 1, UTC)),
        ("s", types.StringType(), pyarrow.string(), "tärn 🏔"),
        ("x", types.BinaryType(), pyarrow.binary(), b"\x00\xff"),
        ("fx", types.FixedType(3), pyarrow.binary(3), b"abc"),
    ]
    table = lake.create_table(
        f"{schema}.t",
        Schema(*(NestedField(n, name, kind, required=False) for n, (name, kind, *_) in enumerate(fields, 1))),
    )
    names = [name for name, *_ in fields]
    arrow = pyarrow.schema([(name, kind) for name, _, kind, _ in fields])
    values = {name: value for name, *_, value in fields}
    nothing = dict.fromkeys(names)
    table.append(pyarrow.Table.from_pylist([values, nothing], arrow))
    assert eventually(lambda: tarn.value(f"select count(*) from {schema}.t")) == 2
    seen = tarn.table(f"select * from {schema}.t")
    assert sorted(seen.to_pylist(), key=repr) == sorted([values, nothing], key=repr)
    assert [seen.schema.field(name).type for name in names[:8]] == [
        arrow.field(name).type for name in names[:8]
    ]


def test_nested_columns_are_read(tarn, lake, schema):
    arrow = pyarrow.schema(
        [
            ("id", pyarrow.int64()),
            ("tags", pyarrow.list_(pyarrow.string())),
            ("place", pyarrow.struct([("city", pyarrow.string()), ("zip", pyarrow.int32())])),
        ]
    )
    rows = [
        {"id": 1, "tags": ["a", "b"], "place": {"city": "Bern", "zip": 3000}},
        {"id": 2, "tags": [], "place": None},
        {"id": 3, "tags": None, "place": {"city": None, "zip": 1}},
    ]
    table = lake.create_table(f"{schema}.t", arrow)
    table.append(pyarrow.Table.from_pylist(rows, arrow))
    assert eventually(lambda: tarn.rows(f"select id from {schema}.t order by id") == [(1,), (2,), (3,)])
    assert tarn.table(f"select * from {schema}.t order by id").to_pylist() == rows
    assert tarn.rows(f"select id from {schema}.t where place['zip'] > 100") == [(1,)]


def test_evolved_schema_is_followed_through_old_files(tarn, lake, schema):
    table = lake.create_table(
        f"{schema}.t",
        pyarrow.schema(
            [
                ("id", pyarrow.int32()),
                ("a", pyarrow.string()),
                ("b", pyarrow.float32()),
                ("m", pyarrow.decimal128(9, 2)),
            ]
        ),
    )
    table.append(
        pyarrow.table(
            {
                "id": pyarrow.array([1, 2], pyarrow.int32()),
                "a": ["x", "y"],
                "b": pyarrow.array([0.5, None], pyarrow.float32()),
                "m": pyarrow.array([D("1.25"), None], pyarrow.decimal128(9, 2)),
            }
        )
    )
    agree(tarn, table, f"{schema}.t", "id = 1", "a = 'y'", "b is null")

    with table.update_schema() as change:
        change.rename_column("a", "name")
    agree(tarn, table, f"{schema}.t", "name = 'y'")

    with table.update_schema() as change:
        change.add_column("extra", types.StringType())
    agree(tarn, table, f"{schema}.t", "extra is null", "extra = 'z'")
    table.append(
        pyarrow.table(
            {
                "id": pyarrow.array([3], pyarrow.int32()),
                "name": ["z"],
                "b": pyarrow.array([2.0], pyarrow.float32()),
                "m": pyarrow.array([D("3.75")], pyarrow.decimal128(9, 2)),
                "extra": ["new"],
            }
        )
    )
    agree(tarn, table, f"{schema}.t", "extra is null", "extra = 'new'", "name = 'z'")

    with table.update_schema() as change:
        change.update_column("id", types.LongType())
        change.update_column("b", types.DoubleType())
        change.update_column("m", types.DecimalType(18, 2))
    table.append(
        pyarrow.table(
            {
                "id": [2**40],
                "name": ["w"],
                "b": [1e100],
                "m": pyarrow.array([D("1234567890123.75")], pyarrow.decimal128(18, 2)),
                "extra": [None],
            },
            schema=table.schema().as_arrow(),
        )
    )
    agree(tarn, table, f"{schema}.t", "id > 2", "b > 1", "m > 2", "id = 1099511627776")

    # A column dropped and one added under its old name are two columns.
    with table.update_schema(allow_incompatible_changes=True) as change:
        change.delete_column("name")
    agree(tarn, table, f"{schema}.t", "extra = 'new'")
    with table.update_schema() as change:
        change.add_column("name", types.StringType())
    agree(tarn, table, f"{schema}.t", "name is null")
    assert tarn.value(f"select count(*) from {schema}.t where name is not null") == 0

    # And one under the name that another gave up.
    with table.update_schema() as change:
        change.rename_column("extra", "b2")
    with table.update_schema() as change:
        change.rename_column("name", "extra")
    with table.update_schema() as change:
        change.move_first("extra")
    agree(tarn, table, f"{schema}.t", "b2 = 'new'", "extra is null")
    assert tarn.table(f"select * from {schema}.t").schema.names == [
        field.name for field in table.schema().fields
    ]


EVENTS = pyarrow.schema(
    [
        ("id", pyarrow.int64()),
        ("name", pyarrow.string()),
        ("moment", pyarrow.timestamp("us")),
        ("day", pyarrow.date32()),
        ("region", pyarrow.string()),
    ]
)


def events(seed, count=60):
    draw = random.Random(seed)
    rows = []
    for n in range(count):
        at = AT(1970, 1, 1) + datetime.timedelta(seconds=draw.randrange(-40_000_000, 90_000_000))
        rows.append(
            {
                "id": draw.randrange(-50, 50),
                "name": draw.choice(["", "a", "aab", "aac", "ü-x", "z%/ ="]),
                "moment": at,
                "day": at.date(),
                "region": draw.choice(["north", "a/b c", "50%", "ü=x", None]),
            }
        )
    rows.append(dict.fromkeys(EVENTS.names))
    return pyarrow.Table.from_pylist(rows, EVENTS)


CONDITIONS = [
    "id = 7", "id < -10", "id >= 20 and id < 25", "id is null", "id is not null", "id in (1, 2, 3)",
    "name = 'aab'", "name > 'aab'", "name like 'aa%'", "name = ''", "name != 'a'",
    "region = 'a/b c'", "region = '50%'", "region is null", "not (region = 'north')",
    "day = '1970-01-01'", "day < '1970-01-01'", "day >= '1972-02-29'",
    "moment < '1970-01-01T00:00:00'", "moment >= '1971-06-15T12:00:00' and moment < '1971-09-01T00:00:00'",
]  # fmt: skip


@pytest.mark.parametrize(
    "transform",
    [
        (1, transforms.BucketTransform(7)),
        (1, transforms.TruncateTransform(10)),
        (2, transforms.BucketTransform(5)),
        (2, transforms.TruncateTransform(2)),
        (3, transforms.YearTransform()),
        (3, transforms.MonthTransform()),
        (3, transforms.DayTransform()),
        (3, transforms.HourTransform()),
        (4, transforms.MonthTransform()),
        (4, transforms.BucketTransform(3)),
        (5, transforms.IdentityTransform()),
        (2, transforms.IdentityTransform()),
    ],
    ids=lambda transform: f"{EVENTS.names[transform[0] - 1]}-{transform[1]}",
)
def test_partitioned_table_gives_the_same_rows_under_every_filter(tarn, lake, schema, transform):
    source, function = transform
    fields = zip(
        EVENTS.names,
        [types.LongType(), types.StringType(), types.TimestampType(), types.DateType(), types.StringType()],
    )
    table = lake.create_table(
        f"{schema}.t",
        Schema(*(NestedField(n, name, kind, required=False) for n, (name, kind) in enumerate(fields, 1))),
        partition_spec=PartitionSpec(PartitionField(source, 1000, function, "part")),
    )
    table.append(events(seed=source))
    agree(tarn, table, f"{schema}.t", *CONDITIONS)


def test_evolved_partitions_are_followed(tarn, lake, schema):
    table = lake.create_table(f"{schema}.t", EVENTS)
    table.append(events(seed=1))
    steps = [
        lambda change: change.add_field("id", transforms.BucketTransform(4), "id_bucket"),
        lambda change: change.add_field("moment", transforms.MonthTransform(), "moment_month"),
        lambda change: change.remove_field("id_bucket"),
        lambda change: change.add_identity("region"),
        lambda change: change.remove_field("moment_month"),
    ]
    for seed, step in enumerate(steps, 2):
        with table.update_spec() as change:
            step(change)
        table.append(events(seed))
    assert len({task.file.spec_id for task in table.scan().plan_files()}) == 6
    agree(tarn, table, f"{schema}.t", *CONDITIONS)
    # What Tarn adds goes by the newest partitions, and PyIceberg finds it.
    tarn.run(
        f"insert into {schema}.t values (1000, 'tarn', timestamp '2000-01-01 00:00:00', date '2000-01-01', 'far')"
    )
    table.refresh()
    assert table.scan(row_filter="region = 'far'").to_arrow()["id"].to_pylist() == [1000]
    agree(tarn, table, f"{schema}.t", *CONDITIONS)


def test_snapshots_tags_and_branches_are_read(tarn, lake, schema):
    table = lake.create_table(f"{schema}.t", pyarrow.schema([("id", pyarrow.int64())]))
    for n in range(3):
        table.append(pyarrow.table({"id": [n]}))
    first, second, third = (snapshot.snapshot_id for snapshot in table.snapshots())
    table.manage_snapshots().create_tag(second, "two").create_branch(first, "one").commit()
    count = f"select count(*) from {schema}.t"
    assert eventually(lambda: tarn.value(count) == 3)
    for snapshot, rows in ((first, 1), (second, 2), (third, 3)):
        assert tarn.value(f"{count} for version as of {snapshot}") == rows
        assert tarn.value(f"{count} version as of {snapshot}") == rows
    assert tarn.value(f"{count} for version as of 'two'") == 2
    assert tarn.value(f"{count} for version as of 'one'") == 1
    with pytest.raises(Exception, match="12345"):
        tarn.value(f"{count} for version as of 12345")
    moment = AT.fromtimestamp(table.snapshots()[1].timestamp_ms / 1000, UTC)
    text = moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    assert tarn.value(f"{count} for timestamp as of timestamp '{text}'") == 2


def test_rewritten_files_are_read(tarn, lake, schema):
    """Deletes and overwrites by copy-on-write: old files leave, new ones come, nothing is seen twice."""
    table = lake.create_table(f"{schema}.t", EVENTS)
    table.append(events(seed=9))
    agree(tarn, table, f"{schema}.t")
    table.delete("id > 10")
    agree(tarn, table, f"{schema}.t", *CONDITIONS)
    table.overwrite(events(seed=10))
    agree(tarn, table, f"{schema}.t", *CONDITIONS)


def test_old_format_and_packed_metadata_are_read(tarn, lake, schema):
    for name, properties in (
        ("v1", {"format-version": "1"}),
        ("gz", {"write.metadata.compression-codec": "gzip"}),
        ("zstd", {"write.parquet.compression-codec": "zstd"}),
        ("lz4", {"write.parquet.compression-codec": "lz4"}),
        ("snappy", {"write.parquet.compression-codec": "snappy"}),
        ("plain", {"write.parquet.compression-codec": "uncompressed"}),
    ):
        table = lake.create_table(f"{schema}.{name}", EVENTS, properties=properties)
        table.append(events(seed=3))
        agree(tarn, table, f"{schema}.{name}", "id = 7", "region is null")


def test_two_engines_append_to_one_table(tarn, lake, schema):
    tarn.run(f"create table {schema}.t (id bigint) partitioned by (bucket(3, id))")
    for n in range(5):
        tarn.run(f"insert into {schema}.t values ({2 * n})")
        lake.load_table(f"{schema}.t").append(pyarrow.table({"id": [2 * n + 1]}))
    table = lake.load_table(f"{schema}.t")
    assert sorted(table.scan().to_arrow()["id"].to_pylist()) == list(range(10))
    agree(tarn, table, f"{schema}.t", "id = 3", "id > 4")


def test_table_dropped_by_another_engine_is_gone(tarn, lake, schema):
    lake.create_table(f"{schema}.t", EVENTS)
    assert eventually(lambda: tarn.rows(f"select * from {schema}.t") == [])
    lake.drop_table(f"{schema}.t")

    def gone():
        try:
            tarn.rows(f"select * from {schema}.t")
        except Exception:
            return True
        return False

    assert eventually(gone)
