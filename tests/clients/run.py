#!/usr/bin/env python3
"""Runs the client suites against a real `tarn` process: Python (ADBC, PyIceberg) and Java (JDBC).

    python3 tests/clients/run.py --tarn target/debug/tarn [--only python|java]

Starts `tarn demo --no-shell` on free loopback ports with a data folder of its own, waits until it is ready,
runs each suite, and stops the server with SIGTERM, which must end it with code 0. What the suites need is
fetched by name from PyPI and Maven Central into $XDG_CACHE_HOME/tarn. Standard library only.

A missing `java`, `javac`, `mvn` is a loud skip, and with CI=true a failure. A driver version that Maven
Central itself says it does not have is a loud skip; failing to reach it is a failure.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "tarn"
CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")
JDBC_VERSIONS = ["18.3.0", "19.0.0"]
JDBC_DRIVER = "org.apache.arrow:flight-sql-jdbc-driver"
MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"

# Deadlines, in seconds. The build is a debug one and the machine may be small and busy.
READY = 420
STOP = 60
FETCH = 600
SUITE = 900


class Report:
    """What happened, suite by suite; printed as the last lines."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.lines = []

    def add(self, suite, passed=0, failed=0, skipped=0, why=""):
        self.passed += passed
        self.failed += failed
        self.skipped += skipped
        counts = f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")
        self.lines.append(f"  {suite}: {counts}{' - ' + why if why else ''}")

    def missing(self, suite, why):
        if CI:
            self.add(suite, failed=1, why=f"{why}, and CI is set")
        else:
            self.add(suite, skipped=1, why=f"SKIPPED: {why}")


def main():
    parser = argparse.ArgumentParser(description="run the client suites against a real tarn process")
    parser.add_argument("--tarn", required=True, type=pathlib.Path, help="the binary")
    parser.add_argument("--only", choices=["python", "java"], help="one language alone")
    parser.add_argument("--scale", default="0.01", help="scale of the demo data")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    report = Report()
    # Fetched before the server starts, so that its life is short and a missing tool is known at once.
    python = prepare_python(report) if options.only in (None, "python") else None
    java = prepare_java(report) if options.only in (None, "java") else []
    if python or java:
        with tempfile.TemporaryDirectory(prefix="tarn-clients-") as folder:
            run_suites(options, pathlib.Path(folder), python, java, report)

    print("\nclient suites:")
    print("\n".join(report.lines))
    print(f"clients: {report.passed} passed, {report.failed} failed, {report.skipped} skipped")
    sys.exit(1 if report.failed else 0)


def run_suites(options, folder, python, java, report):
    try:
        with server(options, folder) as (url, data_dir):
            if python:
                run_python(python, url, data_dir, folder, report)
            for version, jar in java:
                run_java(version, jar, url, folder, report)
    except ServerError as error:
        report.add("server", failed=1, why=str(error))
        print((folder / "server.log").read_text(errors="replace")[-8000:], file=sys.stderr)
    else:
        report.add("server stops on SIGTERM with code 0", passed=1)


# The server.


class ServerError(Exception):
    pass


