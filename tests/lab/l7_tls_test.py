"""TLS of the running weir-l7, with clients and endpoints that others wrote: openssl, curl, nginx."""

import base64
import ssl
import socket
import time

from tlscase import *

TLS12, TLS13 = "-tls1_2", "-tls1_3"
REQUEST = "GET /told HTTP/1.1\r\nHost: api.shop.example\r\nConnection: close\r\n\r\n"


class Tls(TlsCase):

    # ---- tickets ------------------------------------------------------------------------------

    def full(self, version, host="api.shop.example"):
        """Shakes hands in full and keeps the session; the request is there for a ticket of TLS 1.3 to
        come with."""
        session = self.lab.directory / f"session{version}-{host}"
        said = self.s_client(version, "-ign_eof", "-sess_out", session, host=host,
                             say=REQUEST.replace("api.shop.example", host))
        self.assertIn("New, TLSv1", said)
        self.assertIn("200 OK", said)
        return session

    def again(self, version, session, host="api.shop.example"):
        return self.s_client(version, "-ign_eof", "-sess_in", session, host=host,
                             say=REQUEST.replace("api.shop.example", host))

    def restart(self):
        self.lab.stop("weir-l7")
        self.lab.start_l7(self.config)

    def test_a_ticket_is_good_at_every_worker(self):
        for version in (TLS12, TLS13):
            session = self.full(version)
            before = self.stats()
            for _ in range(40):
                said = self.again(version, session)
                self.assertIn("Reused, TLSv1", said)
                self.assertIn("200 OK", said)
                moved = [after["http.tls_handshakes"] - then["http.tls_handshakes"]
                         for then, after in zip(before, self.stats())]
                if all(moved):
                    break
            self.assertTrue(all(moved), moved)

    def test_a_ticket_outlives_the_daemon_but_not_the_keys(self):
        keys = self.lab.directory / "state" / "ticket-keys"
        self.assertEqual(keys.stat().st_mode & 0o777, 0o600)
        sessions = {version: self.full(version) for version in (TLS12, TLS13)}
        self.restart()
        for version, session in sessions.items():
            self.assertIn("Reused, TLSv1", self.again(version, session))
        self.lab.stop("weir-l7")
        keys.unlink()
        self.lab.start_l7(self.config)
        for version, session in sessions.items():
            said = self.again(version, session)
            self.assertIn("New, TLSv1", said)
            self.assertIn("200 OK", said)

    def test_a_ticket_is_good_for_its_name_alone(self):
        for version in (TLS12, TLS13):
            session = self.full(version)
            # The same certificate, and yet another name.
            self.assertIn("New, TLSv1", self.again(version, session, host="www.shop.example"))
            self.assertIn("New, TLSv1", self.again(version, session, host="guests.example"))

    # ---- certificates of clients --------------------------------------------------------------

    def told(self, done):
        """What nginx heard of the client."""
        self.assertIn("200 OK", done.stdout)
        lines = (line.partition("=") for line in done.stdout.splitlines())
        return {name: value for name, equals, value in lines if equals}

    def as_client(self, name):
        return ("--cert", self.made.path(f"{name}.crt"), "--key", self.made.path(f"{name}.key"))

    def test_a_certificate_is_required_where_it_is_wanted(self):
        for version in (("--tls-max", "1.2"), ("--tlsv1.3",)):
            heard = self.told(self.ask("/told", *version, *self.as_client("alice"),
                                       host="members.example"))
            der = base64.b64encode(self.made.der("alice")).decode()
            self.assertEqual(heard["cert"], f":{der}:")
            self.assertEqual(heard["subject"], "CN=alice,O=People")
            for credentials in ((), self.as_client("mallory")):
                refused = self.ask("/told", *version, *credentials, host="members.example",
                                   check=False)
                self.assertNotEqual(refused.returncode, 0)
                self.assertIn("alert", refused.stderr)
                self.assertEqual(refused.stdout, "")

    def test_a_certificate_that_is_optional_is_told_if_it_is_shown(self):
        heard = self.told(self.ask("/told", host="guests.example"))
        self.assertEqual((heard["cert"], heard["subject"]), ("", ""))
        heard = self.told(self.ask("/told", *self.as_client("alice"), host="guests.example"))
        self.assertEqual(heard["subject"], "CN=alice,O=People")
        refused = self.ask("/told", *self.as_client("mallory"), host="guests.example", check=False)
        self.assertNotEqual(refused.returncode, 0)

    def test_a_forged_identity_reaches_nobody(self):
        names = ("Client-Cert", "Client-Cert-Chain", "X-Client-Cert-Subject", "X-Client-Cert",
                 "X-SSL-Client-Cert", "X-SSL-Client-S-DN")
        forged = [word for name in names for word in ("-H", f"{name}: CN=root")]
        # One that asks Connection to take ours away, too.
        forged += ["-H", "Connection: Client-Cert, X-Client-Cert-Subject"]
        for port, host in ((8080, "any.example"), (443, "api.shop.example"), (443, "guests.example")):
            heard = self.told(self.ask("/told", *forged, host=host, port=port))
            self.assertEqual([heard[name] for name in ("cert", "subject", "forged")], ["", "", ""],
                             host)
        heard = self.told(self.ask("/told", *forged, *self.as_client("alice"), host="members.example"))
        self.assertEqual((heard["subject"], heard["forged"]), ("CN=alice,O=People", ""))

    # ---- names --------------------------------------------------------------------------------

    def test_a_host_of_another_certificate_or_policy_is_misdirected(self):
        for sni, host in (("api.shop.example", "members.example"),
                          ("api.shop.example", "guests.example"),
                          ("guests.example", "members.example")):  # one certificate for both
            reply = self.ask(f"/told/{host}", sni=sni, host=host).stdout
            self.assertIn("421 Misdirected Request", reply, (sni, host))
            self.assertEqual(self.record_of(f"/told/{host}")["reason"], "misdirected")
        self.assertIn("200 OK", self.ask("/told", sni="api.shop.example",
                                         host="www.shop.example").stdout)

    def test_both_kinds_of_keys_are_served_for_one_name(self):
        for algorithms, kind in (("ECDSA+SHA256", "ECDSA"), ("RSA+SHA256:RSA-PSS+SHA256", "RSA")):
            for version in (TLS12, TLS13):
                said = self.s_client(version, "-sigalgs", algorithms)
                self.assertIn("Verify return code: 0 (ok)", said)
                self.assertRegex(said, f"Peer signature type: {kind}")

    def test_an_ocsp_response_is_stapled_to_the_certificate_it_is_about(self):
        for version in (TLS12, TLS13):
            said = self.s_client(version, "-status")
            self.assertIn("OCSP Response Status: successful", said)
            self.assertIn("Cert Status: good", said)
            self.assertIn(f"Serial Number: {self.made.serial('shop')}", said)
            self.assertIn("OCSP response: no response sent",
                          self.s_client(version, "-status", host="guests.example"))

    # ---- endpoints ----------------------------------------------------------------------------

    def test_an_endpoint_that_proves_its_name_is_spoken_to_over_tls(self):
        heard = self.told(self.ask("/orders"))
        self.assertEqual(heard["sni"], "orders.internal tls=TLSv1.3")
        self.assertEqual(heard["proto"], "https")
        heard = self.told(self.ask("/unproved"))
        self.assertEqual(heard["sni"], "x.internal tls=TLSv1.3")

    def test_an_endpoint_that_does_not_is_answered_with_502_and_a_reason(self):
        for service, why in (("misnamed", "hostname mismatch"),
                             ("untrusted", "self-signed certificate in certificate chain"),
                             ("unnamed", "IP address mismatch"),
                             ("clear", "wrong version number")):
            self.assertIn("502 Bad Gateway", self.ask(f"/{service}").stdout)
            row = self.record_of(f"/{service}")
            self.assertEqual(row["reason"], "upstream_tls")
            self.assertEqual(row["detail"], why)

    def test_tls_is_passed_through_by_its_name(self):
        before = sum(worker["http.passed_through"] for worker in self.stats())
        handshakes = sum(worker["http.tls_handshakes"] for worker in self.stats())
        for version in (("--tls-max", "1.2"), ("--tlsv1.3",)):
            heard = self.told(self.ask("/passed", *version, host="orders.internal", port=PASSED_PORT))
            self.assertTrue(heard["sni"].startswith("orders.internal tls=TLSv1."))
            # Nobody between the client and nginx has added anything.
            self.assertEqual(heard["proto"], "")
        said = self.s_client(host="orders.internal", port=PASSED_PORT)
        self.assertIn("subject=CN = orders.internal", said)
        self.assertIn("Verify return code: 0 (ok)", said)
        wait_until("the connections to end", lambda: sum(
            worker["http.passed_through"] for worker in self.stats()) == before + 3)
        self.assertEqual(sum(worker["http.tls_handshakes"] for worker in self.stats()), handshakes)
        row = wait_until("the log", lambda: self.records(sni="orders.internal"))[-1]
        self.assertEqual((row["listener"], row["route"], row["service"], row["reason"]),
                         ("edge/passed", "passing", "passed", "ok"))
        rows = [row for row in self.lab.weir_json("routes")["routes"] if row["rule"] == "passing/1"]
        self.assertEqual([(row["hostnames"], row["match"], row["answer"]) for row in rows],
                         [("*.internal", "TLS", "passed")])

    def test_a_name_that_leads_nowhere_is_told_so(self):
        for host in ("other.example", "internal"):
            self.assertIn("SSL alert number 112", self.s_client(host=host, port=PASSED_PORT))
            row = wait_until("the log", lambda h=host: self.records(sni=h))[-1]
            self.assertEqual(row["reason"], "no_route")

    # ---- what is refused ----------------------------------------------------------------------

    def test_old_versions_are_refused(self):
        for version in ("-tls1", "-tls1_1"):
            said = self.s_client(version, "-cipher", "ALL:@SECLEVEL=0")
            self.assertIn("alert protocol version", said)
            self.assertIn("Cipher is (NONE)", said)

    def test_renegotiation_is_refused(self):
        # s_client asks for it on a line of its own. The pipe stays open, so that it sees the answer.
        done = self.lab.run_in(
            "client", "sh", "-c",
            f"(sleep 0.5; echo R; sleep 1) | openssl s_client -tls1_2 -connect {VIP_EDGE4}:443"
            " -servername api.shop.example", check=False)
        self.assertIn("RENEGOTIATING", done.stdout + done.stderr)
        self.assertIn("no renegotiation", done.stdout + done.stderr)

    def test_early_data_is_not_accepted(self):
        session = self.full(TLS13)
        early = self.lab.directory / "early"
        early.write_text(REQUEST)
        said = self.s_client(TLS13, "-sess_in", session, "-early_data", early)
        self.assertIn("Early data was not sent", said)  # the ticket allows none

    def test_a_handshake_that_stands_still_is_given_up(self):
        with self.lab.inside("client"):
            mute = socket.create_connection((VIP_EDGE4, 443), timeout=20)
        self.addCleanup(mute.close)
        began = time.monotonic()
        mute.sendall(b"\x16\x03\x01\x02\x00\x01\x00")  # the beginning of a ClientHello
        with self.assertRaises(ConnectionResetError):
            mute.recv(1)
        self.assertAlmostEqual(time.monotonic() - began, 5, delta=2)

    # ---- change -------------------------------------------------------------------------------

    def connect(self, host="api.shop.example"):
        context = ssl.create_default_context(cafile=self.made.path("root.crt"))
        with self.lab.inside("client"):
            plain = socket.create_connection((VIP_EDGE4, 443), timeout=20)
        connection = context.wrap_socket(plain, server_hostname=host)
        serial = ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True))
        return connection, serial

    def get_over(self, connection):
        connection.sendall(REQUEST.replace("Connection: close\r\n", "").encode())
        reply = connection.recv(65536)
        self.assertTrue(reply.startswith(b"HTTP/1.1 200 OK"), reply)

    def test_a_certificate_is_swapped_at_once_and_old_connections_go_on(self):
        old, old_certificate = self.connect()
        self.get_over(old)
        session = self.full(TLS13)
        self.made.make("shop", "DNS:shop.example", "DNS:*.shop.example", issuer="root")
        self.made.answer_ocsp("shop", "root")
        began = time.monotonic()
        self.lab.weir("apply", "-f", self.config)
        new, new_certificate = self.connect()
        took = time.monotonic() - began
        self.assertNotEqual(new_certificate, old_certificate)
        self.assertEqual(new_certificate.strip(),
                         run("openssl", "x509", "-in", self.made.path("shop.crt")).stdout.strip())
        self.get_over(old)
        self.get_over(new)
        print(f"a new certificate was served {1000 * took:.0f} ms after it was applied")
        self.assertLess(took, 1.0)
        # Another certificate for the same names: a ticket is about names.
        self.assertIn("Reused, TLSv1", self.again(TLS13, session))
        old.close()
        new.close()

    def test_a_certificate_that_cannot_be_used_changes_nothing(self):
        good = self.made.path("shop.pem").read_text()
        self.addCleanup(self.made.path("shop.pem").write_text, good)
        self.made.path("shop.pem").write_text(good.replace("PRIVATE", "PUBLIC"))
        refused = self.lab.weir("apply", "-f", self.config, check=False)
        self.assertEqual(refused.returncode, 1)
        line = 1 + self.config.read_text().splitlines().index(next(
            row for row in self.config.read_text().splitlines() if "shop.pem" in row))
        self.assertIn(f"weir.yaml:{line}:", refused.stderr)
        self.assertIn("200 OK", self.ask("/told").stdout)


if __name__ == "__main__":
    main()
