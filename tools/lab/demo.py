"""The demo: one request from the NIC to the backend, and what an operator sees of it."""

import collections
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import time

import weirlab
from weirlab import (BACKENDS, CLIENT4, L7_4, L7_6, NODE4, VIP_DNS4, VIP_DNS6, VIP_EDGE4, VIP_EDGE6,
                     VIP_L2, VIP_WEB4, VIP_WEB6, Lab, LabError, backend4, backend6, wait_until)

COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ
WIDTH = min(shutil.get_terminal_size((100, 24)).columns, 100)


def paint(code, text):
    return f"\033[{code}m{text}\033[0m" if COLOUR else text


def title(text):
    print(f"\n{paint('1;36', '── ' + text + ' ')}{paint('36', '─' * max(0, WIDTH - len(text) - 4))}")


def say(text=""):
    print(f"   {text}", flush=True)


def command(text):
    say(paint("2", "$ ") + paint("1", text))


def indent(text):
    for line in text.rstrip().splitlines():
        say(line)


def good(text):
    say(paint("32", "✓ ") + text)


def require(condition, what):
    if not condition:
        raise LabError(f"the demo expected: {what}")
    good(what)


PICTURE = f"""
   client {CLIENT4} ── fabric ──┬── node {NODE4}:  eth0 ─ XDP ─┬─ IPIP / MAC rewrite ─► b1 … b4
                                    │                             └─ weir-l7 (DPDK, TCP, TLS, HTTP) ─► b1 … b4
                                    └── b1 … b4 {backend4('b1')}-{backend4('b4')[-2:]}: nginx, dnsmasq
"""


def configuration(directory):
    def backends(address):
        return ", ".join(f'{{name: {b}, address: "{address(b)}"}}' for b in BACKENDS)

    return f"""version: 1
node:
  interfaces: [eth0]
  xdpMode: native
  l7: {{workers: 1, addresses: [{L7_4}/24, "{L7_6}/64"]}}

vips:                        # L4: forwarded in XDP, answered by the backends directly
- {{name: web, address: {VIP_WEB4}, port: 80, protocol: TCP, forward: {{mode: ipip}}, backends: [{backends(backend4)}]}}
- {{name: web6, address: "{VIP_WEB6}", port: 80, protocol: TCP, forward: {{mode: ipip}}, backends: [{backends(backend6)}]}}
- {{name: dns, address: {VIP_DNS4}, port: 53, protocol: UDP, forward: {{mode: ipip}}, backends: [{backends(backend4)}]}}
- {{name: dns6, address: "{VIP_DNS6}", port: 53, protocol: UDP, forward: {{mode: ipip}}, backends: [{backends(backend4)}]}}
- {{name: direct, address: {VIP_L2}, port: 80, protocol: TCP, forward: {{mode: l2}}, backends: [{backends(backend4)}]}}

gateways:                    # L7: terminated by weir-l7
- name: edge
  addresses: [{VIP_EDGE4}, "{VIP_EDGE6}"]
  listeners:
  - {{name: http, port: 80, protocol: HTTP, redirectTo: https}}
  - {{name: https, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{file: {directory}/shop.pem}}, {{file: {directory}/admin.pem}}]}}}}

services:
  cart: {{endpoints: ["{backend4('b1')}:8080", "{backend4('b2')}:8080"]}}
  users: {{endpoints: ["[{backend6('b3')}]:8081", "{backend4('b4')}:8081"]}}

httpRoutes:
- name: shop
  parentRefs: [{{name: edge, sectionName: https}}]
  rules:
  - {{name: cart, matches: [{{path: {{prefix: /cart}}}}], backendRefs: [{{name: cart}}]}}
  - {{name: users, matches: [{{path: {{prefix: /users}}}}], backendRefs: [{{name: users}}]}}
"""


