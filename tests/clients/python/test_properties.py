"""Random tables, written through Tarn and through PyIceberg, against a reader that prunes nothing.

Each table is a story drawn from a seed: a schema, a partition spec, then appends by either engine, deletes, columns
added, renamed, dropped, made again under an old name and widened, and changes of the spec. A model in memory, which
knows neither files nor statistics, holds the rows that must be there. After each chapter random predicates are
asked of Tarn in every mode, and of DuckDB over the model; and PyIceberg, without any filter, must find the model too.

TARN_PROPERTY_SEED and TARN_PROPERTY_TABLES choose other stories; a failure names its seed, its story and its query.
"""

import collections
import datetime
import decimal
import math
import os
import random

import duckdb
import pyarrow
import pytest
from pyiceberg import expressions, transforms, types
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema

from conftest import eventually

SEED = int(os.environ.get("TARN_PROPERTY_SEED", "20261121"))
TABLES = int(os.environ.get("TARN_PROPERTY_TABLES", "8"))
CHAPTERS = 5
PREDICATES = 8
MODES = ("local", "pipelined", "staged")

decimal.getcontext().prec = 76
D = decimal.Decimal
UTC = datetime.timezone.utc
EPOCH = datetime.datetime(1970, 1, 1)


class Kind:
    """A type: its names, values that are likely to meet each other, and how one is written in SQL."""

    def __init__(self, sql, iceberg, arrow, draw, literal, transforms):
        self.sql, self.iceberg, self.arrow = sql, iceberg, arrow
        self.draw, self.literal, self.transforms = draw, literal, transforms


def whole(bits, sql):
    edges = [0, 1, -1, -10, 9, 10, 2 ** (bits - 1) - 1, -(2 ** (bits - 1))]
    draw = lambda r: r.choice(edges) if r.random() < 0.15 else r.randint(-12, 40)
    return draw, lambda v: f"cast({v} as {sql})" if v < 0 or r_big(v) else str(v)


def r_big(value):
    return abs(value) > 1000


def floating(sql):
    # Each is the same number in four bytes and in eight.
    edges = [0.0, math.inf, -math.inf, math.nan, 2.0**100, -(2.0**100)]
    draw = lambda r: r.choice(edges) if r.random() < 0.15 else r.randint(-40, 40) / 4
    literal = lambda v: f"cast('{v}' as {sql})"
    return draw, literal


def number(precision, scale):
    top = D(10 ** precision - 1).scaleb(-scale)
    unit = D(1).scaleb(-scale)
    draw = lambda r: r.choice([top, -top, D(0)]) if r.random() < 0.1 else r.randint(-400, 400) * unit
    return draw, lambda v: f"cast('{v}' as decimal({precision}, {scale}))"


def text(r):
    edges = ["", "a", "ab", "abc", "abcd", "ABC", "ä", "äöü", "zz", "a b", "a/b", "a%b", "a=b", "😀", "\U0010ffff"]
    return r.choice(edges) if r.random() < 0.6 else "".join(r.choice("abcä") for _ in range(r.randint(1, 24)))


def day(r):
    return datetime.date(1969, 11, 1) + datetime.timedelta(days=r.randint(0, 120))


def moment(r):
    micros = r.choice([0, 0, 1, 999_999, 500_000])
    hours = r.randint(0, 24 * 60)
    return datetime.datetime(1969, 12, 10) + datetime.timedelta(hours=hours, microseconds=micros)


IDENTITY = transforms.IdentityTransform()
BUCKET = transforms.BucketTransform(5)
YEAR, MONTH, DAY, HOUR = (
    transforms.YearTransform(),
    transforms.MonthTransform(),
    transforms.DayTransform(),
    transforms.HourTransform(),
)

