"""Endpoints that are down, slow, sick or lying: what clients get, what is tried again, what people see
with `weir endpoints`; and `weir explain` held against what real requests then do."""

import time

from labcase import *

HERE = pathlib.Path(__file__).resolve().parent
PORT = 8070


SIDE = f"http://side.example:8090"


def side_config(directory):
    """A gateway of its own, whose rules do more than forward and which logs in its own way."""
    return f"""- name: side
  addresses: [{VIP_EDGE4}]
  listeners: [{{name: http, port: 8090, protocol: HTTP}}]
  errorPages:
  - {{statuses: [4xx], file: {directory}/lost.html}}
  - {{statuses: [404], contentType: application/json, body: '{{"lost": true}}'}}
  - {{statuses: [404], file: {directory}/lost.html}}
  accessLog:
    format: '{{"target": "${{request.path}}", "agent": "${{request.header.user-agent}}", "status": ${{response.status}}, "reason": "${{reason}}", "duration": ${{duration}}}}'
    sample: 0%
    always: {{minStatus: 404, minDuration: 200ms}}
"""


def upstreams_config(directory):
    (directory / "lost.html").write_text("<p>lost</p>")
    both = f'"{weirlab.backend4("b1")}:{PORT}", "{weirlab.backend4("b2")}:{PORT}"'
    one = f'"{weirlab.backend4("b1")}:{PORT}"'
    return l7_config(directory).replace("services:", side_config(directory) + "services:").replace("httpRoutes:", f"""  checked: {{endpoints: [{both}], healthCheck: {{path: /healthz, interval: 200ms, timeout: 100ms, rise: 2, fall: 2, flaps: 0}}, outlierDetection: {{consecutiveFailures: 0}}}}
  eject: {{endpoints: [{both}], outlierDetection: {{consecutiveFailures: 3, ejectionTime: 1s}}}}
  plain: {{endpoints: [{both}], outlierDetection: {{consecutiveFailures: 0}}}}
  lone: {{endpoints: [{one}], limits: {{connectTimeout: 300ms}}}}
  nowhere: {{endpoints: ["{weirlab.backend4("b1")}:9", {both}], limits: {{connectTimeout: 300ms}}, outlierDetection: {{consecutiveFailures: 0}}}}
  shadow: {{endpoints: ["{weirlab.backend4("b2")}:{PORT}"], outlierDetection: {{consecutiveFailures: 0}}}}
httpRoutes:
- name: side
  parentRefs: [{{name: side}}]
  rules:
  - {{name: told, matches: [{{path: {{prefix: /told}}}}], responseHeaders: {{set: {{X-Told: "${{request.header.x-who}} of ${{client.address}} at ${{service}}: ${{response.status}}"}}}}, backendRefs: [{{name: lone}}]}}
  - {{name: aborted, matches: [{{path: {{prefix: /aborted}}}}], fault: {{abort: {{status: 429, share: 100%}}}}, backendRefs: [{{name: lone}}]}}
  - {{name: delayed, matches: [{{path: {{prefix: /delayed}}}}], fault: {{delay: {{time: 400ms, share: 100%}}}}, backendRefs: [{{name: lone}}]}}
  - {{name: mirrored, matches: [{{path: {{prefix: /mirrored}}}}], mirror: {{backendRef: {{name: shadow}}}}, backendRefs: [{{name: lone}}]}}
- name: moods
  parentRefs: [{{name: edge}}]
  hostnames: [moods.example]
  rules:
  - {{name: checked, matches: [{{path: {{prefix: /checked}}}}], backendRefs: [{{name: checked}}]}}
  - {{name: eject, matches: [{{path: {{prefix: /eject}}}}], backendRefs: [{{name: eject}}]}}
  - {{name: retried, matches: [{{path: {{prefix: /retried}}}}], timeouts: {{backendRequest: 500ms}}, retry: {{attempts: 2, on: [connect-failure, reset, timeout, 5xx]}}, backendRefs: [{{name: plain}}]}}
  - {{name: lone, matches: [{{path: {{prefix: /lone}}}}], timeouts: {{backendRequest: 500ms}}, backendRefs: [{{name: lone}}]}}
  - {{name: nowhere, matches: [{{path: {{prefix: /nowhere}}}}], backendRefs: [{{name: nowhere}}]}}
  - {{name: old, matches: [{{path: {{prefix: /old}}}}], redirect: {{prefix: /checked, status: 308}}}}
  - {{name: teapot, matches: [{{path: {{exact: /tea}}, method: POST}}], respond: {{status: 418, body: no}}}}
  - {{name: rewritten, matches: [{{path: {{prefix: /v1}}}}], rewrite: {{prefix: /checked}}, backendRefs: [{{name: checked}}]}}
  - {{name: canary, matches: [{{path: {{prefix: /lone}}, headers: {{x-canary: "yes"}}}}], backendRefs: [{{name: checked}}]}}
""")


