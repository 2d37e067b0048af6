"""Both ends of gRPC by Debian's grpcio: all four kinds of calls, with bytes for messages.

    grpc_peer.py serve PORT
    grpc_peer.py call TARGET AUTHORITY [CERTIFICATE]      one line of JSON
"""

import concurrent.futures
import json
import sys
import threading
import time

import grpc

SERVICE = "weir.test.Echo"
PAUSE = threading.Event()  # never set


class Echo(grpc.GenericRpcHandler):

    def service(self, details):
        name = details.method.rsplit("/", 1)[-1]
        if details.method.rsplit("/", 1)[0] != f"/{SERVICE}":
            return None
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Down": grpc.unary_stream_rpc_method_handler(self.down),
            "Up": grpc.stream_unary_rpc_method_handler(self.up),
            "Both": grpc.stream_stream_rpc_method_handler(self.both),
            "Slow": grpc.unary_unary_rpc_method_handler(self.slow),
            "Fails": grpc.unary_unary_rpc_method_handler(self.fails),
        }.get(name)

    @staticmethod
    def unary(request, context):
        context.set_trailing_metadata((("x-size", str(len(request))),))
        return request[::-1]

    @staticmethod
    def down(request, _):
        for i in range(100):
            yield request + str(i).encode()

    @staticmethod
    def up(requests, _):
        return str(sum(len(r) for r in requests)).encode()

    @staticmethod
    def both(requests, _):
        for request in requests:
            yield request.upper()

    @staticmethod
    def slow(request, context):
        for _ in range(100):
            if not context.is_active():
                break
            PAUSE.wait(0.1)
        return request

    @staticmethod
    def fails(_, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today, und äöü")


def serve(port):
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=16))
    server.add_generic_rpc_handlers((Echo(),))
    if server.add_insecure_port(f"[::]:{port}") == 0:
        sys.exit(f"port {port} is taken")
    server.start()
    server.wait_for_termination()


def status_of(call):
    try:
        call()
        return "OK"
    except grpc.RpcError as error:
        return f"{error.code().name} {error.details()}"


def call(target, authority, certificate=None):
    options = [("grpc.default_authority", authority), ("grpc.ssl_target_name_override", authority)]
    if certificate:
        with open(certificate, "rb") as file:
            pem = file.read()
        # The chain alone: what follows is its key.
        pem = pem[:pem.index(b"-----END CERTIFICATE-----") + 26]
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(pem), options)
    else:
        channel = grpc.insecure_channel(target, options)
    path = f"/{SERVICE}/"
    large = bytes(range(256)) * 4000
    reply, done = channel.unary_unary(path + "Unary").with_call(large, timeout=20)
    up = channel.stream_unary(path + "Up")(iter([b"x" * 1000] * 500), timeout=20)
    down = list(channel.unary_stream(path + "Down")(b"n", timeout=20))

    answers = []
    sent = []

    def conversation():
        # Each message waits for the answer to the one before it.
        for i in range(20):
            while len(answers) < i:
                PAUSE.wait(0.001)
            sent.append(i)
            yield f"message {i}".encode()

    for answer in channel.stream_stream(path + "Both")(conversation(), timeout=20):
        answers.append(answer)
    begun = time.monotonic()
    slow = status_of(lambda: channel.unary_unary(path + "Slow")(b"", timeout=0.5))
    waited = time.monotonic() - begun
    print(json.dumps({
        "unary": reply == large[::-1],
        "trailer": dict(done.trailing_metadata()).get("x-size"),
        "up": int(up),
        "down": len(down),
        "both": len(answers) == 20 and answers[-1] == b"MESSAGE 19",
        "slow": slow,
        "waited": waited,
        "fails": status_of(lambda: channel.unary_unary(path + "Fails")(b"", timeout=20)),
        "unknown": status_of(lambda: channel.unary_unary(path + "Nothing")(b"", timeout=20)),
        "no_route": status_of(lambda: channel.unary_unary("/other.Service/Call")(b"", timeout=20)),
        "no_endpoint": status_of(lambda: channel.unary_unary("/gone.Service/Call")(b"", timeout=20)),
    }))


if __name__ == "__main__":
    {"serve": serve, "call": call}[sys.argv[1]](*sys.argv[2:])
