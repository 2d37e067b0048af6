"""Both ends of gRPC by Debian's grpcio: all four kinds of calls, with bytes for messages.

    grpc_peer.py serve PORT
    grpc_peer.py call TARGET AUTHORITY [CERTIFICATE]      one line of JSON
    grpc_peer.py load TARGET AUTHORITY SECONDS SEED       calls of all kinds, some of them cancelled; likewise
"""

import concurrent.futures
import json
import random
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
            "Cut": grpc.unary_stream_rpc_method_handler(self.cut),
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
    def cut(request, context):
        while context.is_active():
            yield request

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


def load(target, authority, seconds, seed):
    seeded = random.Random(int(seed))
    channel = grpc.insecure_channel(target, [("grpc.default_authority", authority)])
    path = f"/{SERVICE}/"
    counts, failures = {"done": 0, "cut": 0}, []

    def unary():
        message = seeded.randbytes(seeded.randrange(100_000))
        return channel.unary_unary(path + "Unary")(message, timeout=30) == message[::-1]

    def up():
        messages = [b"u" * seeded.randrange(5000) for _ in range(seeded.randrange(100))]
        reply = channel.stream_unary(path + "Up")(iter(messages), timeout=30)
        return int(reply) == sum(map(len, messages))

    def down():
        return len(list(channel.unary_stream(path + "Down")(b"d" * 1000, timeout=30))) == 100

    def both():
        messages = [b"abc" * seeded.randrange(1000) for _ in range(seeded.randrange(50))]
        replies = list(channel.stream_stream(path + "Both")(iter(messages), timeout=30))
        return replies == [message.upper() for message in messages]

    def cut():
        stream = channel.unary_stream(path + "Cut")(b"c" * seeded.randrange(1, 50_000), timeout=30)
        for _ in range(seeded.randrange(1, 20)):
            next(stream)
        stream.cancel()
        counts["cut"] += 1
        counts["done"] -= 1  # is counted as the others are
        return True

    deadline = time.monotonic() + float(seconds)
    while time.monotonic() < deadline:
        kind = seeded.choice((unary, up, down, both, cut))
        try:
            if not kind():
                failures.append(f"{kind.__name__}: another answer")
        except grpc.RpcError as error:
            failures.append(f"{kind.__name__}: {error.code().name} {error.details()}")
        counts["done"] += 1
    channel.close()
    print(json.dumps({**counts, "failures": failures[:20]}))


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
    {"serve": serve, "call": call, "load": load}[sys.argv[1]](*sys.argv[2:])
