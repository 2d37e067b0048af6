"""The L4 path with real sockets: spread, weights, families, modes, accounting."""

import json
import subprocess
import time

from labcase import *


class L4Path(LabCase):

    @classmethod
    def prepare(cls):
        cls.config = cls.lab.write_config(l4_config())
        cls.lab.weir("apply", "-f", cls.config)
        cls.wait_resolved()

    @classmethod
    def wait_resolved(cls):
        wait_until("next hops", lambda: cls.lab.weir_json("status")["weir-l4"]["backends_unresolved"] == 0)

    def setUp(self):
        self.lab.weir("apply", "-f", self.config)
        self.wait_resolved()

    def test_equal_weights_get_equal_shares(self):
        # Source ports are the kernel's choice, so shares scatter like any random draw: with 6,000
        # connections 10 % is 4.5 standard deviations, with 1,000 it would be 1.8.
        counts = self.connect_many(6000, f"{VIP_WEB4}:80")
        self.assertEqual(sum(counts[b] for b in BACKENDS), 6000, counts)
        for name in BACKENDS:
            self.assert_share(counts, name, 0.25, 0.10)

    def test_weights_of_three_to_one_are_honoured(self):
        self.lab.weir("apply", "-f", self.weighted_config())
        # From ports that no connection had before: it would go where the flow table remembers.
        counts = self.connect_many(2000, f"{VIP_WEB4}:80", first_port=10_000)
        self.assertEqual(sum(counts[b] for b in BACKENDS), 2000, counts)
        self.assert_share(counts, "b1", 0.75, 0.10)
        self.assert_share(counts, "b2", 0.25, 0.20)

    def weighted_config(self):
        text = self.config.read_text().splitlines()
        web = next(i for i, line in enumerate(text) if "name: web4" in line)
        text[web] = (f"- {{name: web4, address: {VIP_WEB4}, port: 80, protocol: TCP, "
                     f"forward: {{mode: ipip}}, backends: ["
                     f"{{name: b1, address: {weirlab.backend4('b1')}, weight: 3}}, "
                     f"{{name: b2, address: {weirlab.backend4('b2')}, weight: 1}}]}}")
        return self.lab.write_config("\n".join(text), "weighted.yaml")

    def test_ipv6_connections_reach_all_backends(self):
        counts = self.connect_many(200, f"[{VIP_WEB6}]:80")
        self.assertEqual(sum(counts[b] for b in BACKENDS), 200, counts)
        self.assertEqual(set(counts), set(BACKENDS))

    def test_mac_rewrite_reaches_all_backends(self):
        counts = self.connect_many(200, f"{VIP_L2}:80")
        self.assertEqual(sum(counts[b] for b in BACKENDS), 200, counts)
        self.assertEqual(set(counts), set(BACKENDS))

    def test_udp_queries_reach_all_backends_in_both_families(self):
        for vip in (VIP_DNS4, VIP_DNS6):
            answers = collections.Counter()
            for _ in range(60):
                done = self.lab.run_in("client", "dig", "+short", "+tries=1", "+time=2", "TXT",
                                       "who.weir.test", f"@{vip}")
                answers[done.stdout.strip().strip('"')] += 1
            self.assertEqual(set(answers), set(BACKENDS), f"{vip}: {answers}")

    def test_a_download_of_64_mib_is_exact(self):
        target = self.lab.directory / "l4-download"
        self.lab.curl("-o", target, f"http://{VIP_WEB4}/files/64MiB")
        self.assertEqual(sha256(target), sha256(self.lab.directory / "www" / "64MiB"))

    def test_an_upload_of_16_mib_is_exact(self):
        source = self.lab.directory / "l4-upload"
        source.write_bytes(os.urandom(16 << 20))
        status = self.lab.curl("-o", "/dev/null", "-w", "%{http_code}", "-T", source,
                               f"http://{VIP_WEB4}/upload/l4").stdout
        self.assertEqual(status, "201")
        stored = [self.lab.directory / f"upload-{b}" / "upload" / "l4" for b in BACKENDS]
        self.assertEqual([sha256(p) for p in stored if p.exists()], [sha256(source)])

    def test_the_verdicts_account_for_every_packet(self):
        run("sysctl", "-qw", "kernel.bpf_stats_enabled=1")
        self.addCleanup(run, "sysctl", "-qw", "kernel.bpf_stats_enabled=0")
        self.connect_many(1, f"{VIP_WEB4}:80")
        before = self.lab.weir_json("stats", "--total")
        self.connect_many(100, f"{VIP_WEB4}:80")
        self.lab.run_in("client", "ping", "-c3", "-i0.2", NODE4)
        self.connect_many(5, f"{VIP_WEB4}:81", patience=0.2)
        time.sleep(0.3)
        after = self.lab.weir_json("stats", "--total")
        verdicts = {row["verdict"]: row["packets"] for row in after["verdicts"]}
        earlier = {row["verdict"]: row["packets"] for row in before["verdicts"]}
        self.assertEqual(sum(verdicts.values()), after["total"]["packets"])
        received = after["total"]["program_runs"] - before["total"]["program_runs"]
        self.assertEqual(after["total"]["packets"] - before["total"]["packets"], received)
        self.assertGreaterEqual(verdicts["tx_ipip"] - earlier["tx_ipip"], 500)
        self.assertGreaterEqual(verdicts["tx_refused"] - earlier["tx_refused"], 5)

    def test_connections_survive_the_removal_of_another_backend(self):
        clients = [self.lab.start(f"slow-{i}", "client", "curl", "-sS", "--max-time", "60",
                                  "--limit-rate", "4M", "-D", self.lab.directory / f"slow-{i}.head",
                                  "-o", self.lab.directory / f"slow-{i}.body",
                                  f"http://{VIP_WEB4}/files/64MiB") for i in range(12)]
        heads = [self.lab.directory / f"slow-{i}.head" for i in range(12)]
        wait_until("the downloads to begin", lambda: all(
            p.exists() and b"x-backend" in p.read_bytes() for p in heads))
        owners = [re.search(r"x-backend: (\w+)", p.read_text()).group(1) for p in heads]
        removed = owners[0]
        self.lab.weir("apply", "-f", self.lab.write_config(
            "\n".join(self.config.read_text().splitlines()), "same.yaml"))
        text = self.config.read_text().replace(
            f'{{name: {removed}, address: "{weirlab.backend4(removed)}"}}', "").replace(
                "[, ", "[").replace(", , ", ", ").replace(", ]", "]")
        self.lab.weir("apply", "-f", self.lab.write_config(text, "fewer.yaml"))
        want = sha256(self.lab.directory / "www" / "64MiB")
        survivors = 0
        for i, (client, owner) in enumerate(zip(clients, owners)):
            code = client.wait(90)
            self.lab.processes.pop(f"slow-{i}")
            body = self.lab.directory / f"slow-{i}.body"
            if owner != removed:
                self.assertEqual(code, 0, f"download {i} from {owner} broke")
                self.assertEqual(sha256(body), want)
                survivors += 1
            body.unlink(missing_ok=True)
        self.assertGreater(survivors, 0, owners)
        counts = self.connect_many(100, f"{VIP_WEB4}:80")
        self.assertEqual(counts[removed], 0, counts)
        self.assertEqual(sum(counts[b] for b in BACKENDS), 100, counts)


if __name__ == "__main__":
    main()
