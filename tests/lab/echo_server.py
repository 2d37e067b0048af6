#!/usr/bin/env python3
"""Echoes TCP and UDP on one port of each address, and prints "ready" once it listens."""

import asyncio
import socket
import sys


class Datagrams(asyncio.DatagramProtocol):

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


async def echo(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


async def main(port, addresses):
    loop = asyncio.get_running_loop()
    for address in addresses:
        await asyncio.start_server(echo, address, port)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        await loop.create_datagram_endpoint(Datagrams, (address, port), family=family)
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
