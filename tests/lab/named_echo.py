#!/usr/bin/env python3
"""Servers in many network namespaces, in one process. Each says who it is.

    named_echo.py --ports N,N… [--udp] NAME=/run/netns/NAMESPACE…

TCP: greets with its name and a newline, then echoes. A client whose first bytes are "send N\\n"
gets N bytes instead. UDP: answers with its name, a blank and what it was sent, from the address
that was asked. Prints "ready" once everything listens.
"""

import argparse
import asyncio
import os
import pathlib
import resource
import socket
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools" / "lab"))
from netns import inside  # noqa: E402 the path comes first

IP_PKTINFO, IPV6_RECVPKTINFO, IPV6_PKTINFO, IPV6_FREEBIND = 8, 49, 50, 78
DATAGRAM_MAX = 65536


async def serve_stream(name, reader, writer):
    try:
        writer.write(name.encode() + b"\n")
        data = await reader.read(65536)
        if data.startswith(b"send "):
            left = int(data.split(b"\n")[0].split()[1])
            while left:
                chunk = os.urandom(min(left, 65536))
                left -= len(chunk)
                writer.write(chunk)
                await writer.drain()
            data = b""
        while data:
            writer.write(data)
            await writer.drain()
            data = await reader.read(65536)
    except (ConnectionError, TimeoutError, OSError):
        pass  # what the client makes of it is what is tested
    writer.close()


def answer_datagrams(name, connection):
    """From the address that was asked: the socket listens on all of them."""
    try:
        data, ancillary, _, client = connection.recvmsg(DATAGRAM_MAX, 256)
    except OSError:
        return  # an ICMP error about an earlier answer
    answer = []
    for level, kind, value in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            answer = [(level, kind, struct.pack("=I", 0) + value[8:12] + bytes(4))]
        elif (level, kind) == (socket.IPPROTO_IPV6, IPV6_PKTINFO):
            answer = [(level, kind, value[:16] + struct.pack("=I", 0))]
    try:
        connection.sendmsg([name.encode() + b" " + data], answer, 0, client)
    except OSError as error:
        print(f"{name}: answering {client}: {error}", file=sys.stderr)


def listen_stream(family, port):
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind(("", port))
    listener.listen(1024)
    return listener


def listen_datagrams(family, port):
    listener = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        listener.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
    else:
        listener.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    listener.bind(("", port))
    listener.setblocking(False)
    return listener


async def serve(name, namespace, ports, with_udp):
    loop = asyncio.get_running_loop()
    for family in (socket.AF_INET, socket.AF_INET6):
        for port in ports:
            with inside(namespace):
                listener = listen_stream(family, port)
                datagrams = listen_datagrams(family, port) if with_udp else None
            await asyncio.start_server(lambda r, w: serve_stream(name, r, w), sock=listener)
            if datagrams:
                loop.add_reader(datagrams, answer_datagrams, name, datagrams)


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ports", required=True, type=lambda text: [int(p) for p in text.split(",")])
    parser.add_argument("--udp", action="store_true")
    parser.add_argument("servers", nargs="+")
    arguments = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    for server in arguments.servers:
        name, namespace = server.split("=", 1)
        await serve(name, namespace, arguments.ports, arguments.udp)
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
