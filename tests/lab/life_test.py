"""What the daemons' life does to traffic: nothing."""

import json
import signal
import threading
import time

from labcase import *


class DaemonLife(LabCase):

    @classmethod
    def prepare(cls):
        cls.lab.make_certificates()
        vips = l4_config().split("vips:\n")[1]
        text = l7_config(cls.lab.directory) + "vips:\n" + vips
        cls.config = cls.lab.write_config(text)
        cls.lab.weir("apply", "-f", cls.config)
        cls.lab.start_l7(cls.config)
        wait_until("next hops", lambda: cls.lab.weir_json("status")["weir-l4"]["backends_unresolved"] == 0)

    def restart_l4(self):
        self.lab.stop("weir-l4", signal.SIGKILL)
        self.lab.start_l4()

    def test_killing_weir_l4_under_load_fails_no_request(self):
        results = {}

        def load(name, vip, url):
            results[name] = self.lab.run_in("client", "h2load", "--h1", "-n20000", "-c20", "-t1",
                                            f"--connect-to={vip}", url, timeout=120).stdout

        threads = [threading.Thread(target=load, args=pair) for pair in (
            ("l4", f"{VIP_WEB4}:80", "http://api.shop.example/"),
            ("l7", f"{VIP_EDGE4}:443", "https://api.shop.example/cart"))]
        for thread in threads:
            thread.start()
        for _ in range(5):
            time.sleep(0.2)
            self.restart_l4()
        for thread in threads:
            thread.join()
        for name, out in results.items():
            self.assertIn("20000 succeeded, 0 failed, 0 errored, 0 timeout", out, name)

    def test_a_download_outlives_a_killed_daemon(self):
        target = self.lab.directory / "download"
        client = self.lab.start("download", "client", "curl", "-sS", "--limit-rate", "30M", "-o",
                                target, f"http://{VIP_WEB4}/files/64MiB")
        wait_until("the download to begin", lambda: target.exists() and target.stat().st_size > 0)
        self.lab.stop("weir-l4", signal.SIGKILL)
        self.assertIsNone(client.poll(), "the download ended before the daemon was killed")
        self.assertEqual(client.wait(60), 0)
        self.lab.processes.pop("download")
        self.assertEqual(sha256(target), sha256(self.lab.directory / "www" / "64MiB"))
        self.lab.start_l4()

    def test_a_restarted_daemon_adopts_what_is_pinned(self):
        before = self.lab.weir_json("vip", "list")
        counted = self.lab.weir_json("stats", "--total")["total"]["packets"]
        program = self.lab.weir_json("status")["devices"][0]["program_id"]
        self.restart_l4()
        self.assertEqual(self.lab.weir_json("vip", "list"), before)
        self.assertEqual(self.lab.weir_json("status")["devices"][0]["program_id"], program)
        self.assertGreaterEqual(self.lab.weir_json("stats", "--total")["total"]["packets"], counted)

    def test_weir_l7_can_be_restarted(self):
        self.lab.stop("weir-l7")
        self.lab.start_l7(self.config)
        done = self.lab.run_in("client", "h2load", "--h1", "-n500", "-c5",
                               f"--connect-to={VIP_EDGE4}:443", "https://api.shop.example/cart")
        self.assertIn("500 succeeded", done.stdout)

    def test_weir_l7_applies_a_file_that_is_replaced(self):
        text = self.config.read_text()
        file = self.lab.write_config(text, "followed.yaml")
        new = self.lab.directory / "new.yaml"

        def replace(content):
            new.write_text(content)
            new.rename(file)

        def answer(path):
            return self.lab.curl("-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: any.shop.example",
                                 f"http://{VIP_EDGE4}:8080{path}").stdout

        def reload_of(state):
            reload = self.lab.weir_json("status")["weir-l7 reload"]
            return reload if reload and reload["state"] == state else None

        self.lab.stop("weir-l7")
        self.lab.start_l7(file, "--watch")
        try:
            self.assertEqual(answer("/new"), "404")
            told = "  - {name: new, matches: [{path: {exact: /new}}], respond: {status: 418}}\n"
            rule = "  - {name: cart,"
            replace(text.replace(rule, told + rule))
            wait_until("the new file", lambda: answer("/new") == "418")
            first = wait_until("its report", lambda: reload_of("ok"))
            # One that cannot be used changes nothing, and says why.
            replace(text.replace("prefix: /cart", "prefix: cart"))
            failed = wait_until("the refusal", lambda: reload_of("failed"))
            self.assertEqual(failed["revision"], first["revision"])
            self.assertIn("not applied: " + str(file), self.lab.weir("status").stdout)
            self.assertEqual(answer("/new"), "418")
            # Written in place; what is open is left alone until it is closed.
            with open(file, "w", encoding="utf-8") as slow:
                slow.write(text[:100])
                slow.flush()
                time.sleep(0.5)
                self.assertEqual(reload_of("failed"), failed)
                slow.write(text[100:])
            wait_until("the old rules", lambda: answer("/new") == "404")
            self.assertEqual(reload_of("ok")["revision"], first["revision"] + 1)
            # weir-l4 sends to these addresses: one daemon alone must not have others.
            replace(text.replace(L7_4, "10.77.0.99"))
            wait_until("the refusal", lambda: reload_of("failed"))
            self.assertIn("other node.l7.addresses", self.lab.weir("status").stdout)
            replace(text)
            wait_until("the old addresses", lambda: reload_of("ok"))
            daemon = self.lab.processes.pop("weir-l7")
            daemon.send_signal(signal.SIGTERM)
            self.assertEqual(daemon.wait(40), 0)
        finally:
            if "weir-l7" in self.lab.processes:
                self.lab.stop("weir-l7")
            self.lab.start_l7(self.config)

    def test_weir_l7_comes_back_after_a_kill(self):
        self.lab.stop("weir-l7", signal.SIGKILL)
        self.lab.start_l7(self.config)
        done = self.lab.run_in("client", "h2load", "--h1", "-n500", "-c5",
                               f"--connect-to={VIP_EDGE4}:443", "https://api.shop.example/cart")
        self.assertIn("500 succeeded", done.stdout)


class Unload(LabCase):

    def test_unload_leaves_nothing_behind(self):
        self.lab.weir("apply", "-f", self.lab.write_config(l4_config()))
        counts = self.connect_many(10, f"{VIP_WEB4}:80")
        self.assertEqual(sum(counts[b] for b in BACKENDS), 10, counts)
        self.lab.weir("unload")
        self.assertEqual(list((self.lab.pins / "lb").rglob("*")), [])
        link = json.loads(self.lab.run_in("node", "ip", "-j", "link", "show", "eth0").stdout)[0]
        self.assertNotIn("xdp", link)
        devices = self.lab.run_in("node", "ip", "-j", "link").stdout
        self.assertNotIn("weir-", devices)


if __name__ == "__main__":
    main()
