"""Holds a daemon to its OpenAPI description, both ways: whatever is answered must be described, and
whatever is described must have been answered."""

import contextlib
import http.client
import json
import socket
import urllib.parse

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int,
         "number": (int, float), "null": type(None)}
# What only people read.
ANNOTATIONS = {"description", "components"}


def is_type(value, name):
    if isinstance(value, bool) and name != "boolean":
        return False
    return isinstance(value, TYPES[name])


def mistakes(schema, value, resolve, where="the body"):
    """What of the value the schema does not allow (JSON Schema 2020-12). A keyword that is not known
    here is a mistake too, so that none is passed over in silence."""
    for keyword, wanted in schema.items():
        if keyword in ANNOTATIONS:
            continue
        if keyword == "$ref":
            yield from mistakes(resolve(schema), value, resolve, where)
        elif keyword == "type":
            if not any(is_type(value, name) for name in ([wanted] if isinstance(wanted, str) else wanted)):
                yield f"{where} is {json.dumps(value)[:80]}, not {wanted}"
                return
        elif keyword == "enum":
            if value not in wanted:
                yield f"{where} is {value!r}, not one of {wanted}"
        elif keyword == "const":
            if value != wanted:
                yield f"{where} is {value!r}, not {wanted!r}"
        elif keyword == "anyOf":
            if all(list(mistakes(choice, value, resolve, where)) for choice in wanted):
                yield f"{where} is {json.dumps(value)[:200]}, which is none of its forms"
        elif keyword in ("minimum", "maximum", "minItems", "maxItems"):
            amount = value if not keyword.endswith("Items") else None if value is None else len(value)
            if amount is not None and (amount < wanted if keyword.startswith("min") else amount > wanted):
                yield f"{where} is beyond its {keyword} of {wanted}"
        elif keyword == "items":
            for number, item in enumerate(value if isinstance(value, list) else ()):
                yield from mistakes(wanted, item, resolve, f"{where}[{number}]")
        elif keyword == "required":
            for member in wanted:
                if member not in value:
                    yield f"{where} lacks '{member}'"
        elif keyword == "properties":
            for member, inner in wanted.items():
                if member in value:
                    yield from mistakes(inner, value[member], resolve, f"{where}.{member}")
        elif keyword == "additionalProperties":
            for member in set(value) - set(schema.get("properties", {})):
                if wanted is False:
                    yield f"{where} has '{member}', which is not described"
                else:
                    yield from mistakes(wanted, value[member], resolve, f"{where}.{member}")
        else:
            yield f"the schema of {where} has '{keyword}', which is not known here"


def media_type(content_type):
    return content_type.partition(";")[0]


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=70):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Described:
    """The description, and what of it was seen so far."""

    def __init__(self, text):
        self.document = json.loads(text)
        self.operations = {(method.upper(), path): operation
                           for path, item in self.document["paths"].items()
                           for method, operation in item.items()}
        self.seen_statuses = set()  # (method, path, status)
        self.seen_members = set()   # (schema, member)
        self.sent_members = set()
        self.sent_parameters = set()  # (method, path, name)

    def resolve(self, node):
        while "$ref" in node:
            target = self.document
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = target
        return node

    def validate(self, schema, value):
        found = list(mistakes(schema, value, self.resolve))
        assert not found, "; ".join(found)

    def note(self, schema, value, seen):
        """Which described members are there, by the name of the schema that has them."""
        name = schema.get("$ref", "").rsplit("/", 1)[-1]
        for choice in schema.get("anyOf", []):
            if value is not None and not any(mistakes(choice, value, self.resolve)):
                self.note(choice, value, seen)
        schema = self.resolve(schema)
        if isinstance(value, list) and "items" in schema:
            for item in value:
                self.note(schema["items"], item, seen)
        if isinstance(value, dict):
            for member, inner in schema.get("properties", {}).items():
                if member in value:
                    seen.add((name, member))
                    self.note(inner, value[member], seen)

    def check_request(self, method, path, query, body):
        operation = self.operations[method, path]
        parameters = {p["name"]: p for p in operation.get("parameters", [])}
        for name in query:
            assert name in parameters, f"{method} {path}: the query's '{name}' is not described"
            self.sent_parameters.add((method, path, name))
        if body is not None:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            self.validate(schema, body)
            self.note(schema, body, self.sent_members)

    def check_reply(self, method, path, status, content_type, value):
        responses = self.operations[method, path]["responses"]
        key = str(status) if str(status) in responses else "default"
        assert status < 400 or key != "default" or status >= 500 or status in (400, 404, 405), \
            f"{method} {path}: status {status} is not described"
        response = self.resolve(responses[key])
        media = media_type(content_type)
        assert media in response["content"], f"{method} {path}: {status} is {content_type}"
        schema = response["content"][media]["schema"]
        self.validate(schema, value)
        self.note(schema, value, self.seen_members)
        self.seen_statuses.add((method, path, key))

    def unseen(self, but=()):
        """What is described and was never answered or sent."""
        missing = [f"{method} {path}: {status}" for (method, path), operation in self.operations.items()
                   for status in operation["responses"]
                   if status != "default" and (method, path, status) not in self.seen_statuses]
        missing += [f"{method} {path}?{parameter['name']}"
                    for (method, path), operation in self.operations.items()
                    for parameter in operation.get("parameters", [])
                    if (method, path, parameter["name"]) not in self.sent_parameters]
        for name, schema in self.document["components"]["schemas"].items():
            for member in schema.get("properties", {}):
                if (name, member) not in self.seen_members | self.sent_members:
                    missing.append(f"{name}.{member}")
        return [line for line in missing if line not in but]


