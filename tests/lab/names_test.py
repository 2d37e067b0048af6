"""Endpoints by name: weir-l7 follows what dnsmasq says, under load, through its death and through a
take-over, and shows what it knows."""

import re
import threading
import time

from labcase import *

HOST = "names.example"
URL = f"http://{VIP_EDGE4}:8080"
CHANGES = int(os.environ.get("WEIR_NAME_CHANGES", "8"))


def names_config(directory, extra=""):
    return l7_config(directory).replace("httpRoutes:", f"""  orders: {{endpoints: ["orders.weir.test:8080"]}}
  late: {{endpoints: ["late.weir.test:8080"], healthCheck: {{path: /, interval: 500ms}}}}
  mixed: {{endpoints: [{{address: "many.weir.test:8080", weight: 0}}, "{weirlab.backend4('b4')}:8080"]}}
{extra}httpRoutes:
- name: names
  parentRefs: [{{name: edge}}]
  hostnames: [{HOST}]
  rules:
  - {{name: orders, matches: [{{path: {{prefix: /orders}}}}], backendRefs: [{{name: orders}}]}}
  - {{name: late, matches: [{{path: {{prefix: /late}}}}], backendRefs: [{{name: late}}]}}
  - {{name: mixed, matches: [{{path: {{prefix: /mixed}}}}], backendRefs: [{{name: mixed}}]}}
""" + ("""  - {name: more, matches: [{path: {prefix: /more}}], backendRefs: [{name: more}]}
""" if extra else ""))


