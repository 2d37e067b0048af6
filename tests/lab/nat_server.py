"""What stands behind mode nat in nat_test.py: it says whom it sees, and carries bulk both ways.

    nat_server.py PORT UDP_PORT

A TCP connection is a series of lines: `who` is answered by the peer's address and port, `get N` by
N bytes, `put N` and N bytes by their SHA-256, anything else by itself. A datagram is answered by the
peer's address and port and the datagram."""

import asyncio
import hashlib
import resource
import socket
import sys

BLOCK = hashlib.sha512(b"nat").digest() * 1024  # 64 KiB


def peer_text(peer):
    return f"{peer[0]} {peer[1]}"


async def serve(reader, writer):
    try:
        while line := (await reader.readline()).decode().split():
            if line[0] == "who":
                writer.write(f"{peer_text(writer.get_extra_info('peername'))}\n".encode())
            elif line[0] == "get":
                left = int(line[1])
                while left > 0:
                    writer.write(BLOCK[:left])
                    left -= len(BLOCK)
                    await writer.drain()
            elif line[0] == "put":
                left, digest = int(line[1]), hashlib.sha256()
                while left > 0:
                    part = await reader.read(min(left, 65536))
                    if not part:
                        return
                    digest.update(part)
                    left -= len(part)
                writer.write(f"{digest.hexdigest()}\n".encode())
            else:
                writer.write((" ".join(line) + "\n").encode())
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


class Datagrams(asyncio.DatagramProtocol):

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        self.transport.sendto(peer_text(peer).encode() + b" " + data, peer)


async def main():
    loop = asyncio.get_running_loop()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    port, udp_port = int(sys.argv[1]), int(sys.argv[2])
    for address, family in (("0.0.0.0", socket.AF_INET), ("::", socket.AF_INET6)):
        await asyncio.start_server(serve, address, port, backlog=4096)
        datagrams = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        datagrams.bind((address, udp_port))
        await loop.create_datagram_endpoint(Datagrams, sock=datagrams)
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
