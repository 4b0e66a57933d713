"""A server of gRPC, and a client that makes every kind of call through the gate. Messages are bytes: no schema is needed for them.

calls.py serve PORT SAID    serves until it is killed; writes a line to the file SAID when a call is cancelled
calls.py call PORT CA       calls t.example at this port of loopback, and writes what came of it as JSON
calls.py fail PORT CA       makes one call, and writes its status
"""

import json
import sys
import time
from concurrent import futures

import grpc


def unary(request, context):
    context.set_trailing_metadata([("x-end", "trailer"), ("x-bin-bin", bytes([0, 255]))])
    context.send_initial_metadata([("x-begin", dict(context.invocation_metadata()).get("x-said", "nothing"))])
    return request


def stream(request, context):
    for number in range(int(request)):
        yield b"%d" % number + b"." * 1000


def collect(requests, context):
    return b"%d" % sum(len(request) for request in requests)


def chat(requests, context):
    for request in requests:
        yield b"you said " + request


def fail(request, context):
    context.set_trailing_metadata([("x-why", "it is gone")])
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: é")


class Calls(grpc.GenericRpcHandler):
    def __init__(self, said):
        self.said = said

    def wait(self, request, context):
        def cancelled():
            with open(self.said, "a") as said:
                said.write("cancelled\n")

        context.add_callback(cancelled)
        while context.is_active():
            time.sleep(0.02)
        return b""

    def service(self, details):
        return {
            "/t.Calls/Unary": grpc.unary_unary_rpc_method_handler(unary),
            "/t.Calls/Stream": grpc.unary_stream_rpc_method_handler(stream),
            "/t.Calls/Collect": grpc.stream_unary_rpc_method_handler(collect),
            "/t.Calls/Chat": grpc.stream_stream_rpc_method_handler(chat),
            "/t.Calls/Fail": grpc.unary_unary_rpc_method_handler(fail),
            "/t.Calls/Wait": grpc.unary_unary_rpc_method_handler(self.wait),
        }.get(details.method)


def serve(port, said):
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([Calls(said)])
    server.add_insecure_port("127.0.0.1:%s" % port)
    server.start()
    server.wait_for_termination()


def channel(port, authority):
    with open(authority, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    options = [("grpc.ssl_target_name_override", "t.example"), ("grpc.default_authority", "t.example")]
    return grpc.secure_channel("127.0.0.1:%s" % port, credentials, options=options)


def status(make):
    try:
        make()
        return ["OK"]
    except grpc.RpcError as error:
        return [error.code().name, error.details(), dict(error.trailing_metadata() or ())]


def call(port, authority):
    opened = channel(port, authority)
    answer, done = opened.unary_unary("/t.Calls/Unary").with_call(b"hello", timeout=15, metadata=[("x-said", "this")])
    large = b"0123456789" * 300_000
    words = iter([b"one", b"two", b"three"])
    said = []

    def speak():
        # Each word waits for the answer to the one before: neither side may be held back until the other has ended.
        for number, word in enumerate(words):
            while len(said) < number:
                time.sleep(0.01)
            yield word

    for reply in opened.stream_stream("/t.Calls/Chat")(speak(), timeout=15):
        said.append(reply.decode())
    streamed = list(opened.unary_stream("/t.Calls/Stream")(b"500", timeout=15))
    pieces = (b"x" * 1000 for _ in range(500))
    print(
        json.dumps(
            {
                "unary": answer.decode(),
                "begin": dict(done.initial_metadata()).get("x-begin"),
                "end": dict(done.trailing_metadata()).get("x-end"),
                "binary": list(dict(done.trailing_metadata()).get("x-bin-bin", b"")),
                "large": opened.unary_unary("/t.Calls/Unary")(large, timeout=15) == large,
                "streamed": [len(streamed), streamed[-1][:3].decode()],
                "collected": opened.stream_unary("/t.Calls/Collect")(pieces, timeout=15).decode(),
                "chat": said,
                "fail": status(lambda: opened.unary_unary("/t.Calls/Fail")(b"", timeout=15)),
                "unknown": status(lambda: opened.unary_unary("/t.Calls/None")(b"", timeout=15))[0],
                "late": status(lambda: opened.unary_unary("/t.Calls/Wait")(b"", timeout=0.5))[0],
            }
        )
    )


def fail_once(port, authority):
    print(json.dumps(status(lambda: channel(port, authority).unary_unary("/t.Calls/Unary")(b"", timeout=15))[0]))


{"serve": serve, "call": call, "fail": fail_once}[sys.argv[1]](*sys.argv[2:])
