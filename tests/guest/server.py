"""A backend and its client, small enough to start fast on an emulated processor.

    server.py serve NAME                  TCP 80 and UDP 53 on every address: says NAME
    server.py tcp ADDRESS COUNT           asks COUNT times, prints who answered
    server.py udp ADDRESS COUNT
    server.py download ADDRESS BYTES      prints the SHA-256 of what came
"""

import hashlib
import selectors
import socket
import sys
import threading

TCP_PORT, UDP_PORT = 80, 53
PATIENCE_S = 10
DOWNLOAD_S = 120
BLOCK = bytes(range(251)) * 251  # a prime period: a lost or doubled piece changes the sum


def serve(name):
    listener = socket.create_server(("::", TCP_PORT), family=socket.AF_INET6, backlog=64,
                                    dualstack_ipv6=True)
    # One socket per family, and replies from the address that was asked.
    with selectors.DefaultSelector() as selector:
        for family, level, option in ((socket.AF_INET, socket.IPPROTO_IP, 8),  # IP_PKTINFO
                                      (socket.AF_INET6, socket.IPPROTO_IPV6,
                                       socket.IPV6_RECVPKTINFO)):
            datagrams = socket.socket(family, socket.SOCK_DGRAM)
            if family == socket.AF_INET6:
                datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            datagrams.setsockopt(level, option, 1)
            datagrams.bind(("", UDP_PORT))
            selector.register(datagrams, selectors.EVENT_READ)
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    threading.Thread(target=answer_stream, args=(listener.accept()[0], name),
                                     daemon=True).start()
                else:
                    answer_datagram(key.fileobj, name)


def answer_stream(connection, name):
    with connection:
        connection.settimeout(DOWNLOAD_S)
        wanted = int(connection.recv(64) or b"0")
        if wanted == 0:
            connection.sendall(name.encode())
            return
        while wanted > 0:
            connection.sendall(BLOCK[:wanted])
            wanted -= len(BLOCK)


def answer_datagram(datagrams, name):
    data, control, _, source = datagrams.recvmsg(2048, 256)
    if datagrams.family == socket.AF_INET:
        # What was received carries the address in its last four bytes; to send, it is the middle.
        info = [(level, kind, value[:0] + bytes(4) + value[8:12] + bytes(4))
                for level, kind, value in control]
    else:
        info = [(level, socket.IPV6_PKTINFO, value[:16] + bytes(4)) for level, _, value in control]
    datagrams.sendmsg([name.encode() + b":" + data], info, 0, source)


def ask_stream(address, request):
    with socket.create_connection((address, TCP_PORT), PATIENCE_S) as connection:
        connection.settimeout(DOWNLOAD_S)
        connection.sendall(request)
        digest, text = hashlib.sha256(), b""
        while data := connection.recv(1 << 16):
            digest.update(data)
            text = data
    return digest.hexdigest() if request != b"0" else text.decode()


def ask_datagram(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asker:
        asker.settimeout(PATIENCE_S)
        asker.connect((address, UDP_PORT))
        asker.send(b"who")
        return asker.recv(2048).decode().removesuffix(":who")


def main():
    verb, subject, *rest = sys.argv[1:]
    if verb == "serve":
        serve(subject)
    elif verb == "download":
        print(ask_stream(subject, rest[0].encode()))
    else:
        answers = [ask_stream(subject, b"0") if verb == "tcp" else ask_datagram(subject)
                   for _ in range(int(rest[0]))]
        print(" ".join(answers))


if __name__ == "__main__":
    main()
