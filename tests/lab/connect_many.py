"""connect_many.py ADDRESS:PORT PATH COUNT [SECONDS]: one HTTP request per new connection; prints as
JSON how often each backend answered, by its x-backend header, and how often nothing did."""

import collections
import json
import re
import socket
import sys

target, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
patience = float(sys.argv[4]) if len(sys.argv) > 4 else 5.0
host, port = target.rsplit(":", 1)
host = host.strip("[]")
request = (f"GET {path} HTTP/1.1\r\nHost: api.shop.example\r\nConnection: close\r\n\r\n").encode()
answers = collections.Counter()
for _ in range(count):
    try:
        with socket.create_connection((host, int(port)), timeout=patience) as connection:
            connection.sendall(request)
            reply = b""
            while chunk := connection.recv(65536):
                reply += chunk
        match = re.search(rb"(?im)^x-backend: (\w+)", reply)
        answers[match.group(1).decode() if match else "no header"] += 1
    except OSError as error:
        answers[f"failed: {error}"] += 1
print(json.dumps(answers))
