"""Tarn as processes on free loopback ports, over the data of one scale.

A [`Cluster`] is `tarn serve`, or a scheduler and executors apart from it; it ends with the `with` that started it. The rule:
the machine's memory is shared out among the processes, and none gets a setting that a laptop would not have.
"""

import contextlib
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
import warnings

from adbc_driver_flightsql import dbapi

# Deadlines, in seconds. The build may be a debug one and the machine busy.
READY = 120
STOP = 60
# Of the machine's memory, this part is shared out; DuckDB and this program have the rest.
MEMORY_PART = 0.6
# Bytes of a range of a file at least, for each unit of scale and in all. At a small scale one executor would else do all
# of a query; at a large one this is what the server does anyway.
SPLIT_BYTES = (8 << 20, 1 << 14, 8 << 20)


class ServerError(Exception):
    pass


class Cluster:
    def __init__(self, tarn, data, executors, log_folder):
        """`executors` is the number of executors apart from the scheduler; 0 is one process."""
        self.tarn, self.lake, self.executors, self.log_folder = tarn, data.lake, executors, log_folder
        unit, least, most = SPLIT_BYTES
        self.split_bytes = min(max(int(unit * float(data.scale)), least), most)
        self.processes = []

    def __enter__(self):
        self.flight, self.http, cluster = free_ports(3)
        listen = [f"--flight-sql-listen=127.0.0.1:{self.flight}", f"--http-listen=127.0.0.1:{self.http}"]
        listen.append(f"--cluster-listen=127.0.0.1:{cluster}")
        try:
            self.start("serve" if not self.executors else "scheduler", "scheduler", listen)
            self.wait(lambda: get(self.http, "/readyz") is not None)
            for number in range(self.executors):
                self.start("executor", f"executor-{number}", [f"--scheduler=127.0.0.1:{cluster}"])
            self.wait(lambda: alive(self.http) == max(self.executors, 1))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_):
        # The scheduler first: it drains.
        for process in self.processes:
            process.terminate()
            try:
                process.wait(STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, command, name, flags):
        # Settings are those given here alone: TARN_... in the environment would be settings too.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TARN_")}
        share = int(memory_bytes() * MEMORY_PART) // (self.executors + 1)
        environment["TARN_RUNTIME__MEMORY_BYTES"] = str(share)
        with open(self.log_folder / f"{self.executors}-{name}.log", "ab") as log:
            process = subprocess.Popen(
                [self.tarn, command, "--data-dir", self.lake, "--log", "warn", *flags],
                cwd=self.lake, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.processes.append(process)

    def wait(self, condition):
        deadline = time.monotonic() + READY
        while not condition():
            if not self.is_alive():
                raise ServerError(f"a server ended: see {self.log_folder}")
            if time.monotonic() > deadline:
                raise ServerError(f"not ready after {READY} s: see {self.log_folder}")
            time.sleep(0.1)

    def is_alive(self):
        return all(process.poll() is None for process in self.processes)

    @contextlib.contextmanager
    def session(self, schema, mode, timeout_s):
        """A function that asks a query and gives an Arrow table."""
        with warnings.catch_warnings():
            # The driver asks for transactions first and says so when a server has none.
            warnings.simplefilter("ignore")
            connection = dbapi.connect(f"grpc://127.0.0.1:{self.flight}", db_kwargs=deadlines(timeout_s + STOP))
        with connection:

            def ask(sql):
                with connection.cursor() as cursor:
                    cursor.execute(sql)
                    return cursor.fetch_arrow_table()

            settings = {"execution_mode": mode, "query_timeout": f"{timeout_s}s", "split_bytes": self.split_bytes}
            for statement in (f"use {schema}", *(f"set {name} = '{value}'" for name, value in settings.items())):
                with connection.cursor() as cursor:
                    cursor.execute(statement)
            yield ask


def deadlines(seconds):
    """A server ends a query by its timeout; one that does not is not waited for."""
    return {f"adbc.flight.sql.rpc.timeout_seconds.{call}": str(seconds) for call in ("fetch", "query", "update")}


def alive(http):
    found = re.search(r'^scheduler_executors\{state="alive"\} (\d+)', get(http, "/metrics") or "", re.MULTILINE)
    return int(found[1]) if found else 0


def get(port, path):
    with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
        return answer.read().decode() if answer.status == 200 else None
    return None


def memory_bytes():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
