"""DuckDB behind a small Flight SQL front: the statements of the harness's client, and no more.

A request as JSON comes in on the first line: port, files of each table, memory. Each statement runs on a cursor of
its own, as each connection of a real front would; threads are as many as there are cores, DuckDB's default. The
process ends when its standard input does."""
import json
import os
import sys
import threading

import duckdb
import pyarrow
import pyarrow.flight as flight

request = json.loads(sys.stdin.readline())
database = duckdb.connect()
database.execute("set enable_progress_bar = false")
database.execute(f"set memory_limit = '{int(request['memory_bytes']) // 1000000}MB'")
database.execute(f"set temp_directory = '{request['spill']}'")
for table, files in request["tables"].items():
    schema, _ = table.split(".")
    names = ", ".join("'" + name.replace("'", "''") + "'" for name in files)
    database.execute(f"create schema if not exists {schema}")
    database.execute(f"create view {table} as select * from read_parquet([{names}])")


def fields(message):
    """The length-delimited fields of a protobuf message that has only these."""
    at, found = 0, {}
    while at < len(message):
        key, length, shift = message[at], 0, 0
        at += 1
        assert key & 7 == 2, "only texts and messages are known here"
        while True:
            byte = message[at]
            at += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        found[key >> 3] = message[at : at + length]
        at += length
    return found


class Front(flight.FlightServerBase):
    def get_flight_info(self, context, descriptor):
        command = fields(descriptor.command)
        assert command[1].endswith(b"CommandStatementQuery"), "only statements are known here"
        sql = fields(command[2])[1]
        endpoint = flight.FlightEndpoint(flight.Ticket(sql), [])
        return flight.FlightInfo(pyarrow.schema([]), descriptor, [endpoint], -1, -1)

    def do_get(self, context, ticket):
        cursor = database.cursor()
        reader = cursor.execute(ticket.ticket.decode()).to_arrow_reader(65536)

        def batches():
            for batch in reader:
                yield batch
            cursor.close()

        return flight.GeneratorStream(reader.schema, batches())


def end_with_parent():
    sys.stdin.read()
    os._exit(0)


server = Front(f"grpc://127.0.0.1:{request['port']}")
threading.Thread(target=end_with_parent, daemon=True).start()
server.serve()
