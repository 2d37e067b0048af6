"""The L7 path with real clients and servers: curl, h2load, wrk, nginx. The admin API of weir-l7 against
its OpenAPI description."""

import datetime
import json
import re
import threading
import time

from labcase import *

ROOT = pathlib.Path(__file__).resolve().parents[2]

# In the client's namespace, one after the other until it is ended: of five requests three to /cart, one
# each to /users and /gone.
MIX = f"""
import http.client, itertools
connection = http.client.HTTPConnection("{VIP_EDGE4}", 8080, timeout=20)
for path in itertools.cycle(("/cart", "/cart", "/cart", "/users", "/gone")):
    connection.request("GET", path, headers={{"Host": "api.shop.example"}})
    connection.getresponse().read()
"""


def number(text):
    """What `weir top` has written in three digits."""
    power = {"k": 1e3, "M": 1e6}.get(text[-1])
    return float(text[:-1]) * power if power else float(text)


class L7Path(LabCase):

    @classmethod
    def prepare(cls):
        cls.lab.make_certificates()
        cls.config = cls.lab.write_config(l7_config(cls.lab.directory))
        cls.lab.weir("apply", "-f", cls.config)
        cls.lab.start_l7(cls.config)

    def get(self, path, *extra, host="api.shop.example", vip=VIP_EDGE4, port=443):
        scheme = "https" if port == 443 else "http"
        return self.lab.curl("-k", "-i", "--resolve", f"{host}:{port}:{vip}", *extra,
                             f"{scheme}://{host}:{port}{path}").stdout

    def records(self, **wanted):
        lines = (self.lab.directory / "access.log").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        return [r for r in rows if all(r.get(k) == v for k, v in wanted.items())]

    def top(self, *words):
        """One frame of `weir top l7`: the summary, and the numbers of each row."""
        lines = self.lab.weir("top", "l7", *words, "--once", "--interval", "5s").stdout.splitlines()
        return lines[1], {line.split()[0]: line.split()[1:] for line in lines[3:]}

    def stats(self):
        return {row["counter"]: row["value"] for row in self.lab.weir_json("stats", "--total")["weir-l7"]}

    def test_the_path_prefix_chooses_the_service(self):
        self.assertIn("x-service: cart", self.get("/cart/7"))
        self.assertIn("x-service: users", self.get("/users"))
        self.assertIn("404 Not Found", self.get("/cartoon"))

    def test_ipv6_clients_and_ipv6_endpoints_work(self):
        self.assertIn("x-service: cart", self.get("/cart", vip=f"[{VIP_EDGE6}]"))
        self.assertIn("x-backend: b4", self.get("/six"))

    def test_the_name_in_the_handshake_chooses_the_certificate(self):
        for host, algorithm in (("api.shop.example", "id-ecPublicKey"),
                                ("admin.example", "rsaEncryption")):
            done = self.lab.run_in(
                "client", "sh", "-c",
                f"openssl s_client -connect {VIP_EDGE4}:443 -servername {host} </dev/null 2>/dev/null"
                " | openssl x509 -noout -text")
            self.assertIn(algorithm, done.stdout)

    def test_tls_1_2_and_1_3_are_spoken_and_logged(self):
        for option, version in (("--tls-max 1.2", "TLSv1.2"), ("--tlsv1.3", "TLSv1.3")):
            path = f"/cart/{version}"
            self.get(path, *option.split())
            row = wait_until("the log", lambda p=path: self.records(target=p))[0]
            self.assertEqual(row["tls"], version)
            self.assertEqual(row["service"], "cart")
            self.assertEqual(row["route"], "shop")
            self.assertEqual(row["certificate"], "shop.example")
            self.assertEqual(row["vip"], f"{VIP_EDGE4}:443")

    def test_http_is_redirected_to_https(self):
        reply = self.get("/cart?x=1", port=80)
        self.assertIn("301 Moved Permanently", reply)
        self.assertIn("Location: https://api.shop.example/cart?x=1", reply)

    def test_weights_split_requests_between_services(self):
        done = self.lab.run_in("client", "h2load", "--h1", "-n2000", "-c10",
                               f"--connect-to={VIP_EDGE4}:8080",
                               "http://api.shop.example:8080/split")
        self.assertIn("2000 succeeded", done.stdout)
        rows = wait_until("the log", lambda: (lambda r: r if len(r) == 2000 else None)(
            self.records(target="/split")))
        carts = sum(row["service"] == "cart" for row in rows)
        self.assertAlmostEqual(carts / 2000, 0.75, delta=0.05)

    def test_head_and_continue_and_chunked_bodies_work(self):
        self.assertIn("200 OK", self.get("/cart", "--http1.1", "-I"))
        body = self.lab.directory / "body"
        body.write_bytes(os.urandom(300_000))
        reply = self.get("/cart/upload/expect", "--http1.1", "-H", "Expect: 100-continue", "-T", body)
        self.assertIn("100 Continue", reply)
        self.assertIn("201 Created", reply)
        reply = self.get("/cart/upload/chunked", "--http1.1", "-H", "Transfer-Encoding: chunked",
                         "-T", body)
        self.assertIn("201 Created", reply)
        for name in ("expect", "chunked"):
            stored = [self.lab.directory / f"upload-{b}" / "cart" / "upload" / name
                      for b in ("b1", "b2")]
            self.assertEqual([sha256(p) for p in stored if p.exists()], [sha256(body)])

    def test_a_dead_endpoint_is_answered_with_503(self):
        self.assertIn("503 Service Unavailable", self.get("/gone"))
        row = wait_until("the log", lambda: self.records(target="/gone"))[-1]
        self.assertEqual(row["reason"], "connect_failed")
        self.assertEqual(row["attempts"], 3)

    def test_each_rule_counts_the_requests_that_it_got(self):
        from openapi import Client
        api = Client(self.lab.l7_socket)

        def requests():
            said = api.ask("GET", "/v1/routes", 200)
            rows = {f"{row['route']}/{row['rule']}": row["counters"]["requests"] for row in said["routes"]}
            return {**rows, "total": said["total"]["requests"]}

        before = requests()
        for path, count in (("/cart", 500), ("/users", 100)):
            done = self.lab.run_in("client", "h2load", "--h1", f"-n{count}", "-c5",
                                   f"--connect-to={VIP_EDGE4}:8080", f"http://api.shop.example:8080{path}")
            self.assertIn(f"{count} succeeded", done.stdout)
        wanted = {"shop/cart": 500, "shop/users": 100, "shop/six": 0, "shop/gone": 0, "shop/split": 0, "total": 600}
        wait_until("the counts", lambda: {k: v - before[k] for k, v in requests().items()} == wanted)

    def test_top_shows_which_rules_and_endpoints_have_the_requests(self):
        mix = self.lab.start("mix", "client", "python3", "-c", MIX)
        self.addCleanup(self.lab.stop, "mix")
        wait_until("requests", lambda: self.records(target="/gone", route="shop"))
        summary, rules = self.top()
        self.assertEqual(sorted(rules), ["shop/cart", "shop/gone", "shop/six", "shop/split", "shop/users"])
        cart, users, gone = (rules[f"shop/{name}"] for name in ("cart", "users", "gone"))
        self.assertAlmostEqual(number(cart[0]) / number(users[0]), 3, delta=0.5)
        # requests, 4xx, 5xx, failures, mean time, those that took more than a second
        self.assertEqual(cart[1:4], ["0", "0", "0"])
        self.assertGreater(number(cart[4]), 0)
        self.assertEqual((gone[1], gone[2], gone[3]), ("0", gone[0], gone[0]), "no endpoint is there")
        self.assertEqual(rules["shop/six"], ["0", "0", "0", "0", "-", "0"])
        total = sum(number(row[0]) for row in rules.values())
        self.assertAlmostEqual(number(summary.split()[0]), total, delta=total / 50)
        _, endpoints = self.top("shop/cart")
        self.assertEqual(sorted(endpoints), [f"{backend4(b)}:8080" for b in ("b1", "b2")])
        for row in endpoints.values():
            self.assertEqual((row[0], row[2], row[-1]), ("cart", "0", "yes"))
            self.assertGreater(number(row[1]), 0)
        _, endpoints = self.top("shop/gone")
        self.assertGreater(number(endpoints[f"{backend4('b1')}:9"][2]), 0)
        self.assertIsNone(mix.poll(), "the requests have ended early")

    def test_top_of_a_rule_that_there_is_not_says_so(self):
        done = self.lab.weir("top", "l7", "shop/none", "--once", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("there is no rule 'shop/none'", done.stderr)

    def test_twenty_thousand_https_requests_without_an_error(self):
        done = self.lab.run_in("client", "h2load", "--h1", "-n20000", "-c50", "-t1",
                               f"--connect-to={VIP_EDGE4}:443", "https://api.shop.example/cart",
                               timeout=120)
        self.assertIn("20000 done, 20000 succeeded, 0 failed, 0 errored, 0 timeout", done.stdout)

    def test_two_hundred_concurrent_connections(self):
        done = self.lab.run_in("client", "h2load", "--h1", "-n10000", "-c200", "-t1",
                               f"--connect-to={VIP_EDGE4}:443", "https://api.shop.example/users",
                               timeout=120)
        self.assertIn("10000 done, 10000 succeeded, 0 failed, 0 errored, 0 timeout", done.stdout)

    def test_wrk_sees_no_error(self):
        done = self.lab.run_in("client", "wrk", "-t1", "-c32", "-d3s", "-H",
                               "Host: api.shop.example", f"https://{VIP_EDGE4}:443/cart", timeout=60)
        self.assertNotIn("Socket errors", done.stdout)
        self.assertNotIn("Non-2xx", done.stdout)
        # A wrk that was never answered reports no error either.
        requests = re.search(r"(\d+) requests in", done.stdout)
        self.assertIsNotNone(requests, done.stdout)
        self.assertGreater(int(requests.group(1)), 100, done.stdout)

    def test_a_download_of_64_mib_is_exact(self):
        target = self.lab.directory / "l7-download"
        self.lab.curl("-k", "-o", target, "--resolve", f"api.shop.example:443:{VIP_EDGE4}",
                      "https://api.shop.example/cart/files/64MiB")
        self.assertEqual(sha256(target), sha256(self.lab.directory / "www" / "64MiB"))

    def test_an_upload_of_16_mib_is_exact(self):
        source = self.lab.directory / "l7-upload"
        source.write_bytes(os.urandom(16 << 20))
        self.assertIn("HTTP/2 201", self.get("/users/upload/big", "-T", source))
        stored = self.lab.directory / "upload-b3" / "users" / "upload" / "big"
        self.assertEqual(sha256(stored), sha256(source))

    def test_the_vip_answers_ping(self):
        self.lab.run_in("client", "ping", "-c2", "-W2", VIP_EDGE4)
        self.lab.run_in("client", "ping", "-c2", "-W2", VIP_EDGE6)

    def test_a_new_configuration_is_live_without_a_failed_request(self):
        result = {}

        def load():
            result["done"] = self.lab.run_in(
                "client", "h2load", "--h1", "-n30000", "-c20", "-t1",
                f"--connect-to={VIP_EDGE4}:443", "https://api.shop.example/users", timeout=120)

        thread = threading.Thread(target=load)
        thread.start()
        try:
            for i in range(10):
                users = "b3" if i % 2 else "b4 b3"
                config = self.lab.write_config(l7_config(self.lab.directory, users=users), "n.yaml")
                self.lab.weir("apply", "-f", config)
        finally:
            thread.join()
        self.assertIn("30000 done, 30000 succeeded, 0 failed, 0 errored, 0 timeout",
                      result["done"].stdout)
        wait_until("old configurations to be let go",
                   lambda: self.stats()["generations"] == 1 or None)

    def test_the_daemon_does_what_is_described_and_all_of_it(self):
        from openapi import Client
        api = Client(self.lab.l7_socket)
        self.assertEqual(api.described.document, json.loads((ROOT / "l7" / "openapi.json").read_text()))
        self.get("/cart")
        for path in ("/v1/status", "/v1/stats", "/v1/openapi.json"):
            api.ask("GET", path, 200)
        self.where_requests_go(api)
        text = self.config.read_text()
        whole = {"file": str(self.config), "text": text}
        wrong = {**whole, "text": text.replace("prefix: /gone", "prefix: gone")}
        for path in ("/v1/check", "/v1/apply"):
            api.ask("POST", path, 400, wrong={"text": text})
            api.ask("POST", path, 400, wrong={**whole, "partial": "yes"})
            refused = api.ask("POST", path, 422, body=wrong)
            self.assertGreater(refused["diagnostics"][0]["line"], 0)
            changed = api.ask("POST", path, 200, body={**wrong, "partial": True})
            self.assertEqual([row["object"] for row in changed["left_out"]], ["httpRoute 'shop'"])
        self.bytes_that_are_no_text(api, text)
        kept = api.ask("GET", "/v1/config", 200)
        self.assertEqual((kept["text"], kept["partial"]), (wrong["text"], True))
        self.assertEqual(api.ask("POST", "/v1/apply", 200, body=whole)["left_out"], [])
        self.assertEqual(api.ask("GET", "/v1/config", 200), {**whole, "partial": False})
        revision = api.ask("GET", "/v1/status", 200)["revision"]
        self.assertIn(f"\nweir_l7_config_revision {revision}\n", api.ask("GET", "/metrics", 200))
        shown = api.ask("GET", "/v1/certificates", 200)["certificates"]
        self.assertIn("shop.example", [name for row in shown for name in row["names"]])
        self.names_of_endpoints(api, whole)
        self.hold(api, whole)
        self.retire(api)
        self.follow(api)
        self.assertEqual(api.described.unseen(), [])

    def follow(self, api):
        file = self.lab.write_config(self.config.read_text(), "followed.yaml")
        self.lab.stop("weir-l7")
        self.lab.start_l7(file, "--watch")
        try:
            self.assertIsNone(api.ask("GET", "/v1/status", 200)["reload"])
            file.write_text("version: 7\n")
            reload = wait_until("the file to be read", lambda: api.ask("GET", "/v1/status", 200)["reload"])
            self.assertEqual((reload["state"], len(reload["diagnostics"])), ("failed", 1))
        finally:
            self.lab.stop("weir-l7")
            self.lab.start_l7(self.config)

    def hold(self, api, whole):
        """Of a process that is to take over, and ends before it has."""
        for body in ({}, {"pid": "1"}, {"pid": 1, "lane": "blue"}):
            api.ask("POST", "/v1/hold", 400, wrong=body)
        coming = [self.lab.start(f"coming-{n}", "node", "sleep", 60) for n in range(2)]
        api.ask("POST", "/v1/hold", 200, body={"pid": coming[0].pid})
        api.ask("POST", "/v1/hold", 409, body={"pid": coming[1].pid})
        for path in ("/v1/check", "/v1/apply"):
            self.assertIn("is taking over", api.ask("POST", path, 409, body=whole)["detail"])
        for number in range(2):
            self.lab.stop(f"coming-{number}")
        api.ask("POST", "/v1/apply", 200, body=whole)

    def names_of_endpoints(self, api, whole):
        named = whole["text"].replace("  gone: {", '  named: {endpoints: ["nowhere.invalid:80"]}\n  gone: {')
        api.ask("POST", "/v1/apply", 200, body={**whole, "text": named})
        names = api.ask("GET", "/v1/endpoints", 200)["names"]
        self.assertEqual([(row["name"], row["services"], row["addresses"]) for row in names],
                         [("nowhere.invalid", ["named"], [])])
        api.ask("POST", "/v1/apply", 200, body=whole)

    def retire(self, api):
        """As whoever takes over does; nobody has, so that another is started in its place."""
        for body in ({}, {"longest_s": -1}, {"longest_s": 604801}, {"longest_s": 1, "now": True}):
            api.ask("POST", "/v1/retire", 400, wrong=body)
        process = self.lab.processes["weir-l7"]
        self.assertEqual(api.ask("POST", "/v1/retire", 200, body={"longest_s": 1})["pid"], process.pid)
        self.assertEqual(process.wait(30), 0)
        self.lab.processes.pop("weir-l7")
        self.lab.start_l7(self.config)

    def test_the_log_says_when(self):
        before = time.time()
        self.get("/cart/when")
        wait_until("the line", lambda: "/cart/when" in (self.lab.directory / "access.log").read_text())
        line = next(line for line in (self.lab.directory / "access.log").read_text().splitlines()
                    if "/cart/when" in line)
        said = datetime.datetime.fromisoformat(json.loads(line)["time"].replace("Z", "+00:00"))
        self.assertLess(abs(said.timestamp() - before), 5)

    def test_certificates_are_listed_with_the_days_that_they_have_left(self):
        rows = self.lab.weir_json("certs")["certificates"]
        self.assertEqual([row["days_left"] for row in rows], [29] * len(rows))
        self.assertIn("*.shop.example, shop.example", [row["names"] for row in rows])
        self.assertEqual(self.lab.weir_json("certs", "--expiring", "28")["certificates"], [])

    def where_requests_go(self, api):
        for path in ("/v1/routes", "/v1/endpoints"):
            api.ask("GET", path, 200)
        one = api.ask("GET", "/v1/routes", 200, rule="shop/cart")["routes"]
        self.assertEqual([row["rule"] for row in one], ["cart"])
        self.assertEqual(len(one[0]["services"][0]["endpoints"]), 2)
        api.ask("GET", "/v1/routes", 404, rule="shop/none")
        said = api.ask("GET", "/v1/explain", 200, url="https://api.shop.example/cart/7", method="GET",
                       headers="x-a: 1\nx-b: 2", vip=f"{VIP_EDGE4}:443")
        self.assertEqual((said["route"], said["rule"], said["outcome"]), ("shop", "cart", "proxy"))
        self.assertEqual([s["service"] for s in said["services"]], ["cart"])
        said = api.ask("GET", "/v1/explain", 200, url="http://api.shop.example/")
        self.assertEqual((said["outcome"], said["location"]),
                         ("redirect", "https://api.shop.example/"))
        api.ask("GET", "/v1/explain", 400, url="nowhere")
        api.ask("GET", "/v1/explain", 400, url="http://a/", headers="no colon")

    def bytes_that_are_no_text(self, api, text):
        (self.lab.directory / "deny.txt").write_bytes(b"\xff\xfe\n")
        wrong = {"file": str(self.config), "partial": True, "text": text + f"""vips:
- {{name: bytes, address: 203.0.113.99, port: 80, protocol: TCP, forward: {{mode: ipip}}, sources: {{denyFile: {self.lab.directory}/deny.txt}}, backends: []}}
"""}
        left_out = api.ask("POST", "/v1/check", 200, body=wrong)["left_out"]
        self.assertIn("'\ufffd\ufffd' is no address", left_out[0]["diagnostics"][0])

    def test_nothing_is_left_when_the_clients_have_gone(self):
        wait_until("client connections to end", lambda: self.stats()["http.connections"] == 0, 20)
        self.assertEqual(self.stats()["tcp.half_open"], 0)


if __name__ == "__main__":
    main()