class Names(LabCase):

    @classmethod
    def prepare(cls):
        cls.lab.make_certificates()
        cls.hosts = cls.lab.directory / "hosts"
        cls.resolv = cls.lab.directory / "resolv.conf"
        cls.resolv.write_text("nameserver 127.0.0.1\n")
        cls.config = cls.lab.write_config(names_config(cls.lab.directory))
        cls.lead({"orders": ["b1"]})
        cls.start_dns()
        cls.lab.weir("apply", "-f", cls.config)
        cls.start_proxy("weir-l7")
        wait_until("weir-l7 to answer", cls.lab.l7_socket.exists, 30)

    @classmethod
    def start_proxy(cls, name, *more):
        """As LabCase does, with a resolv.conf of its own."""
        return cls.lab.start(name, "node", "unshare", "--mount", "sh", "-c",
                             'mount --bind "$0" /etc/resolv.conf && exec "$@"', cls.resolv,
                             *cls.lab.l7_command(cls.config, *more))

    @classmethod
    def start_dns(cls):
        cls.lab.start("dns", "node", "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts",
                      "--conf-file=/dev/null", "--bind-interfaces", "--user=root", "--no-daemon",
                      f"--pid-file={cls.lab.directory}/dns.pid", "--listen-address=127.0.0.1",
                      "--local=/weir.test/", "--local-ttl=1", f"--addn-hosts={cls.hosts}")
        wait_until("dnsmasq", lambda: cls.lab.listening("node", 53))

    @classmethod
    def lead(cls, names):
        """Backends, or addresses, by name."""
        lines = [f"{weirlab.backend4(place) if place in weirlab.BACKENDS else place} {name}.weir.test\n"
                 for name, places in names.items() for place in places]
        cls.hosts.write_text("".join(lines))
        if "dns" in cls.lab.processes:
            cls.lab.processes["dns"].send_signal(signal.SIGHUP)

    def known(self, name):
        rows = self.lab.weir_json("endpoints")["names"]
        return next(row for row in rows if row["name"] == f"{name}.weir.test")

    def wait_for(self, name, *backends):
        """Until these are what the name is known to lead to, and requests go there."""
        wanted = ", ".join(sorted(weirlab.backend4(b) for b in backends))
        wait_until(f"{name} to be {wanted}", lambda: self.known(name)["addresses"] == wanted, 20)
        if wanted:
            wait_until(f"{name} to be served", lambda: self.endpoints(name) == wanted.split(", "), 5)

    def endpoints(self, service):
        rows = self.lab.weir_json("endpoints", service)["endpoints"]
        return [row["endpoint"].removesuffix(":8080") for row in rows]

    def ask(self, path):
        done = self.lab.run_in("client", "curl", "-sS", "--max-time", "10", "-w", "%{http_code}",
                               "-H", f"Host: {HOST}", f"{URL}{path}")
        return int(done.stdout[-3:]), done.stdout[:-3]

    def answering(self, path, count=12):
        """Who has answered so many requests."""
        answers = [self.ask(path) for _ in range(count)]
        self.assertEqual({status for status, _ in answers}, {200})
        return {re.search(r" on (b\d)", body).group(1) for _, body in answers}

    def setUp(self):
        self.lead({"orders": ["b1"]})
        self.wait_for("orders", "b1")

    def counters(self):
        rows = self.lab.weir_json("stats", "--total")["weir-l7"]
        return {row["counter"]: row["value"] for row in rows if row["counter"].startswith(("names.", "http."))}

    # ---- following ----------------------------------------------------------------------------

    def test_a_name_is_followed_without_a_reload(self):
        revision = self.lab.weir_json("status")["weir-l7"]["revision"]
        self.assertEqual(self.answering("/orders"), {"b1"})
        self.lead({"orders": ["b1", "b2", "b3"]})
        self.wait_for("orders", "b1", "b2", "b3")
        self.assertEqual(self.answering("/orders"), {"b1", "b2", "b3"})
        self.lead({"orders": ["b3"]})
        self.wait_for("orders", "b3")
        self.assertEqual(self.answering("/orders"), {"b3"})
        self.assertEqual(self.lab.weir_json("status")["weir-l7"]["revision"], revision)

    def test_addresses_that_change_under_load_fail_no_request(self):
        log = self.lab.directory / "access.log"
        begin = log.stat().st_size if log.exists() else 0
        reports = []
        seconds = 2 * CHANGES + 2

        def load():
            reports.append(self.lab.run_in("client", "wrk", "-t1", "-c16", f"-d{seconds}s", "-H",
                                           f"Host: {HOST}", f"{URL}/orders/load",
                                           timeout=seconds + 60).stdout)

        before = self.counters()
        thread = threading.Thread(target=load)
        thread.start()
        sets = (["b2", "b3"], ["b1"], ["b1", "b2", "b3", "b4"], ["b4"])
        for i in range(CHANGES):
            self.lead({"orders": sets[i % len(sets)]})
            self.wait_for("orders", *sets[i % len(sets)])
        thread.join()
        after = self.counters()
        self.assertEqual(after["names.changes"] - before["names.changes"], CHANGES)
        report = reports[0]
        self.assertNotIn("Socket errors", report)
        self.assertNotIn("Non-2xx", report)
        done = int(re.search(r"(\d+) requests in", report).group(1))
        with open(log) as file:
            file.seek(begin)
            records = [r for r in map(json.loads, file) if r["target"] == "/orders/load"]
        # Those that wrk has cut when it was over are neither failures nor done.
        failed = [r for r in records if r["reason"] not in ("ok", "client_reset")]
        self.assertEqual(failed, [])
        # At such a rate there is no room for all lines, and those that are missing are counted.
        dropped = after["http.log_dropped"] - before["http.log_dropped"]
        self.assertGreaterEqual(len(records) + dropped, done)
        asked = {r["endpoint"].split(":")[0] for r in records}
        self.assertEqual(asked, {weirlab.backend4(b) for b in weirlab.BACKENDS})
        print(f"{done} requests while a name's addresses changed {CHANGES} times; none failed")

    def test_the_death_of_the_server_changes_nothing_and_its_return_is_noticed(self):
        self.lab.stop("dns", signal.SIGKILL)
        try:
            wait_until("lookups to fail", lambda: self.known("orders")["last_error"] != "", 20)
            self.assertEqual(self.answering("/orders"), {"b1"})
            self.assertEqual(self.known("orders")["addresses"], weirlab.backend4("b1"))
            self.assertGreater(self.counters()["names.failing"], 0)
            self.lead({"orders": ["b2"]})
        finally:
            self.start_dns()
        self.wait_for("orders", "b2")
        self.assertEqual(self.known("orders")["last_error"], "")
        self.assertEqual(self.answering("/orders"), {"b2"})

    def test_a_name_that_comes_later_is_answered_503_until_then(self):
        status, _ = self.ask("/late")
        self.assertEqual(status, 503)
        row = self.known("late")
        self.assertEqual(row["addresses"], "")
        self.assertEqual(row["last_error"], "there is no such name")
        self.assertEqual(self.endpoints("late"), [])
        record = wait_until("the log", lambda: [
            r for r in map(json.loads, (self.lab.directory / "access.log").read_text().splitlines())
            if r.get("target") == "/late"])[-1]
        self.assertEqual((record["reason"], record["detail"]),
                         ("no_endpoint", "no address of its endpoints' names is known"))
        self.lead({"orders": ["b1"], "late": ["b2"]})
        wait_until("it to be found", lambda: self.endpoints("late") == [weirlab.backend4("b2")], 40)
        self.assertEqual(self.answering("/late", 3), {"b2"})
        wait_until("its check", lambda: self.lab.weir_json("endpoints", "late")["endpoints"][0]["health"]
                   == "up")

    def test_what_is_no_endpoint_is_left_out_and_long_answers_come_whole(self):
        many = [f"10.99.{i // 100}.{i % 100 + 1}" for i in range(300)]
        self.lead({"orders": ["b1"], "many": many + ["127.0.0.9", "0.0.0.0", VIP_EDGE4]})
        wait_until("all of them", lambda: len(self.endpoints("mixed")) == 301, 40)
        left_out = self.known("many")["left_out"]
        for part in ("127.0.0.9, a loopback address", "0.0.0.0, the unspecified address",
                     f"{VIP_EDGE4}, an address of gateway 'edge'"):
            self.assertIn(part, left_out)
        self.assertEqual(self.answering("/mixed", 3), {"b4"})

    # ---- configurations and processes -----------------------------------------------------------

    def test_a_configuration_waits_for_names_that_it_brings_but_not_for_long(self):
        extra = '  more: {{endpoints: ["{}.weir.test:8080"]}}\n'
        self.lead({"orders": ["b1"], "more": ["b3"]})

        def apply(config):
            start = time.monotonic()
            self.lab.weir("apply", "-f", config)
            return time.monotonic() - start

        # Asked at once, so that what was known before does not help: names are known by no cache.
        config = self.lab.write_config(names_config(self.lab.directory, extra.format("more")),
                                       "more.yaml")
        wait_until("dnsmasq to have read its file", lambda: "10.77" in self.lab.run_in(
            "node", "dig", "+short", "@127.0.0.1", "more.weir.test").stdout)
        apply(config)
        self.assertEqual(self.ask("/more")[0], 200)  # the very first one
        # A server that says nothing: nobody reads what comes to its port.
        self.lab.stop("dns", signal.SIGKILL)
        deaf = self.lab.start("deaf", "node", "/usr/bin/python3", "-c",
                              "import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
                              "s.bind(('127.0.0.1', 53)); time.sleep(600)")
        try:
            wait_until("the deaf one", lambda: "127.0.0.1:53 " in self.lab.run_in(
                "node", "ss", "-Hlun").stdout)
            other = self.lab.write_config(names_config(self.lab.directory, extra.format("other")),
                                          "other.yaml")
            took = apply(other)
            self.assertGreater(took, 1.9)
            self.assertLess(took, 6)
            self.assertEqual(self.ask("/orders")[0], 200)
            self.assertEqual(self.ask("/more")[0], 503)
        finally:
            self.lab.stop("deaf", signal.SIGKILL)
            self.start_dns()
            apply(self.config)
        self.assertEqual(deaf.returncode, -signal.SIGKILL)

    def test_a_process_that_takes_over_knows_the_names_before_it_does(self):
        self.lead({"orders": ["b2"]})
        self.wait_for("orders", "b2")
        old = self.lab.processes["weir-l7"]
        pid = lambda: self.lab.weir_json("status")["weir-l7"]["pid"]
        done = []

        def load():
            done.append(self.lab.run_in("client", "wrk", "-t1", "-c8", "-d12s", "-H", f"Host: {HOST}",
                                        f"{URL}/orders/upgrade", timeout=60).stdout)

        thread = threading.Thread(target=load)
        thread.start()
        new = self.start_proxy("weir-l7.new", "--take-over", "--old-connections", "60")
        self.lab.processes["weir-l7.old"] = old
        self.lab.processes["weir-l7"] = self.lab.processes.pop("weir-l7.new")

        def serves():
            self.lab.alive("weir-l7")
            try:
                return pid() == new.pid
            except (weirlab.LabError, KeyError, json.JSONDecodeError):
                return False

        wait_until("the new process to serve the API", serves, 40)
        self.assertEqual(self.endpoints("orders"), [weirlab.backend4("b2")])
        thread.join()
        self.assertNotIn("Socket errors", done[0])
        self.assertNotIn("Non-2xx", done[0])
        wait_until("the old process to end", lambda: old.poll() is not None, 90)
        self.lab.processes.pop("weir-l7.old")
        self.assertEqual(self.answering("/orders"), {"b2"})

    def test_metrics_count_lookups_by_result_and_not_by_name(self):
        text = self.lab.run_in("node", "curl", "-sS", "--unix-socket", self.lab.l7_socket,
                               "http://weir/metrics").stdout
        for line in ("weir_l7_names_followed 3", '# TYPE weir_l7_names_lookups_total counter'):
            self.assertIn(line + "\n", text)
        self.assertRegex(text, r'\nweir_l7_names_answers_total\{result="found"\} [1-9]')
        self.assertNotIn("weir.test", text)


if __name__ == "__main__":
    main()
