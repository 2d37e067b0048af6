#!/usr/bin/env python3
"""A balancer in the small: what is routed into a TUN device goes out in a tunnel of the wanted kind.
Prints "ready" once it carries packets, and runs until it is ended.

    tunnel.py NAME KIND DEVICE SOURCE DESTINATION DESTINATION_MAC [--port N] [--vlan ID] [--ecn N]

KIND is ipip, gue (variant 1) or gue0 (variant 0 with its base header). The outer family is that of
the addresses, the inner one that of the packets. The TUN device is up when "ready" is printed;
addresses and routes are the caller's affair.
"""

import argparse
import fcntl
import os
import socket
import struct
import sys

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
ETH_P_8021Q = 0x8100
GUE_SOURCE_PORT = 51234
IPPROTO_IPIP, IPPROTO_IPV6 = 4, 41


def ones_complement_sum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def packed(address):
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def ip_header(source, destination, protocol, payload_bytes, ds_field):
    if len(source) == 16:
        return struct.pack("!IHBB", 6 << 28 | ds_field << 20, payload_bytes, protocol,
                           64) + source + destination
    header = struct.pack("!BBHHHBBH", 0x45, ds_field, 20 + payload_bytes, 0, 0x4000, 64, protocol,
                         0) + source + destination
    return header[:10] + struct.pack("!H", 0xFFFF ^ ones_complement_sum(header)) + header[12:]


def udp_datagram(source, destination, port, payload):
    length = 8 + len(payload)
    pseudo = source + destination + struct.pack("!IHH", length, 0, socket.IPPROTO_UDP)
    header = struct.pack("!HHHH", GUE_SOURCE_PORT, port, length, 0)
    checksum = 0xFFFF ^ ones_complement_sum(pseudo + header + payload)
    return header[:6] + struct.pack("!H", checksum or 0xFFFF) + payload


def encapsulated(packet, arguments, source, destination):
    protocol = IPPROTO_IPIP if packet[0] >> 4 == 4 else IPPROTO_IPV6
    payload = packet
    if arguments.kind != "ipip":
        if arguments.kind == "gue0":
            payload = struct.pack("!BBH", 0, protocol, 0) + packet
        payload = udp_datagram(source, destination, arguments.port, payload)
        protocol = socket.IPPROTO_UDP
    return ip_header(source, destination, protocol, len(payload), arguments.ecn) + payload


def open_tun(name):
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return tun


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("kind", choices=["ipip", "gue", "gue0"])
    parser.add_argument("device")
    parser.add_argument("source")
    parser.add_argument("destination")
    parser.add_argument("mac")
    parser.add_argument("--port", type=int, default=6080)
    parser.add_argument("--vlan", type=int)
    parser.add_argument("--ecn", type=int, default=0)
    arguments = parser.parse_args()

    source, destination = packed(arguments.source), packed(arguments.destination)
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    out.bind((arguments.device, 0))
    own_mac = out.getsockname()[4]
    tag = b"" if arguments.vlan is None else struct.pack("!HH", ETH_P_8021Q, arguments.vlan)
    link = bytes.fromhex(arguments.mac.replace(":", "")) + own_mac + tag + struct.pack(
        "!H", 0x0800 if len(source) == 4 else 0x86DD)
    tun = open_tun(arguments.name)
    print("ready", flush=True)
    while True:
        packet = os.read(tun, 65536)
        out.send(link + encapsulated(packet, arguments, source, destination))


if __name__ == "__main__":
    sys.exit(main())
