"""The programs that measure something by themselves, and what they print."""

import json
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools" / "lab"))
import weirlab  # noqa: E402 the path comes first
from weirlab import BUILD, LabError  # noqa: E402

BENCH = BUILD / "bench"


def need(*paths):
    for path in paths:
        if not path.exists():
            raise LabError(f"{path} is not built: cmake --preset release && cmake --build --preset release "
                           "--target benchmarks lab_programs weir-l4 weir-l7 weir")


def end(process):
    """Some have to take down what they made."""
    process.terminate()
    try:
        process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()


def output_of(*command, timeout):
    """Runs a program to its end, which comes by force after `timeout` seconds."""
    need(pathlib.Path(command[0]))
    words = ["setpriv", "--pdeathsig", "TERM", *map(str, command)]  # when we are killed
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, process_group=0) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException as error:
            end(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise LabError(f"{command[0]} did not end within {timeout} s") from None
            raise
    if process.returncode != 0:
        raise LabError(f"{' '.join(map(str, command))}: exit {process.returncode}: {err[-500:]}")
    return out


def google_benchmark(name, pattern, seconds, *options, timeout=120, cores="0"):
    """The rows of a program of Google Benchmark's, by name."""
    need(BENCH / name)
    text = output_of("/usr/bin/taskset", "-c", cores, BENCH / name, f"--benchmark_filter={pattern}",
                     f"--benchmark_min_time={seconds:g}", "--benchmark_format=json", *options, timeout=timeout)
    rows = {re.sub(r"/iterations:\d+", "", row["name"]): row for row in json.loads(text)["benchmarks"]}
    for row in rows.values():
        if row.get("error_occurred"):
            raise LabError(f"{name}: {row['name']}: {row['error_message']}")
    return rows
