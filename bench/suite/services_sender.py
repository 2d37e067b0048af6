#!/usr/bin/env python3
"""Sends UDP packets of 1,024 flows to one service as fast as one CPU can, and prints how many arrived as
JSON.

    services_sender.py PINS DEVICE DESTINATION_MAC SOURCE ADDRESS PORT SECONDS

PINS is where the programs and maps of services.bpf.c are pinned.
"""

import json
import pathlib
import socket
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "lab"))
import bpf_calls  # noqa: E402 the path comes first

BATCH = 16 * 1024


def checksum(header):
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total > 0xffff:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def frame(mac, source, address, port):
    payload = 18
    addresses = socket.inet_aton(source) + socket.inet_aton(address)
    def ip(sum_):
        return struct.pack("!BBHHHBBH", 0x45, 0, 28 + payload, 0, 0x4000, 64, socket.IPPROTO_UDP, sum_) + addresses
    udp = struct.pack("!HHHH", 0, port, 8 + payload, 0)  # no checksum, which IPv4 allows
    return (bytes.fromhex(mac.replace(":", "")) + b"\x02\0\0\0\0\x01" + b"\x08\0" + ip(checksum(ip(0))) + udp,
            bytes(payload))


def main():
    pins, device, mac, source, address, port, seconds = sys.argv[1:]
    program, ifindex = bpf_calls.open_pinned(f"{pins}/services_send"), socket.if_nametoindex(device)
    arrived = bpf_calls.open_pinned(f"{pins}/services_arrived")
    head, payload = frame(mac, source, address, int(port))
    bpf_calls.update(bpf_calls.open_pinned(f"{pins}/services_frame"), bytes(4), head)
    count = lambda: struct.unpack("=Q", bpf_calls.lookup(arrived, bytes(4), 8))[0]  # noqa: E731
    bpf_calls.send_frames(program, head + payload, ifindex, BATCH)  # warm: every flow is known
    # What receives is run in the sender's time too, so that its processor time is that of the whole way.
    before, began, used, sent = count(), time.monotonic(), time.process_time(), 0
    while time.monotonic() - began < float(seconds):
        bpf_calls.send_frames(program, head + payload, ifindex, BATCH)
        sent += BATCH
    print(json.dumps({"sent": sent, "arrived": count() - before, "processor_s": time.process_time() - used}))


main()