class Demo:

    def __init__(self, lab):
        self.lab = lab

    def records(self):
        path = self.lab.directory / "access.log"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def weir(self, *arguments):
        command("weir " + " ".join(arguments))
        out = self.lab.weir(*arguments).stdout
        indent(out)
        return out

    def set_up(self):
        title("A data centre in network namespaces")
        print(PICTURE)
        self.lab.build()
        self.lab.receive_redirected("fabric", "node")
        self.lab.start_backends()
        self.lab.make_certificates()
        good("client, node, fabric and four backends with nginx and dnsmasq are up")
        self.lab.start_l4()
        config = self.lab.write_config(configuration(self.lab.directory))
        command("weir-l4 &  weir apply -f weir.yaml  weir-l7 --config weir.yaml &")
        self.lab.weir("apply", "-f", config)
        self.lab.start_l7(config)
        wait_until("next hops", lambda: self.lab.weir_json(
            "status")["weir-l4"]["backends_unresolved"] == 0)
        good("the XDP program is on the node's eth0, both daemons run")

    def operator(self):
        title("What an operator sees")
        self.weir("status")
        self.weir("vip", "list")

    def https(self):
        title("HTTPS through VIP → XDP → DPDK → service")
        for host, path, vip, option in (
                ("api.shop.example", "/cart/1", VIP_EDGE4, "--tlsv1.3"),
                ("api.shop.example", "/users/1", VIP_EDGE4, "--tlsv1.3"),
                ("shop.example", "/cart/2", f"[{VIP_EDGE6}]", "--tls-max=1.2"),
                ("admin.example", "/users/2", VIP_EDGE4, "--tlsv1.3")):
            command(f"curl -k {option} --resolve {host}:443:{vip} https://{host}{path}")
            body = self.lab.curl("-k", *option.split("="), "--resolve", f"{host}:443:{vip}",
                                 f"https://{host}{path}").stdout
            indent(body)
            row = wait_until("the access log", lambda p=path: [
                r for r in self.records() if r["target"] == p])[-1]
            say(f"certificate {row['certificate']} · {row['tls']} {row['cipher']} · VIP {row['vip']}")
            say(f"route {row['route']}/{row['rule']} → service {row['service']} → backend "
                f"{row['endpoint']} · {row['duration_us']} µs")
            want = "cart" if "/cart" in path else "users"
            require(row["service"] == want and want in body, f"{path} was served by {want}")
        command(f"curl -i http://shop.example/cart   (port 80 of {VIP_EDGE4})")
        reply = self.lab.curl("-i", "--resolve", f"shop.example:80:{VIP_EDGE4}",
                              "http://shop.example/cart").stdout
        require("Location: https://shop.example/cart" in reply, "plain HTTP is redirected to HTTPS")

    def spread(self):
        title("L4: spread over the backends by IPIP, answered directly")
        for name, vip in (("TCP, IPv4, ipip", VIP_WEB4), ("TCP, IPv6, ipip", f"[{VIP_WEB6}]"),
                          ("TCP, IPv4, l2", VIP_L2)):
            counts = collections.Counter()
            for _ in range(40):
                head = self.lab.curl("-o", "/dev/null", "-D", "-", f"http://{vip}/").stdout
                counts[re.search(r"x-backend: (\w+)", head).group(1)] += 1
            self.show_spread(name, f"{vip}:80", counts)
        for name, vip in (("UDP, IPv4, ipip", VIP_DNS4), ("UDP, IPv6 over IPv4", VIP_DNS6)):
            counts = collections.Counter()
            for _ in range(40):
                done = self.lab.run_in("client", "dig", "+short", "TXT", "who.weir.test", f"@{vip}")
                counts[done.stdout.strip().strip('"')] += 1
            self.show_spread(name, f"{vip} port 53", counts)

    @staticmethod
    def show_spread(name, target, counts):
        shares = "  ".join(f"{b} {'█' * counts[b]} {counts[b]}" for b in BACKENDS)
        say(f"{name:20} {target}")
        say(f"{'':20} {shares}")
        if set(counts) != set(BACKENDS) or sum(counts.values()) != 40:
            raise LabError(f"{name}: not all backends answered: {dict(counts)}")

    def kill(self):
        title("The daemon is killed in the middle of a download")
        target = self.lab.directory / "download"
        command(f"curl -o file http://{VIP_WEB4}/files/64MiB &")
        client = self.lab.start("download", "client", "curl", "-sS", "--limit-rate", "40M", "-o",
                                target, f"http://{VIP_WEB4}/files/64MiB")
        wait_until("the download to begin",
                   lambda: target.exists() and target.stat().st_size > 1 << 20)
        pid = self.lab.processes["weir-l4"].pid
        at = target.stat().st_size
        self.lab.stop("weir-l4", signal.SIGKILL)
        command(f"kill -9 {pid}   # weir-l4, after {at >> 20} MiB")
        require(client.poll() is None, "the download was still running when weir-l4 died")
        code = client.wait(60)
        self.lab.processes.pop("download")
        digests = [hashlib.sha256(p.read_bytes()).hexdigest()
                   for p in (target, self.lab.directory / "www" / "64MiB")]
        require(code == 0 and digests[0] == digests[1],
                f"64 MiB arrived whole without a daemon, sha256 {digests[0][:16]}…")
        self.lab.start_l4()
        good("weir-l4 is back and has adopted what is pinned")

    def throughput(self):
        title("A few seconds of load")
        for name, arguments in (
                ("HTTPS, kept alive, through weir-l7",
                 (f"--connect-to={VIP_EDGE4}:443", "https://shop.example/cart")),
                ("HTTP through the L4 VIP to nginx", (f"http://{VIP_WEB4}/",))):
            out = self.lab.run_in("client", "h2load", "--h1", "-t1", "-c32", "-D3",
                                  *arguments).stdout
            rate = re.search(r"finished in [\d.]+s, ([\d.]+) req/s", out).group(1)
            outcome = re.search(r"requests: .* (\d+) succeeded, (\d+) failed", out)
            say(f"{name:40} {float(rate):>10,.0f} requests/s   {outcome.group(2)} failed")
            if outcome.group(2) != "0":
                raise LabError(f"{name}: {outcome.group(0)}")
        say("(client, proxy and servers share this machine's cores; see bench/ for measurements)")

    def accounts(self):
        title("Every packet is accounted for")
        self.weir("stats")
        counted, received = wait_until("the counters to agree", self.agreeing_counters)
        require(counted == received, f"the verdict counters add up to the {received} packets that the "
                "device's driver gave to XDP")

    def agreeing_counters(self):
        """Sum of the verdicts and the driver's own count; a stray ARP may come between two looks."""
        counted = sum(row["packets"] for row in self.lab.weir_json("stats")["verdicts"])
        driver = self.lab.run_in("node", "ethtool", "-S", "eth0").stdout
        received = sum(int(n) for n in re.findall(r"rx_queue_\d+_xdp_packets: (\d+)", driver))
        return (counted, received) if counted == received else None


def main():
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(143))
    began = time.monotonic()
    try:
        with Lab("weirdemo") as lab:
            demo = Demo(lab)
            try:
                demo.set_up()
                demo.operator()
                demo.https()
                demo.spread()
                demo.kill()
                demo.throughput()
                demo.accounts()
            except LabError as error:
                print(f"\ndemo: {error}", file=sys.stderr)
                for daemon in ("weir-l4", "weir-l7"):
                    print(f"--- {daemon}\n{lab.log(daemon)[-3000:]}", file=sys.stderr)
                return 1
            title("Done")
            good(f"namespaces, daemons and pins are removed; {time.monotonic() - began:.0f} s")
    except LabError as error:  # before there was a lab, or at its end
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; everything is removed", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
