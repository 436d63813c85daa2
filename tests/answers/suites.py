"""The queries, and the order that each asks for.

TPC-H's texts are those of tests/queries/tpch; TPC-DS's, in tests/queries/tpcds, are DuckDB's own, to the letter:
`tpcds_queries()` is compared with them. Both engines are asked the same text.

What comes first of rows that have equal ORDER BY keys is not decided by the text, nor which of them a LIMIT leaves. So an
answer is the whole relation up to the last row that ties with the last one allowed, with its keys beside it, and a result
may hold any of these; see compare.py. The keys are found in the text. The rule: KEYS names by hand what the text alone
does not tell: a key that is no column of the result, or is the name of two.
"""

import dataclasses
import pathlib
import re

QUERIES = pathlib.Path(__file__).resolve().parent.parent / "queries"

# Keys over the columns of the result, which are called c1, c2 and so on.
KEYS = {
    ("tpcds", 6): ["c2 nulls first", "c1 nulls first"],
    ("tpcds", 19): ["c5 desc", "c2", "c1", "c3", "c4"],
    ("tpcds", 36): ["c4 desc nulls first", "case when c4 = 0 then c2 end nulls first", "c5 nulls first"],
    ("tpcds", 39): [f"c{n} nulls first" for n in (1, 2, 3, 4, 5, 8, 9, 10)],
    ("tpcds", 42): ["c4 desc", "c1", "c2", "c3"],
    ("tpcds", 55): ["c3 desc", "c1"],
    ("tpcds", 64): ["c1", "c2", "c21", "c14", "c17"],
    ("tpcds", 70): ["c4 desc", "case when c4 = 0 then c2 end", "c5"],
    ("tpcds", 71): ["c5 desc nulls first", "c1 nulls first", "c3 nulls first"],
    ("tpcds", 78): ["c1", "c2", "c3", "c5 desc", "c6 desc", "c7 desc", "c8", "c9", "c10", "c4"],
    ("tpcds", 79): ["c1 nulls first", "c2 nulls first", "c3 nulls first", "c6 nulls first", "c4"],
    ("tpcds", 84): ["c1 nulls first"],
    ("tpcds", 85): ["c1", "c2", "c3", "c4"],
    ("tpcds", 86): ["c4 desc nulls first", "case when c4 = 0 then c2 end nulls first", "c5 nulls first"],
    ("tpcds", 91): ["c4 desc"],
}
# They order one row.
KEYS |= {("tpcds", number): [] for number in (16, 92, 94, 95, 96)}


@dataclasses.dataclass(frozen=True)
class Query:
    suite: str
    number: int
    text: str

    @property
    def name(self):
        return f"{self.suite} {self.number:02}"

    def split(self):
        """(text without order and limit, [order key], limit or None)."""
        text = self.text.strip().rstrip(";").rstrip()
        limit = re.search(r"\blimit\s+(\d+)$", text, re.IGNORECASE)
        if limit:
            text = text[: limit.start()].rstrip()
        orders = [found for found in re.finditer(r"\border\s+by\b", text, re.IGNORECASE) if not depth(text[: found.start()])]
        keys = []
        if orders:
            keys = [" ".join(key.split()) for key in commas(text[orders[-1].end() :])]
            text = text[: orders[-1].start()]
        return text, keys, int(limit[1]) if limit else None

    def keys(self, names):
        """The order keys over c1, c2, …, given the names of the result's columns."""
        by_hand = KEYS.get((self.suite, self.number))
        return [self.key(key, names) for key in self.split()[1]] if by_hand is None else by_hand

    def key(self, key, names):
        expression, direction = re.fullmatch(r"(.*?)((?:\s+(?:asc|desc))?(?:\s+nulls\s+(?:first|last))?)", key, re.IGNORECASE).groups()
        if expression.isdecimal():
            return f"c{expression}{direction}"
        fold = lambda text: re.sub(r"\s+", "", text).lower()
        folded = [fold(name) for name in names]
        bare = re.sub(r"\b\w+\.", "", expression)
        for wanted in (fold(expression), fold(bare)):
            if folded.count(wanted) == 1:
                return f"c{folded.index(wanted) + 1}{direction}"
        # An expression over columns: each word that is one.
        places = {name: f"c{place}" for place, name in enumerate(folded, 1) if folded.count(name) == 1}
        words = re.sub(r"[a-z_]\w*", lambda word: places.get(word[0].lower(), word[0]), bare, flags=re.IGNORECASE)
        if words == bare:
            raise ValueError(f"{self.name}: the key {expression!r} is not a column of {names}: name it in KEYS")
        return f"{words}{direction}"


def queries(suite):
    files = sorted((QUERIES / suite).glob("q*.sql"))
    return [Query(suite, int(file.stem[1:]), file.read_text()) for file in files]


def changed(connection, suite):
    """Numbers of the queries whose text is not DuckDB's own; for TPC-DS there must be none."""
    stock = dict(connection.execute(f"select query_nr, query from {suite}_queries()").fetchall())
    return [query.number for query in queries(suite) if query.text.strip() != stock[query.number].strip()]


def depth(text):
    return text.count("(") - text.count(")")


def commas(text):
    """The parts between commas that stand in no parentheses."""
    parts, begin = [], 0
    for found in re.finditer(",", text):
        if not depth(text[begin : found.start()]):
            parts.append(text[begin : found.start()])
            begin = found.end()
    return [*parts, text[begin:]]