class Upstreams(LabCase):

    @classmethod
    def prepare(cls):
        cls.lab.make_certificates()
        cls.config = cls.lab.write_config(upstreams_config(cls.lab.directory))
        for host in ("b1", "b2"):
            cls.lab.start(f"moody-{host}", host, "/usr/bin/python3", HERE / "moody_server.py", PORT,
                          host, cls.lab.directory)
            wait_until("a backend", lambda h=host: cls.lab.listening(h, PORT))
        cls.lab.weir("apply", "-f", cls.config)
        cls.lab.start_l7(cls.config)

    def setUp(self):
        self.set_moods("well", "well")
        wait_until("both to be well",
                   lambda: all(row["usable"] for row in self.endpoints("checked") + self.endpoints("eject")))
        for host in ("b1", "b2"):
            (self.lab.directory / f"{host}.seen").write_text("")

    def set_moods(self, b1, b2):
        for host, mood in (("b1", b1), ("b2", b2)):
            (self.lab.directory / f"{host}.mood").write_text(mood)

    def mirrors(self):
        rows = {row["counter"]: row["value"] for row in self.lab.weir_json("stats", "--total")["weir-l7"]}
        prefix = "http.mirrors."
        return {name.removeprefix(prefix): rows[name] for name in rows if name.startswith(prefix)}

    def seen(self, host):
        return (self.lab.directory / f"{host}.seen").read_text().splitlines()

    def endpoints(self, service):
        return self.lab.weir_json("endpoints", service)["endpoints"]

    def ask(self, path, *extra):
        """Status, body and the line of the log."""
        done = self.lab.run_in("client", "curl", "-sS", "--max-time", "10", "-o", "-", "-w",
                               "\n%{http_code}", "-H", "Host: moods.example", *extra,
                               f"http://{VIP_EDGE4}:8080{path}", check=False)
        body, status = done.stdout.rsplit("\n", 1)
        return int(status), body, self.last_record(path)

    def log_lines(self):
        return (self.lab.directory / "access.log").read_text().splitlines()

    def last_record(self, target):
        def find():
            return [r for r in map(json.loads, self.log_lines()) if r.get("target") == target]
        return wait_until(f"the log of {target}", find)[-1]

    def ask_many(self, path, count):
        return [self.ask(f"{path}?{time.time_ns()}")[:2] for _ in range(count)]

    # ---- health -------------------------------------------------------------------------------

    def test_an_endpoint_that_fails_its_check_gets_nothing_until_it_is_well(self):
        self.set_moods("sick", "well")
        wait_until("the check to see it", lambda: not self.endpoints("checked")[0]["usable"])
        row = self.endpoints("checked")[0]
        self.assertEqual((row["health"], row["last_probe"]), ("down", "status 503, expected 200-399"))
        self.assertEqual(self.ask_many("/checked", 6), [(200, "b2")] * 6)
        self.set_moods("well", "well")
        wait_until("it to come back", lambda: self.endpoints("checked")[0]["usable"])
        self.assertEqual({body for _, body in self.ask_many("/checked", 6)}, {"b1", "b2"})

    def test_with_no_healthy_endpoint_the_answer_says_so(self):
        self.set_moods("sick", "sick")
        wait_until("the checks", lambda: not any(r["usable"] for r in self.endpoints("checked")))
        status, _, record = self.ask("/checked/none")
        self.assertEqual((status, record["reason"], record.get("attempts", 0)),
                         (503, "no_healthy_endpoint", 0))
        self.assertEqual(self.seen("b1") + self.seen("b2"), [])

    def test_failures_eject_an_endpoint_for_a_while(self):
        self.set_moods("sick", "well")
        self.ask_many("/eject", 8)
        row = next(r for r in self.endpoints("eject") if not r["usable"])
        self.assertGreater(row["ejected_ms"], 0)
        self.assertEqual(row["failures"] >= 3, True)
        self.assertEqual(self.ask_many("/eject", 4), [(200, "b2")] * 4)
        self.set_moods("well", "well")
        wait_until("the ejection's end", lambda: all(r["usable"] for r in self.endpoints("eject")))
        self.assertEqual({body for _, body in self.ask_many("/eject", 6)}, {"b1", "b2"})

    # ---- failures of every kind ---------------------------------------------------------------

    def test_a_get_goes_to_the_other_endpoint_whatever_the_first_does(self):
        for mood in ("sick", "broken", "reset", "silent"):
            with self.subTest(mood=mood):
                self.set_moods(mood, "well")
                answers = [self.ask(f"/retried/{mood}/{i}") for i in range(4)]
                self.assertEqual([a[:2] for a in answers], [(200, "b2")] * 4)
                self.assertEqual(sum(a[2]["attempts"] for a in answers) > 4, True)

    def test_a_post_is_seen_once_whatever_becomes_of_it(self):
        expected = {"sick": (503, "ok"), "broken": (500, "ok"), "reset": (502, "upstream_reset"),
                    "silent": (504, "upstream_timeout"), "well": (200, "ok")}
        for mood, (status, reason) in expected.items():
            with self.subTest(mood=mood):
                self.set_moods(mood, mood)
                path = f"/retried/post/{mood}"
                got = self.ask(path, "-d", "once")
                self.assertEqual((got[0], got[2]["reason"], got[2]["attempts"]), (status, reason, 1))
                self.assertEqual((self.seen("b1") + self.seen("b2")).count(f"POST {path}"), 1)

    def test_what_cannot_be_retried_is_told_as_it_was(self):
        expected = {"reset": (502, "upstream_reset"), "silent": (504, "upstream_timeout"),
                    "cut": (200, "upstream_reset"), "short": (200, "upstream_reset"),
                    "broken": (500, "ok"), "well": (200, "ok")}
        for mood, (status, reason) in expected.items():
            with self.subTest(mood=mood):
                self.set_moods(mood, mood)
                got = self.ask(f"/lone/{mood}")
                self.assertEqual((got[0], got[2]["reason"]), (status, reason))

    def test_an_endpoint_that_refuses_costs_no_request(self):
        for i in range(6):
            status, body, record = self.ask(f"/nowhere/{i}", "-d", "x")
            self.assertEqual((status, record["reason"]), (200, "ok"))
            self.assertIn(body, ("b1", "b2"))

    # ---- what rules do beside -----------------------------------------------------------------

    def ask_side(self, path, *extra):
        """Head and body, and how long it took."""
        done = self.lab.run_in("client", "curl", "-sS", "-i", "--max-time", "10", "--resolve",
                               f"side.example:8090:{VIP_EDGE4}", "-w", "\n%{time_total}", *extra,
                               SIDE + path)
        answer, seconds = done.stdout.replace("\r\n", "\n").rsplit("\n", 1)
        head, body = answer.split("\n\n", 1)
        return head, body, float(seconds)

    def test_headers_are_told_who_asks(self):
        head, body, _ = self.ask_side("/told", "-H", "X-Who: \u00e9va")
        self.assertIn(f"x-told: %c3%a9va of {CLIENT4} at lone: 200", head.lower())
        self.assertEqual(body, "b1")

    def test_faults_hold_requests_up_or_answer_them(self):
        head, _, _ = self.ask_side("/aborted")
        self.assertIn("HTTP/1.1 429", head)
        self.assertEqual(self.last_record("/aborted")["reason"], "fault")
        self.assertEqual(self.seen("b1"), [])
        _, body, seconds = self.ask_side("/delayed")
        self.assertEqual(body, "b1")
        self.assertGreaterEqual(seconds, 0.4)

    def test_error_pages_are_of_the_type_that_is_asked_for(self):
        for accept, body in (("text/html,*/*;q=0.8", "<p>lost</p>"),
                             ("application/json", '{"lost": true}')):
            with self.subTest(accept=accept):
                head, page, _ = self.ask_side("/nowhere", "-H", f"Accept: {accept}")
                self.assertIn("HTTP/1.1 404", head)
                self.assertEqual(page, body)

    def test_a_mirror_gets_the_request_and_keeps_nobody_waiting(self):
        before = self.mirrors()
        self.set_moods("well", "silent")
        _, body, seconds = self.ask_side("/mirrored", "-d", "once")
        self.assertEqual(body, "b1")
        self.assertLess(seconds, 5)
        wait_until("the copy", lambda: self.seen("b2") == ["POST /mirrored"])
        self.assertEqual(self.seen("b1"), ["POST /mirrored"])
        self.assertEqual(self.mirrors()["sent"], before["sent"] + 1)
        said = self.lab.weir_json("explain", "GET", f"{SIDE}/mirrored")["effects"]
        self.assertIn("mirror: 100% of requests with bodies of up to 64Ki also go to shadow",
                      [row["effect"] for row in said])

    def test_the_log_has_the_gateways_format_and_what_it_wants(self):
        self.ask_side("/told/quiet")
        self.ask_side("/nowhere/loud", "-A", 'a "b" \\ c')
        record = self.last_record("/nowhere/loud")
        self.assertEqual((record["agent"], record["status"], record["reason"]),
                         ('a "b" \\ c', 404, "no_route"))
        self.assertEqual([r for r in map(json.loads, self.log_lines())
                          if r.get("target") == "/told/quiet"], [])

    # ---- explain ------------------------------------------------------------------------------

    def test_explain_says_what_a_request_then_gets(self):
        cases = [("GET", "/checked/a", []), ("GET", "/lone/x", []),
                 ("GET", "/lone/x", ["x-canary: yes"]), ("GET", "/old/way?x=1", []),
                 ("POST", "/tea", []), ("GET", "/tea", []), ("GET", "/v1/cart?y", []),
                 ("GET", "/nothing", []), ("GET", "/checked/../lone/%61", [])]
        for number, (method, path, headers) in enumerate(cases):
            with self.subTest(method=method, path=path, headers=headers):
                words = [w for header in headers for w in ("-H", header)]
                said = self.lab.weir_json("explain", method, f"http://moods.example:8080{path}", *words)
                request = said["request"]
                before = len(self.log_lines())
                done = self.lab.run_in(
                    "client", "curl", "-sS", "-i", "--path-as-is", "-X", method, "--resolve",
                    f"moods.example:8080:{VIP_EDGE4}", "-H", f"X-Number: {number}", *words,
                    f"http://moods.example:8080{path}").stdout
                record = json.loads(
                    wait_until("the log", lambda: self.log_lines()[before:])[-1])
                self.assertEqual(record.get("route", ""), request["route"])
                self.assertEqual(record.get("rule", ""), request["rule"])
                if request["outcome"] == "proxy":
                    self.assertEqual(record["service"], said["endpoints"][0]["service"])
                    self.assertIn(f"{method} {request['sent_target']}",
                                  self.seen("b1") + self.seen("b2"))
                    continue
                self.assertEqual(record["status"], request["status"])
                self.assertEqual(record["reason"], request["reason"])
                if request["outcome"] == "redirect":
                    self.assertIn(f"location: {request['location']}\n".lower(), done.lower())

    def test_explain_in_words(self):
        text = self.lab.weir("explain", "GET", "http://moods.example:8080/lone/x").stdout
        self.assertIn("it goes to lone as GET /lone/x of host moods.example:8080", text)
        self.assertIn("moods/canary", text)
        self.assertIn("header x-canary", text)
        wrong = self.lab.weir("explain", "GET", "ftp://x", check=False)
        self.assertEqual(wrong.returncode, 1)
        self.assertIn("the URL is 'ftp://x'", wrong.stderr)

    def test_routes_are_listed(self):
        text = self.lab.weir("routes").stdout
        self.assertIn("moods/canary", text)
        self.assertIn("path prefix /lone, header x-canary = yes", text)


if __name__ == "__main__":
    main()
