"""On what and with what was measured: the header of every result."""

import datetime
import os
import pathlib
import re
import subprocess

# Package or program, and the words that make it say its version.
PEERS = {"nginx": ("nginx", "-v"), "haproxy": ("haproxy", "-v"), "iptables": ("iptables-legacy", "-V"),
         "nft": ("nft", "-V"), "wrk": ("wrk", "-v"), "h2load": ("h2load", "--version"),
         "openssl": ("openssl", "version")}


def first_line(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return "not installed"
    lines = (done.stdout or done.stderr).splitlines()
    return lines[0].strip() if lines else "says nothing"


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return os.uname().machine


def memory_mb():
    return int(re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) // 1024


def header(command, build, quick, rounds):
    return {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "machine": f"{processor()}, {os.cpu_count()} CPUs, {memory_mb()} MB",
            "kernel": f"{os.uname().sysname} {os.uname().release}",
            "load": os.getloadavg()[0], "command": command, "quick": quick, "rounds": rounds,
            "versions": {"weir": first_line(str(build / "tools" / "weir" / "weir"), "--version")}
            | {name: first_line(*words) for name, words in PEERS.items()}}
