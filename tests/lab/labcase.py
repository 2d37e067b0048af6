"""What the lab's test scripts share: one lab for a class of tests, and the configurations."""

import collections
import hashlib
import json
import os
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools" / "lab"))
import weirlab  # noqa: E402 the path comes first
from weirlab import *  # noqa: E402,F401,F403 the lab's words are the tests' words


def need_root():
    """Skips the class, with the word that the runner looks for."""
    if os.geteuid() != 0:
        print("SKIPPED: the lab needs root, because it makes network namespaces")
        raise unittest.SkipTest("not root")


class LabCase(unittest.TestCase):
    """Builds one lab for all tests of the class. Whatever fails while building is a failure of the
    class, with the log of the daemons."""

    IMPAIRED = False
    L7 = False

    @classmethod
    def setUpClass(cls):
        need_root()
        cls.lab = weirlab.Lab(f"weirtest{os.getpid()}")
        cls.addClassCleanup(cls.lab.close)
        try:
            cls.lab.build(impaired=cls.IMPAIRED)
            cls.lab.receive_redirected("fabric", "node")
            cls.start_backends()
            cls.lab.start_l4()
            cls.prepare()
        except BaseException:
            for daemon in ("weir-l4", "weir-l7"):
                print(f"--- {daemon}\n{cls.lab.log(daemon)}", file=sys.stderr)
            raise

    @classmethod
    def start_backends(cls):
        cls.lab.start_backends()

    @classmethod
    def prepare(cls):
        """Brings the class's own configuration up."""

    # ---- measuring ----------------------------------------------------------------------------

    def connect_many(self, count, target, path="/", patience=5, first_port=None):
        """Makes `count` TCP connections, one request each, and counts which backend answered. Without
        `first_port` from any ports, which may have been used before."""
        script = pathlib.Path(__file__).with_name("connect_many.py")
        done = self.lab.run_in("client", "python3", script, target, path, str(count),
                               str(patience), *([] if first_port is None else [first_port]),
                               timeout=120)
        return collections.Counter(json.loads(done.stdout))

    def assert_share(self, counts, name, share, tolerance):
        total = sum(counts.values())
        measured = counts[name] / total
        self.assertAlmostEqual(measured, share, delta=share * tolerance,
                               msg=f"{name} got {measured:.3f} of {total}: {dict(counts)}")


def json_lines(text):
    """What a program has said in lines of JSON, among others."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def sha256(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def l4_config(extra=""):
    def backends(family):
        address = weirlab.backend4 if family == 4 else weirlab.backend6
        return ", ".join(f'{{name: {b}, address: "{address(b)}"}}' for b in weirlab.BACKENDS)

    return f"""version: 1
node:
  interfaces: [eth0]
  xdpMode: native
vips:
- {{name: web4, address: {VIP_WEB4}, port: 80, protocol: TCP, forward: {{mode: ipip}}, backends: [{backends(4)}]}}
- {{name: web6, address: "{VIP_WEB6}", port: 80, protocol: TCP, forward: {{mode: ipip}}, backends: [{backends(6)}]}}
- {{name: dns4, address: {VIP_DNS4}, port: 53, protocol: UDP, forward: {{mode: ipip}}, backends: [{backends(4)}]}}
- {{name: dns6, address: "{VIP_DNS6}", port: 53, protocol: UDP, forward: {{mode: ipip}}, backends: [{backends(4)}]}}
- {{name: direct, address: {VIP_L2}, port: 80, protocol: TCP, forward: {{mode: l2}}, backends: [{backends(4)}]}}
{extra}"""


def l7_config(directory, users="b3", extra_rules=""):
    def endpoints(names, port):
        return ", ".join(f'"{weirlab.backend4(n)}:{port}"' for n in names.split())

    return f"""version: 1
node:
  interfaces: [eth0]
  xdpMode: native
  l7: {{workers: 1, addresses: [{L7_4}/24, "{L7_6}/64"]}}
gateways:
- name: edge
  addresses: [{VIP_EDGE4}, "{VIP_EDGE6}"]
  listeners:
  - {{name: http, port: 80, protocol: HTTP, redirectTo: https}}
  - {{name: plain, port: 8080, protocol: HTTP}}
  - {{name: https, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{file: {directory}/shop.pem}}, {{file: {directory}/admin.pem}}]}}}}
  limits: {{bodyBytes: 64Mi}}
services:
  cart: {{endpoints: [{endpoints("b1 b2", 8080)}]}}
  users: {{endpoints: [{endpoints(users, 8081)}]}}
  six: {{endpoints: ["[{weirlab.backend6('b4')}]:8081"]}}
  gone: {{endpoints: ["{weirlab.backend4('b1')}:9"]}}
httpRoutes:
- name: shop
  parentRefs: [{{name: edge}}]
  hostnames: ["*.shop.example"]
  rules:
  - {{name: cart, matches: [{{path: {{prefix: /cart}}}}], backendRefs: [{{name: cart}}]}}
  - {{name: users, matches: [{{path: {{prefix: /users}}}}], backendRefs: [{{name: users}}]}}
  - {{name: six, matches: [{{path: {{prefix: /six}}}}], backendRefs: [{{name: six}}]}}
  - {{name: gone, matches: [{{path: {{prefix: /gone}}}}], backendRefs: [{{name: gone}}]}}
  - {{name: split, matches: [{{path: {{prefix: /split}}}}], backendRefs: [{{name: cart, weight: 3}}, {{name: users, weight: 1}}]}}
{extra_rules}"""


def main():
    result = unittest.main(exit=False).result
    passed = result.testsRun - len(result.failures) - len(result.errors) - len(result.skipped)
    # A class that could not be set up is an error of no test, and would be subtracted.
    print(f"{max(passed, 0)} passed, {len(result.failures) + len(result.errors)} failed, "
          f"{len(result.skipped)} skipped")
    sys.exit(0 if result.wasSuccessful() and result.testsRun > 0 else 1)