@contextlib.contextmanager
def server(options, folder):
    data_dir = folder / "data"
    flight, http, cluster = free_ports(3)
    command = [options.tarn.resolve(), "demo", "--no-shell", "--scale", options.scale]
    command += ["--data-dir", data_dir, "--flight-sql-listen", f"127.0.0.1:{flight}"]
    command += ["--http-listen", f"127.0.0.1:{http}", "--cluster-listen", f"127.0.0.1:{cluster}"]
    print("+ " + " ".join(map(str, command)), flush=True)
    started = time.monotonic()
    with open(folder / "server.log", "wb") as log:
        # Its settings are those of the command line alone: TARN_... in the environment would be settings too.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TARN_")}
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        wait_until_ready(process, f"http://127.0.0.1:{http}/readyz")
        print(f"ready after {time.monotonic() - started:.1f} s", flush=True)
        yield f"grpc://127.0.0.1:{flight}", data_dir
        if process.poll() is not None:
            raise ServerError(f"the server ended during the suites with code {process.returncode}")
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP)
        except subprocess.TimeoutExpired:
            raise ServerError(f"the server was still there {STOP} s after SIGTERM") from None
        if code != 0:
            raise ServerError(f"the server answered SIGTERM with exit code {code}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_until_ready(process, url):
    deadline = time.monotonic() + READY
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerError(f"the server ended before it was ready, with code {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.2)
    raise ServerError(f"the server was not ready after {READY} s")


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


# Python.


def prepare_python(report):
    """The interpreter of a virtual environment that holds exactly requirements.txt."""
    requirements = HERE / "python" / "requirements.txt"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    home = CACHE / f"venv-{version}-{digest}"
    python = home / "bin" / "python"
    with lock("venv"):
        if (home / "complete").exists():
            return python
        shutil.rmtree(home, ignore_errors=True)
        try:
            venv.create(home, with_pip=True)
            call([python, "-m", "pip", "install", "--quiet", "--requirement", requirements], FETCH)
        except (OSError, subprocess.SubprocessError) as error:
            report.add("python", failed=1, why=f"its packages could not be installed: {error}")
            return None
        (home / "complete").touch()
    return python


def run_python(python, url, data_dir, folder, report):
    environment = dict(os.environ, TARN_URL=url, TARN_DATA_DIR=str(data_dir), PYTHONDONTWRITEBYTECODE="1")
    command = [python, "-m", "pytest", HERE / "python", "--rootdir", HERE / "python", "-q"]
    command += ["--color=no", "--basetemp", folder / "pytest"]
    code, output = stream(command, environment)
    counts = {
        word: int(number)
        for number, word in re.findall(r"(\d+) (passed|failed|error|skipped)", last_line(output))
    }
    failed = counts.get("failed", 0) + counts.get("error", 0)
    if code != 0 and not failed:
        failed = 1
    report.add("python: adbc, pyiceberg", counts.get("passed", 0), failed, counts.get("skipped", 0))


# Java.


def prepare_java(report):
    """The driver's jars, by version."""
    missing = [tool for tool in ("java", "javac", "mvn") if shutil.which(tool) is None]
    if missing:
        report.missing("java: jdbc", f"not installed: {', '.join(missing)}")
        return []
    found = []
    for version in JDBC_VERSIONS:
        jar = CACHE / "jdbc" / f"flight-sql-jdbc-driver-{version}.jar"
        if jar.exists():
            found.append((version, jar))
            continue
        command = ["mvn", "-B", "-q", MAVEN_COPY, f"-Dartifact={JDBC_DRIVER}:{version}"]
        with lock("jdbc"), tempfile.TemporaryDirectory(prefix="tarn-jdbc-") as folder:
            command.append(f"-DoutputDirectory={folder}")
            command.append(f"-Dmaven.repo.local={CACHE / 'm2'}")
            answer = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=FETCH
            )
            if answer.returncode == 0:
                jar.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(pathlib.Path(folder) / jar.name, jar)
                found.append((version, jar))
                continue
        output = answer.stdout + answer.stderr
        if "Could not find artifact" in output or "was not found in" in output:
            report.add(
                f"java: jdbc {version}", skipped=1, why="SKIPPED: Maven Central does not have this version"
            )
        else:
            print(output, file=sys.stderr)
            report.add(f"java: jdbc {version}", failed=1, why="the driver could not be fetched")
    return found


def run_java(version, jar, url, folder, report):
    classes = folder / "classes"
    if not classes.exists():
        call(["javac", "-d", classes, HERE / "java" / "JdbcSuite.java"], SUITE)
    command = ["java", "--add-opens=java.base/java.nio=org.apache.arrow.memory.core,ALL-UNNAMED"]
    command += ["-Duser.timezone=UTC", "-Xmx512m", "-cp", f"{classes}:{jar}", "JdbcSuite", url]
    code, output = stream(command, os.environ)
    match = re.fullmatch(r"(\d+) passed, (\d+) failed", last_line(output))
    passed, failed = (int(match[1]), int(match[2])) if match else (0, 1)
    if code != 0 and not failed:
        failed = 1
    report.add(f"java: jdbc {version}", passed, failed)


# Processes.


def call(command, seconds):
    print("+ " + " ".join(map(str, command)), flush=True)
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=seconds)


def stream(command, environment):
    """Runs the command, passing its output on as it comes; (exit code, output)."""
    print("+ " + " ".join(map(str, command)), flush=True)
    lines = []
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        alarm = signal.signal(signal.SIGALRM, lambda *_: os.killpg(process.pid, signal.SIGKILL))
        signal.alarm(SUITE)
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(line.rstrip())
            return process.wait(), lines
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, alarm)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def last_line(lines):
    return next((line for line in reversed(lines) if line.strip()), "")


@contextlib.contextmanager
def lock(name):
    """Two runs on one machine do not fill the cache at once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    main()
