"""weir-l7 as scanners and slow clients see it that others wrote: testssl.sh, sslscan, slowhttptest."""

import re
import threading
import time
import xml.etree.ElementTree

from tlscase import *

# Of testssl.sh, findings above LOW that are about this test's own certificates and not about what
# serves them: an authority that nobody knows, and nothing about revocation but a stapled response.
OWN_CHAIN = re.compile(r"cert_(chain_of_trust|revocation|caIssuers|crl)")
# What it says about the machine that it runs on: it knows no GOST.
OWN_MACHINE = ("engine_problem",)
SEVERE = ("MEDIUM", "HIGH", "CRITICAL", "WARN", "FATAL")
# testssl.sh asks for a session by an s_client that has nothing to say and so leaves at once. Whether a ticket of
# TLS 1.3, which follows the handshake, has come by then is chance: this one stays for half a second.
PATIENT_OPENSSL = """#!/bin/sh
case " $* " in
  *" -sess_out "*) { cat; sleep 0.5; } | /usr/bin/openssl "$@" ;;
  *) exec /usr/bin/openssl "$@" ;;
esac
"""
SLOW_SECONDS = 15  # heads are waited for 10 s


class Scanners(TlsCase):

    def test_testssl_finds_nothing_above_low(self):
        openssl = self.lab.directory / "openssl"
        openssl.write_text(PATIENT_OPENSSL)
        openssl.chmod(0o755)
        report = self.lab.directory / "testssl.json"
        done = self.lab.run_in(
            "client", "testssl", "--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none",
            "--openssl", openssl, "--add-ca", self.made.path("root.crt"),
            "-p", "-s", "-f", "-P", "-S", "-U", "--jsonfile", report, "--ip", VIP_EDGE4,
            "api.shop.example:443", check=False, timeout=280)
        findings = json.loads(report.read_text())
        offered = {row["id"]: row["finding"] for row in findings}
        for version in ("SSLv2", "SSLv3", "TLS1", "TLS1_1"):
            self.assertIn("not offered", offered[version], done.stdout)
        for version in ("TLS1_2", "TLS1_3"):
            self.assertRegex(offered[version], "^offered", done.stdout)
        severe = [row for row in findings if row["severity"] in SEVERE
                  and not OWN_CHAIN.match(row["id"]) and row["id"] not in OWN_MACHINE]
        self.assertEqual(severe, [])
        self.assertGreater(len(findings), 60)  # a scan that was cut short finds nothing either
        print(f"testssl.sh: {len(findings)} findings, none above LOW but of the test's own chain")

    def test_sslscan_sees_two_versions_and_no_weakness(self):
        report = self.lab.directory / "sslscan.xml"
        self.lab.run_in("client", "sslscan", "--no-colour", "--show-sigs", f"--xml={report}",
                        "--sni-name=api.shop.example", f"{VIP_EDGE4}:443", timeout=120)
        seen = xml.etree.ElementTree.parse(report).getroot().find("ssltest")
        versions = {(row.get("type") + row.get("version")): row.get("enabled")
                    for row in seen.findall("protocol")}
        self.assertEqual(versions, {"ssl2": "0", "ssl3": "0", "tls1.0": "0", "tls1.1": "0",
                                    "tls1.2": "1", "tls1.3": "1"})
        for row in seen.findall("compression"):  # none where the scanner's OpenSSL has none
            self.assertEqual(row.get("supported"), "0")
        self.assertEqual(seen.find("renegotiation").get("supported"), "0")
        self.assertEqual({row.get("vulnerable") for row in seen.findall("heartbleed")}, {"0"})
        ciphers = [(row.get("sslversion"), row.get("cipher")) for row in seen.findall("cipher")]
        self.assertGreaterEqual(len(ciphers), 6)
        for version, cipher in ciphers:
            pattern = "^TLS_(AES|CHACHA20)" if version == "TLSv1.3" else "^ECDHE-.*(GCM|CHACHA20)"
            self.assertRegex(cipher, pattern)
        self.assertEqual({row.get("name") for row in seen.findall("group")},
                         {"x25519", "secp256r1 (NIST P-256)", "secp384r1 (NIST P-384)"})

    # ---- slow clients -------------------------------------------------------------------------

    def probe(self, stop, waits):
        """Somebody who is not slow, ten times a second; how long each answer took."""
        while not stop.wait(0.1):
            done = self.ask("/told", "-o", "/dev/null", "-w", "%{http_code} %{time_total}",
                            "--max-time", "5", port=8080, host="any.example", check=False)
            code, _, seconds = done.stdout.rpartition("\n")[2].partition(" ")
            if code != "200":
                print(f"beside slow clients: {done.stdout!r} {done.stderr!r}")
            waits.append(float(seconds) if code == "200" else float("inf"))

    def slow(self, *options):
        stop, waits = threading.Event(), []
        accepted = self.total("http.connections_accepted")
        prober = threading.Thread(target=self.probe, args=(stop, waits))
        prober.start()
        try:
            done = self.lab.run_in(
                "client", "slowhttptest", *options, "-c", 1000, "-r", 400, "-i", 3, "-p", 3,
                "-l", SLOW_SECONDS, timeout=SLOW_SECONDS + 60, check=False)
        finally:
            stop.set()
            prober.join()
        text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
        answers = re.findall(r"service available:\s*(\w+)", text)
        self.assertGreater(len(answers), 0, text)
        self.assertEqual(set(answers), {"YES"}, text)
        self.assertGreater(self.total("http.connections_accepted") - accepted - len(waits), 950, text)
        self.assertGreater(len(waits), 20)
        print(f"slowhttptest {options[0]}: {len(waits)} requests beside it, the slowest answered "
              f"after {1000 * max(waits):.0f} ms")
        self.assertLess(max(waits), 2)
        self.all_is_let_go()

    def total(self, counter):
        return sum(worker[counter] for worker in self.stats())

    def all_is_let_go(self):
        wait_until("the slow connections to end", lambda: self.total("http.connections") == 0, 40)
        self.assertEqual(self.total("http.buffers"), 0)

    def test_slow_heads_keep_nobody_waiting(self):
        self.slow("-H", "-u", f"http://{VIP_EDGE4}:8080/told")

    def test_slow_bodies_keep_nobody_waiting(self):
        # To where a body is waited for.
        self.slow("-B", "-t", "PUT", "-u", f"http://{VIP_EDGE4}:8080/told/sink/a", "-s", 8192)

    def test_ranges_keep_nobody_waiting(self):
        self.slow("-R", "-u", f"http://{VIP_EDGE4}:8080/told", "-a", 10, "-b", 3000)

    def test_slow_readers_keep_nobody_waiting(self):
        self.slow("-X", "-u", f"http://{VIP_EDGE4}:8080/told", "-k", 3, "-w", 1, "-y", 64,
                  "-n", 2, "-z", 8)


if __name__ == "__main__":
    main()
