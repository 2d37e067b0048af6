"""connect_many.py ADDRESS:PORT PATH COUNT [SECONDS [LOCAL_PORT]]: one HTTP request per new connection,
from ports in a row if a first one is given; prints as JSON how often each backend answered, by its
x-backend header, and how often nothing did."""

import collections
import json
import re
import socket
import sys

target, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
patience = float(sys.argv[4]) if len(sys.argv) > 4 else 5.0
first_port = int(sys.argv[5]) if len(sys.argv) > 5 else None
host, port = target.rsplit(":", 1)
host = host.strip("[]")
request = (f"GET {path} HTTP/1.1\r\nHost: api.shop.example\r\nConnection: close\r\n\r\n").encode()
answers = collections.Counter()
for i in range(count):
    source = None if first_port is None else ("", first_port + i)
    try:
        with socket.create_connection((host, int(port)), timeout=patience,
                                      source_address=source) as connection:
            connection.sendall(request)
            reply = b""
            while chunk := connection.recv(65536):
                reply += chunk
        match = re.search(rb"(?im)^x-backend: (\w+)", reply)
        answers[match.group(1).decode() if match else "no header"] += 1
    except OSError as error:
        answers[f"failed: {error}"] += 1
print(json.dumps(answers))