class Client:
    """Asks a daemon, and fails where the description does not fit."""

    def __init__(self, socket_path):
        self.socket_path = socket_path
        self.described = Described(self.raw("GET", "/v1/openapi.json")[2])

    def raw(self, method, target, body=None, headers=None):
        connection = UnixConnection(self.socket_path)
        try:
            connection.request(method, target, body=body, headers=headers or {})
            reply = connection.getresponse()
            return reply.status, dict(reply.getheaders()), reply.read().decode()
        finally:
            connection.close()

    def ask(self, method, path, expected, /, body=None, wrong=None, **query):
        """`wrong` is a body, or a query, that the description does not allow."""
        if wrong is None:
            self.described.check_request(method, path, query, body)
        target = path + ("?" + urllib.parse.urlencode(query) if query else "")
        sent = body if wrong is None else wrong
        status, fields, text = self.raw(
            method, target, None if sent is None or sent is True else json.dumps(sent),
            {"Content-Type": "application/json"})
        assert status == expected, f"{method} {target}: {status} instead of {expected}: {text}"
        is_json = media_type(fields["Content-Type"]).endswith("json")
        value = json.loads(text) if is_json else text
        self.described.check_reply(method, path, status, fields["Content-Type"], value)
        return value

    @contextlib.contextmanager
    def lines(self, path, **query):
        """Of a reply that goes on: an iterator, for as long as the block lasts."""
        self.described.check_request("GET", path, query, None)
        connection = UnixConnection(self.socket_path)
        try:
            connection.request("GET", path + "?" + urllib.parse.urlencode(query))
            with connection.getresponse() as reply:
                yield self.read_lines(path, reply)
        finally:
            connection.close()

    def read_lines(self, path, reply):
        while text := reply.readline():
            line = json.loads(text)
            self.described.check_reply("GET", path, reply.status, reply.getheader("Content-Type"), line)
            yield line


def self_test():
    """That every kind of mistake is found."""
    node = {"type": "object", "additionalProperties": False, "required": ["a"],
            "properties": {"a": {"type": "integer", "minimum": 1}, "b": {"enum": ["x", None]},
                           "c": {"type": ["array", "null"], "maxItems": 1, "items": {"const": 2}},
                           "d": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}
    cases = [({"a": 1}, 0), ({"a": 1, "b": None, "c": [2], "d": "x"}, 0), ({"a": 1, "c": None}, 0),
             ({}, 1), ({"a": 0}, 1), ({"a": True}, 1), ({"a": "1"}, 1), ({"a": 1, "b": "y"}, 1),
             ({"a": 1, "c": [2, 2]}, 1), ({"a": 1, "c": [3]}, 1), ({"a": 1, "d": 4}, 1),
             ({"a": 1, "e": 4}, 1), ([], 1)]
    for value, count in cases:
        found = list(mistakes(node, value, lambda schema: schema))
        assert len(found) == count, (value, found)
    assert list(mistakes({"pattern": "x"}, "x", lambda schema: schema))
    forms = {name: {"type": "object", "required": [name], "properties": {name: {}, "c": {}}} for name in "ab"}
    either = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in forms]}
    described = Described(json.dumps({"components": {"schemas": forms}, "paths": {"/": {"get": {
        "parameters": [{"name": "q"}, {"name": "r"}],
        "responses": {"200": {"content": {"text/json": {"schema": either}}}}}}}}))
    described.check_request("GET", "/", {"q": 1}, None)
    described.check_reply("GET", "/", 200, "text/json; charset=utf-8", {"a": 1, "c": 1})
    # What was answered in one form says nothing about the other.
    assert described.unseen() == ["GET /?r", "b.b", "b.c"], described.unseen()


self_test()
