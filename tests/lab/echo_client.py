#!/usr/bin/env python3
"""Asks an echo server from a given source address; exit code 0 if everything came back.

    echo_client.py tcp|udp SOURCE DESTINATION PORT [--bytes N] [--count N] [--patience S]

tcp sends N bytes and reads them back. udp sends `count` datagrams one after the other; the number
that came back is printed.
"""

import argparse
import os
import socket
import sys
import threading


def tcp(connection, size):
    sent = os.urandom(size)
    writer = threading.Thread(target=lambda: (connection.sendall(sent),
                                              connection.shutdown(socket.SHUT_WR)))
    writer.start()
    got = bytearray()
    while data := connection.recv(65536):
        got += data
    writer.join()
    return bytes(got) == sent


def udp(connection, count):
    answered = 0
    for i in range(count):
        question = b"%d" % i
        connection.send(question)
        try:
            answered += connection.recv(2048) == question
        except TimeoutError:
            pass
    print(answered)
    return answered == count


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("protocol", choices=["tcp", "udp"])
    parser.add_argument("source")
    parser.add_argument("destination")
    parser.add_argument("port", type=int)
    parser.add_argument("--bytes", type=int, default=100_000)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--patience", type=float, default=3.0)
    arguments = parser.parse_args()
    family = socket.AF_INET6 if ":" in arguments.source else socket.AF_INET
    kind = socket.SOCK_STREAM if arguments.protocol == "tcp" else socket.SOCK_DGRAM
    connection = socket.socket(family, kind)
    connection.settimeout(arguments.patience)
    connection.bind((arguments.source, 0))
    try:
        connection.connect((arguments.destination, arguments.port))
        done = (tcp(connection, arguments.bytes) if arguments.protocol == "tcp" else
                udp(connection, arguments.count))
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
