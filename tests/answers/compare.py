"""When a result equals DuckDB's answer.

Rows stand in the order of the ORDER BY keys, and are a multiset among ties and where there is no order. Of the rows that
tie with the last one that a LIMIT allows, any may be in the result: the answer holds all of them. Keys that are doubles in
DuckDB tie within 1e-6, the last place of an average of money in Tarn, whose order is that of what it shows.

Integers, dates and text are equal when they are the same; decimals when they are the same number; doubles within 1e-9,
relative. DuckDB has a double where Tarn has a decimal of scale s (an average or quotient of decimals): these differ by less
than one unit of the last place of s (n units, where n of them are added up or one is
multiplied by n), or 1e-9 relative. An integer and a decimal are compared as numbers. The rule: what is
an integer, date or text on one side is none of the others on the other side.
"""

import dataclasses
import decimal
import math
import re

RELATIVE = 1e-9
TIED = 1e-6
# Queries that add up so many quotients of decimals, or multiply one by so much: its last place is so much coarser.
COARSER = {("tpcds", 58): 100, ("tpcds", 61): 100, ("tpcds", 66): 2}
FETCH = 1024
SHOWN = 300


@dataclasses.dataclass
class Answer:
    """Rows in order, each with its columns first and its ORDER BY keys behind them."""

    names: list
    types: list
    rows: list
    # Indexes into a row.
    keys: list
    limit: int | None
    # By which units of the last place of a quotient are multiplied.
    coarser: int = 1
    seconds: float = 0.0

    @property
    def count(self):
        """How many rows a result has."""
        return len(self.rows) if self.limit is None else min(self.limit, len(self.rows))

    def ties(self):
        """Ranges of rows whose keys are equal, as nearly as the values are compared."""
        begin = 0
        for row in range(1, len(self.rows) + 1):
            if row == len(self.rows) or not self.tied(self.rows[row - 1], self.rows[row]):
                yield begin, row
                begin = row

    def tied(self, left, right):
        return all(near(left[key], right[key], TIED) for key in self.keys)


def ask(connection, query):
    """DuckDB's answer: the whole relation, up to the last row that ties with the last one allowed."""
    described = connection.execute(query.text).description
    names, types = [column[0] for column in described], [str(column[1]) for column in described]
    text, _, limit = query.split()
    keys = query.keys(names)
    columns = ", ".join(f"c{place}" for place in range(1, len(names) + 1))
    # Without its direction a key is an expression.
    bare = [re.sub(r"(\s+(asc|desc))?(\s+nulls\s+(first|last))?$", "", key, flags=re.IGNORECASE) for key in keys]
    sql = f"select {', '.join(['*', *bare])} from ({text}) as q({columns})"
    if keys:
        sql += f" order by {', '.join(keys)}"
    answer = Answer(names, types, [], list(range(len(names), len(names) + len(keys))), limit)
    answer.coarser = COARSER.get((query.suite, query.number), 1)
    cursor = connection.execute(sql)
    while batch := cursor.fetchmany(FETCH):
        for row in batch:
            full = limit is not None and len(answer.rows) >= limit
            if full and (not limit or not answer.tied(answer.rows[-1], row)):
                return answer
            answer.rows.append(row)
    return answer


def difference(answer, table):
    """What is wrong with a result (an Arrow table), or None."""
    names = table.schema.names
    if len(names) != len(answer.names):
        return f"{len(names)} columns, expected {len(answer.names)}"
    kinds = [(kind(duck), str(field.type)) for duck, field in zip(answer.types, table.schema)]
    for name, (expected, seen) in zip(names, kinds):
        if {expected, kind(seen)} not in ({"text"}, {"date"}, {"boolean"}) and not {expected, kind(seen)} <= NUMBERS:
            return f"column {name} is of type {seen}, expected {expected}"
    rows = list(zip(*(column.to_pylist() for column in table.columns)))
    if len(rows) != answer.count:
        return f"{len(rows)} rows, expected {answer.count}"
    units = [unit(expected, seen, answer.coarser) for expected, seen in kinds]
    for begin, end in answer.ties():
        fault = among(rows[begin:end], answer.rows[begin:end], units)
        if fault:
            return f"rows {begin} to {min(end, len(rows))}: {fault}"
    return None


NUMBERS = {"integer", "decimal", "double"}


def kind(name):
    name = name.lower()
    if name.startswith("decimal"):
        return "decimal"
    if "int" in name:
        return "integer"
    if name.startswith(("double", "float")):
        return "double"
    if name.startswith("date"):
        return "date"
    if name.startswith("bool"):
        return "boolean"
    return "text" if name in ("varchar", "string", "large_string", "string_view") else name


def unit(expected, seen, coarser):
    """How far two numbers of a column may lie apart: None if not at all."""
    if expected == "double" and seen.startswith("decimal"):
        return coarser * 10.0 ** -int(re.search(r",\s*(-?\d+)\)", seen)[1])
    return 0.0 if "double" in (expected, kind(seen)) else None


def among(seen, expected, units):
    """Whether each row is one of those expected, which are at least as many; what is wrong, or None."""
    exact = [place for place, tolerance in enumerate(units) if tolerance is None]
    buckets = {}
    for row in expected:
        buckets.setdefault(tuple(exactly(row[place]) for place in exact), []).append(row)
    for row in seen:
        bucket = buckets.get(tuple(exactly(row[place]) for place in exact), [])
        found = next((other for other in bucket if close(row, other, units)), None)
        if found is None:
            likely = bucket or expected
            return f"got {show(row)}, expected {'one of ' if len(likely) > 1 else ''}{', '.join(map(show, likely[:3]))}"
        bucket.remove(found)
    return None


def exactly(value):
    # 1.50 and 1.5 are the same number, as are a decimal and an integer.
    return decimal.Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value


def close(seen, expected, units):
    return all(
        near(left, right, tolerance) for left, right, tolerance in zip(seen, expected, units) if tolerance is not None
    )


def near(left, right, tolerance=0.0):
    """Whether two values are as good as equal; only doubles may differ at all."""
    if left is None or right is None:
        return left is right
    if not isinstance(left, float) and not isinstance(right, float):
        return left == right
    left, right = float(left), float(right)
    if math.isnan(left) or math.isnan(right):
        return math.isnan(left) and math.isnan(right)
    # The difference is below one unit, but for how a double writes a decimal.
    return left == right or abs(left - right) <= max(tolerance, RELATIVE * max(abs(left), abs(right)))


def show(row):
    text = "(" + ", ".join("NULL" if value is None else str(value) for value in row) + ")"
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