KINDS = {
    "boolean": Kind(
        "boolean",
        types.BooleanType(),
        pyarrow.bool_(),
        lambda r: r.random() < 0.5,
        lambda v: str(v).lower(),
        [IDENTITY],
    ),
    "int": Kind(
        "int", types.IntegerType(), pyarrow.int32(), *whole(32, "int"), [IDENTITY, BUCKET, transforms.TruncateTransform(10)]
    ),
    "long": Kind(
        "bigint", types.LongType(), pyarrow.int64(), *whole(64, "bigint"), [IDENTITY, BUCKET, transforms.TruncateTransform(7)]
    ),
    "float": Kind("real", types.FloatType(), pyarrow.float32(), *floating("real"), []),
    "double": Kind("double", types.DoubleType(), pyarrow.float64(), *floating("double"), []),
    "decimal": Kind(
        "decimal(9, 2)", types.DecimalType(9, 2), pyarrow.decimal128(9, 2), *number(9, 2), [IDENTITY, BUCKET]
    ),
    "wide": Kind(
        "decimal(38, 6)", types.DecimalType(38, 6), pyarrow.decimal128(38, 6), *number(38, 6), [IDENTITY]
    ),
    "date": Kind(
        "date", types.DateType(), pyarrow.date32(), day, lambda v: f"date '{v}'", [IDENTITY, BUCKET, YEAR, MONTH, DAY]
    ),
    "timestamp": Kind(
        "timestamp",
        types.TimestampType(),
        pyarrow.timestamp("us"),
        moment,
        lambda v: f"timestamp '{v}'",
        [YEAR, MONTH, DAY, HOUR, BUCKET],
    ),
    "timestamptz": Kind(
        "timestamp with time zone",
        types.TimestamptzType(),
        pyarrow.timestamp("us", "UTC"),
        lambda r: moment(r).replace(tzinfo=UTC),
        lambda v: f"cast('{v:%Y-%m-%d %H:%M:%S.%f}+00:00' as timestamp with time zone)",
        [MONTH, DAY, HOUR],
    ),
    "string": Kind(
        "varchar",
        types.StringType(),
        pyarrow.string(),
        text,
        lambda v: "'" + v.replace("'", "''") + "'",
        [IDENTITY, BUCKET, transforms.TruncateTransform(2)],
    ),
    "binary": Kind(
        "varbinary", types.BinaryType(), pyarrow.binary(), lambda r: bytes(r.randint(0, 255) for _ in range(r.randint(0, 3))), None, []
    ),
}

WIDER = {"int": "long", "float": "double"}
CLAUSES = {
    "identity": "{}",
    "bucket[5]": "bucket(5, {})",
    "truncate[10]": "truncate(10, {})",
    "truncate[7]": "truncate(7, {})",
    "truncate[2]": "truncate(2, {})",
    "year": "year({})",
    "month": "month({})",
    "day": "day({})",
    "hour": "hour({})",
}


