#!/usr/bin/env python3
"""Every checksum of what the balancer sends, verified by tshark, which knows nothing of ours.

    checksums_test.py CAPTURE           1,000 random packets of each kind; all must be right
    checksums_test.py --spoil CAPTURE   proves that a wrong one is found: one bit of each frame turned

CAPTURE is the program that writes the frames (checksum_capture.cpp), and for each which checksums
must be found in it: none missing, none wrong, none left unverified that could be.
"""

import argparse
import collections
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

PACKETS = 1000  # of each kind, at least
SPOILED_PACKETS = 40
SKIPPED = 77
PROTOCOLS = ("ip", "tcp", "udp", "icmp", "icmpv6")
GOOD, UNVERIFIED, ABSENT = "1", "2", "3"  # as tshark numbers what it found
FILE_HEADER, RECORD_HEADER = 24, 16
IPV4_HOP_LIMIT = 8
GUE = pathlib.Path(__file__).with_name("gue.lua")


def capture(program, directory, count):
    """Frames as offsets and sizes in the file, and what is expected of each."""
    subprocess.run([program, directory, str(count)], check=True)
    expected = []
    for line in (directory / "expected.txt").read_text().splitlines():
        kind, *counts = line.split()
        expected.append((kind, {name: int(value) for name, value in
                                (count.split("=") for count in counts)}))
    return expected


def verify(directory):
    """What tshark says of each frame: for each protocol the states of its checksums."""
    command = ["tshark", "-n", "-r", directory / "frames.pcap", "-X", f"lua_script:{GUE}",
               "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE", "-T", "fields"]
    for protocol in ("ip", "tcp", "udp"):  # ICMP's are always verified
        command += ["-o", f"{protocol}.check_checksum:TRUE"]
    for protocol in PROTOCOLS:
        command += ["-e", f"{protocol}.checksum.status"]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    for line in run.stdout.split("\n")[:-1]:
        yield {protocol: [state for state in states.split(",") if state]
               for protocol, states in zip(PROTOCOLS, line.split("\t"))}


def complaint(expected, found):
    """What is wrong with a frame; nothing if all that must be right was found right."""
    found = {protocol: list(states) for protocol, states in found.items()}
    for _ in range(expected["cut"]):  # the quoted segment, which is the last
        for protocol in ("tcp", "udp"):
            if found[protocol]:
                found[protocol].pop()
    for protocol in PROTOCOLS:
        good = found[protocol].count(GOOD)
        if good != expected[protocol]:
            return f"{protocol}: {good} right, expected {expected[protocol]}: {found[protocol]}"
    rest = collections.Counter(state for states in found.values() for state in states
                               if state != GOOD)
    allowed = collections.Counter({ABSENT: expected["absent"], UNVERIFIED: expected["unverified"]})
    return None if rest == +allowed else f"neither right nor expected: {dict(rest)}"


def check(expected, verdicts):
    """Prints what was verified. Returns how many frames are not as they should be."""
    packets, checksums, bad = collections.Counter(), collections.Counter(), 0
    for number, ((kind, wanted), found) in enumerate(zip(expected, verdicts, strict=True), 1):
        problem = complaint(wanted, found)
        if problem:
            bad += 1
            print(f"frame {number}, {kind}: {problem}", file=sys.stderr)
        else:
            packets[kind] += 1
            checksums[kind] += sum(wanted[protocol] for protocol in PROTOCOLS)
    for kind, count in sorted(packets.items()):
        print(f"{kind:32} {count:6} packets {checksums[kind]:6} checksums")
    print(f"{'all':32} {packets.total():6} packets {checksums.total():6} checksums")
    for kind in {kind for kind, _ in expected}:
        if packets[kind] < PACKETS:
            bad += 1
            print(f"{kind}: {packets[kind]} packets, expected {PACKETS}", file=sys.stderr)
    return bad


def spoil(directory, expected):
    """Turns a bit of each frame that a checksum is about. Returns which frames were left alone."""
    path = directory / "frames.pcap"
    data = bytearray(path.read_bytes())
    untouched = set()
    at = FILE_HEADER
    for number, (_, wanted) in enumerate(expected):
        frame = at + RECORD_HEADER
        size = struct.unpack_from("<I", data, at + 8)[0]
        ip = frame + 12
        while data[ip:ip + 2] == b"\x81\x00":
            ip += 4
        if number % 2 and data[ip:ip + 2] == b"\x08\x00":
            data[ip + 2 + IPV4_HOP_LIMIT] ^= 1
        elif not wanted["absent"]:
            data[frame + wanted["end"] - 1] ^= 1
        else:  # nobody would notice
            untouched.add(number)
        at = frame + size
    path.write_bytes(data)
    return untouched


def check_spoiled(expected, verdicts, untouched):
    """Returns how many frames were spoiled and not found, or found and not spoiled."""
    bad, spoiled = 0, collections.Counter()
    for number, ((kind, wanted), found) in enumerate(zip(expected, verdicts, strict=True)):
        if (number in untouched) == bool(complaint(wanted, found)):
            bad += 1
            print(f"frame {number + 1}, {kind}: spoiled and not found, or the reverse: {found}",
                  file=sys.stderr)
        spoiled[kind] += number not in untouched
    print(f"{spoiled.total()} spoiled frames of {len(spoiled)} kinds")
    return bad + sum(count == 0 for count in spoiled.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--spoil", action="store_true")
    parser.add_argument("capture", help="the program checksum_capture")
    arguments = parser.parse_args()
    if not shutil.which("tshark"):
        print("skipped, because there is no tshark; tools/setup installs it")
        return SKIPPED
    with tempfile.TemporaryDirectory(prefix="weir-checksums-") as name:
        directory = pathlib.Path(name)
        expected = capture(arguments.capture, directory,
                           SPOILED_PACKETS if arguments.spoil else PACKETS)
        if arguments.spoil:
            untouched = spoil(directory, expected)
            bad = check_spoiled(expected, verify(directory), untouched)
        else:
            bad = check(expected, verify(directory))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
