"""A question from a host of a laboratory, without a process in it."""

import os
import socket


def ask(lab, host, address, port, request, seconds=5.0):
    """Everything that is answered until the connection ends, or why there is none."""
    with lab.inside(host):  # a socket stays where it was made
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with made:
        made.settimeout(seconds)
        try:
            made.connect((address, port))
            made.sendall(request)
            answer = b""
            while part := made.recv(65536):
                answer += part
        except OSError as error:
            return f"no answer: {os.strerror(error.errno) if error.errno else error}".encode()
        return answer