class Story:
    """One table: its columns as (key, name, kind), its rows by key, and what happened to it."""

    def __init__(self, seed, tarn, lake, schema):
        self.r = random.Random(seed)
        self.tarn, self.lake, self.name = tarn, lake, f"{schema}.t{seed}"
        self.columns, self.rows, self.told, self.gone = [], [], [], []
        self.keys = 0

    # What happens.

    def begin(self):
        for kind in self.r.sample(sorted(KINDS), self.r.randint(3, 7)):
            self.columns.append((self.new_key(), f"c{self.keys}", kind))
        fields = self.draw_partitions()
        if self.r.random() < 0.5:
            columns = ", ".join(f"{name} {KINDS[kind].sql}" for _, name, kind in self.columns)
            clauses = ", ".join(CLAUSES[str(transform)].format(name) for name, transform in fields)
            clause = f" partitioned by ({clauses})" if fields else ""
            self.tell(f"create table {self.name} ({columns}){clause}")
            self.tarn.run(self.told[-1])
        else:
            version = self.r.choice(["1", "2", "2"])
            self.tell(f"PyIceberg creates it, version {version}, by {[(n, str(t)) for n, t in fields]}")
            columns = [
                types.NestedField(index + 1, name, KINDS[kind].iceberg, required=False)
                for index, (_, name, kind) in enumerate(self.columns)
            ]
            ids = {field.name: field.field_id for field in columns}
            parts = [
                PartitionField(ids[name], 1000 + index, transform, f"p{index}_{name}")
                for index, (name, transform) in enumerate(fields)
            ]
            self.lake.create_table(
                self.name,
                Schema(*columns),
                partition_spec=PartitionSpec(*parts),
                properties={"format-version": version},
            )
        self.caught_up()

    def draw_partitions(self):
        able = [(name, kind) for _, name, kind in self.columns if KINDS[kind].transforms]
        chosen = self.r.sample(able, min(len(able), self.r.choice([0, 1, 1, 2])))
        return [(name, self.r.choice(KINDS[kind].transforms)) for name, kind in chosen]

    def caught_up(self):
        """Tarn knows the table as it is now: what PyIceberg commits is seen by a query one second later."""
        current = self.lake.load_table(self.name).metadata_location
        schema, table = self.name.split(".")
        known = f"select count(*) from {schema}.\"{table}$metadata_log\" where file = '{current}'"
        assert eventually(lambda: self.tarn.value(known) == 1, 60), "the newest metadata"

    def chapter(self):
        events = [self.tarn_appends, self.pyiceberg_appends, self.pyiceberg_appends, self.columns_change]
        events += [self.spec_changes, self.pyiceberg_deletes]
        for event in self.r.choices(events, k=3):
            event()
            self.caught_up()

    def draw_rows(self):
        rows = []
        for _ in range(self.r.randint(1, 25)):
            row = {}
            for key, _, kind in self.columns:
                row[key] = None if self.r.random() < 0.12 else KINDS[kind].draw(self.r)
            rows.append(row)
        return rows

    def tarn_appends(self):
        rows = self.draw_rows()
        literal = lambda kind, value: self.written(kind, value)
        values = ", ".join(
            "(" + ", ".join(literal(kind, row[key]) for key, _, kind in self.columns) + ")" for row in rows
        )
        self.tell(f"insert into {self.name} values {values}")
        self.tarn.run(self.told[-1])
        self.rows += rows

    def pyiceberg_appends(self):
        rows = self.draw_rows()
        self.tell(f"PyIceberg appends {rows}")
        self.lake.load_table(self.name).append(self.arrow(rows))
        self.rows += rows

    def pyiceberg_deletes(self):
        """Copy on write: files that hold matches are written anew."""
        able = [(key, name) for key, name, kind in self.columns if kind in ("int", "long", "date", "string")]
        values = [(key, name, row[key]) for key, name in able for row in self.rows if row.get(key) is not None]
        if not values:
            return
        key, name, value = self.r.choice(values)
        self.tell(f"PyIceberg deletes where {name} = {value!r}")
        self.lake.load_table(self.name).delete(expressions.EqualTo(name, value))
        self.rows = [row for row in self.rows if row.get(key) != value]

    def columns_change(self):
        table = self.lake.load_table(self.name)
        bound = {table.schema().find_field(field.source_id).name for spec in table.specs().values() for field in spec.fields
                 if field.source_id in {f.field_id for f in table.schema().fields}}
        free = [column for column in self.columns if column[1] not in bound]
        choice = self.r.choice(["add", "again", "rename", "drop", "widen"])
        with table.update_schema() as change:
            if choice in ("add", "again"):
                name = self.r.choice(self.gone) if choice == "again" and self.gone else f"c{self.keys + 1}"
                kind = self.r.choice(sorted(KINDS))
                self.tell(f"PyIceberg adds {name} {kind}")
                change.add_column(name, KINDS[kind].iceberg)
                self.columns.append((self.new_key(), name, kind))
                self.gone = [old for old in self.gone if old != name]
            elif choice == "rename" and self.columns:
                index = self.r.randrange(len(self.columns))
                key, name, kind = self.columns[index]
                new = f"r{self.keys}_{len(self.told)}"
                self.tell(f"PyIceberg renames {name} to {new}")
                change.rename_column(name, new)
                self.columns[index] = (key, new, kind)
                self.gone.append(name)
            elif choice == "drop" and len(self.columns) > 2 and free:
                column = self.r.choice(free)
                self.tell(f"PyIceberg drops {column[1]}")
                change.delete_column(column[1])
                self.columns.remove(column)
                self.gone.append(column[1])
            elif choice == "widen":
                able = [column for column in self.columns if column[2] in WIDER]
                if able:
                    key, name, kind = self.r.choice(able)
                    self.tell(f"PyIceberg widens {name} from {kind}")
                    change.update_column(name, KINDS[WIDER[kind]].iceberg)
                    self.columns[self.columns.index((key, name, kind))] = (key, name, WIDER[kind])

    def spec_changes(self):
        table = self.lake.load_table(self.name)
        with table.update_spec() as change:
            if table.spec().fields and self.r.random() < 0.5:
                field = self.r.choice(table.spec().fields)
                self.tell(f"PyIceberg removes the partition field {field.name}")
                change.remove_field(field.name)
                return
            taken = {(field.source_id, str(field.transform)) for spec in table.specs().values() for field in spec.fields}
            able = [
                (name, transform)
                for _, name, kind in self.columns
                for transform in KINDS[kind].transforms
                if not any(source == table.schema().find_field(name).field_id for source, _ in taken)
            ]
            if able:
                name, transform = self.r.choice(able)
                self.tell(f"PyIceberg adds the partition field {transform} of {name}")
                change.add_field(name, transform, f"q{len(self.told)}_{name}")

    # What is asked.

    def check(self):
        model = self.arrow(self.rows)
        names = [name for _, name, _ in self.columns]
        listed = ", ".join(names)
        try:
            assert self.tarn.table(f"select * from {self.name}").column_names == names, "the columns"
            assert self.tarn.value(f"select count(*) from {self.name}") == len(self.rows), "the count"
            naive = self.lake.load_table(self.name).scan().to_arrow().select(names)
            assert canon(naive) == canon(model), "PyIceberg does not find the model"
            questions = [f"select {listed} from {{t}}"]
            for _ in range(PREDICATES):
                questions.append(f"select {listed} from {{t}} where {self.predicate()}")
            for _, name, kind in self.columns:
                if kind not in ("boolean", "binary", "float", "double"):
                    questions.append(f"select count({name}), min({name}), max({name}) from {{t}}")
            for mode in MODES:
                self.tarn.run(f"set execution_mode = '{mode}'")
                for question in questions if mode == "local" else self.r.sample(questions, 3):
                    expected = canon(oracle(model, question))
                    seen = canon(self.tarn.table(question.format(t=self.name)))
                    assert seen == expected, f"{mode}: {question}"
        except Exception as error:
            raise AssertionError("\n".join([f"seed {SEED}, story {self.name}:", *self.told, repr(error)])) from error

    def predicate(self, depth=0):
        if depth < 2 and self.r.random() < 0.45:
            left, right = self.predicate(depth + 1), self.predicate(depth + 1)
            form = self.r.choice(["({} and {})", "({} or {})", "(not {} or {})", "({} and not {})"])
            return form.format(left, right)
        _, name, kind = self.r.choice(self.columns)
        if self.r.random() < 0.12 or KINDS[kind].literal is None:
            return f"{name} is {self.r.choice(['', 'not '])}null"
        value = lambda: self.compared(kind, KINDS[kind].draw(self.r))
        forms = [
            lambda: f"{name} {self.r.choice(['=', '<>', '<', '<=', '>', '>='])} {value()}",
            lambda: f"{name} {self.r.choice(['', 'not '])}in ({value()}, {value()}, {value()})",
            lambda: f"{name} {self.r.choice(['', 'not '])}between {value()} and {value()}",
            lambda: f"{name} is {self.r.choice(['', 'not '])}distinct from {value()}",
            lambda: f"coalesce({name}, {value()}) = {value()}",
        ]
        if kind == "string":
            forms += [lambda: f"{name} like '{self.r.choice(['a', 'ab', 'ä', 'abc', 'z'])}%'", lambda: f"length({name}) > 2"]
        if kind in ("date", "timestamp"):
            forms += [lambda: f"date_part('month', {name}) = {self.r.randint(1, 12)}"]
            forms += [lambda: f"cast({name} as date) < date '1970-01-{self.r.randint(1, 28):02}'"]
        if kind in ("decimal", "wide"):
            bare = lambda: f"{KINDS[kind].draw(self.r):f}"
            forms += [lambda: f"{name} {self.r.choice(['=', '<>', '<', '>='])} {bare()}", lambda: f"{name} in ({bare()}, {bare()})"]
        if kind in ("int", "long", "decimal"):
            forms += [lambda: f"{name} > {self.r.randint(-10, 10)}.5", lambda: f"abs({name} % 7) = {self.r.randint(0, 6)}"]
        return self.r.choice(forms)()

    # How values are written.

    def written(self, kind, value):
        if value is None:
            return "null"
        if kind == "binary":
            return f"X'{value.hex()}'"
        return self.compared(kind, value)

    def compared(self, kind, value):
        return KINDS[kind].literal(value)

    def arrow(self, rows):
        fields = [(name, KINDS[kind].arrow) for _, name, kind in self.columns]
        arrays = [
            pyarrow.array([row.get(key) for row in rows], KINDS[kind].arrow) for key, _, kind in self.columns
        ]
        return pyarrow.Table.from_arrays(arrays, schema=pyarrow.schema(fields))

    def new_key(self):
        self.keys += 1
        return self.keys

    def tell(self, what):
        self.told.append(what)


def oracle(model, question):
    """DuckDB's answer over the model, which is a table in memory: nothing there to prune by."""
    connection = duckdb.connect()
    connection.execute("set TimeZone = 'UTC'")
    connection.register("arrow", model)
    # In a table of its own: a scan of Arrow cannot be handed every predicate.
    connection.execute("create table model as select * from arrow")
    return connection.execute(question.format(t="model")).to_arrow_table()


def canon(table):
    """The rows as a multiset, each value in a form that is equal where the values are."""
    return collections.Counter(tuple(map(plain, row.values())) for row in table.to_pylist())


def plain(value):
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value
    if isinstance(value, datetime.datetime):
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    return value


@pytest.mark.parametrize("number", range(TABLES))
def test_random_tables_answer_as_a_reader_that_prunes_nothing(tarn, lake, schema, number):
    story = Story(SEED + number, tarn, lake, schema)
    story.begin()
    for _ in range(CHAPTERS):
        story.chapter()
        story.check()
