"""Bad input: one line that says where, which value, what was expected and what to do, exit code 1
(2 for a wrong call), and nothing changed."""

import json

from labcase import *


class Refusals(LabCase):

    @classmethod
    def prepare(cls):
        cls.good = cls.lab.write_config(l4_config())
        cls.lab.weir("apply", "-f", cls.good)

    def state(self):
        return (self.lab.weir_json("vip", "list"), self.lab.weir_json("status")["weir-l4"]["revision"])

    def refused(self, *command, code=1, words=()):
        before = self.state()
        done = self.lab.weir(*command, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        lines = done.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        for word in words:
            self.assertIn(word, lines[0])
        self.assertEqual(self.state(), before)
        return lines[0]

    def refused_config(self, text, *words, verb="apply"):
        path = self.lab.write_config(text, "bad.yaml")
        for command in ("check", "apply"):
            self.refused(command, "-f", path, words=("bad.yaml:", *words))

    def edited(self, before, after):
        text = self.good.read_text()
        self.assertIn(before, text)
        return text.replace(before, after, 1)

    def test_an_unknown_key(self):
        self.refused_config(self.edited("address: 203", "adress: 203"), "adress", "address")

    def test_a_wrong_type(self):
        self.refused_config(self.edited("port: 80,", "port: eighty,"), "eighty", "65535")

    def test_a_duplicate_vip(self):
        self.refused_config(self.edited(f'name: direct, address: {VIP_L2}',
                                        f'name: direct, address: {VIP_WEB4}'), VIP_WEB4)

    def test_mixed_families(self):
        direct = next(line for line in self.good.read_text().splitlines() if "direct" in line)
        mixed = direct.replace(weirlab.backend4("b2"), weirlab.backend6("b2"))
        self.refused_config(self.edited(direct, mixed), "b2", weirlab.backend6("b2"), "l2")

    def test_port_zero(self):
        self.refused_config(self.edited("port: 53,", "port: 0,"), "0", "65535")

    def test_an_unknown_device(self):
        self.refused_config(self.edited("[eth0]", "[eth7]"), "eth7", "eth0")

    def test_a_vip_that_is_the_nodes_own_address(self):
        self.refused_config(self.edited(f"address: {VIP_L2}", f"address: {NODE4}"), NODE4)

    def test_a_missing_certificate(self):
        self.gateway_config()
        text = l7_config(self.lab.directory).replace(f"{self.lab.directory}/shop.pem",
                                                     "/nowhere/shop.pem")
        self.refused_config(text, "/nowhere/shop.pem")

    def test_command_line_mistakes(self):
        self.refused("vip", "add", f"{VIP_L2}:0/tcp", code=2, words=("'0'", "65535"))
        self.refused("vip", "add", f"{NODE4}:80/tcp", code=1, words=(NODE4,))
        self.refused("vip", "del", "192.0.2.1:80/tcp", code=1, words=("192.0.2.1:80/tcp",))
        self.refused("load", "eth7", code=1, words=("eth7",))
        self.refused("check", "-f", "/nowhere.yaml", code=1, words=("/nowhere.yaml",))
        done = self.lab.weir("vip", "frobnicate", check=False)
        self.assertEqual(done.returncode, 2)

    def test_another_program_on_the_device(self):
        self.lab.run_in("node", "ip", "link", "add", "other0", "type", "veth", "peer", "name",
                        "other1")
        self.addCleanup(self.lab.run_in, "node", "ip", "link", "delete", "other0", check=False)
        self.lab.load_program("node", "other0", "weir_pass")
        self.refused("load", "other0", words=("other0", "weir_pass"))
        link = json.loads(self.lab.run_in("node", "ip", "-j", "-d", "link", "show",
                                          "other0").stdout)[0]
        self.assertIn("xdp", link, "the foreign program is gone")

    def test_no_daemon(self):
        done = self.lab.run_in("node", weirlab.BUILD / "tools" / "weir" / "weir", "--l4-socket",
                               self.lab.directory / "nobody.sock", "status", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("nobody.sock", done.stderr)

    def start_and_fail(self, *command):
        done = self.lab.run_in("node", *command, check=False, timeout=30)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        lines = done.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        return lines[0]

    def test_no_rights(self):
        for daemon in ("l4/weir-l4", "l7/weir-l7"):
            extra = ["--config", self.good] if "l7" in daemon else []
            line = self.start_and_fail("setpriv", "--bounding-set", "-all", "--inh-caps", "-all",
                                       weirlab.BUILD / daemon, "--socket",
                                       self.lab.directory / "x.sock", "--state-dir",
                                       self.lab.directory / "x", *extra, *(
                                           ["--pin-dir", self.lab.pins / "x"] if "l4" in daemon
                                           else ["--access-log", "-"]))
            self.assertRegex(line, "root|CAP_")

    def test_no_huge_pages(self):
        # In a mount namespace of its own, where no size of huge page has a free one.
        fake = self.lab.directory / "hugepages" / "hugepages-2048kB"
        fake.mkdir(parents=True)
        for name in ("free_hugepages", "nr_hugepages", "resv_hugepages", "surplus_hugepages"):
            (fake / name).write_text("0\n")
        self.lab.weir("apply", "-f", self.gateway_config())
        line = self.start_and_fail(
            "unshare", "-m", "sh", "-c",
            f"mount --bind {fake.parent} /sys/kernel/mm/hugepages && exec \"$@\"", "sh",
            weirlab.BUILD / "l7" / "weir-l7", "--config", self.gateway_config(), "--socket",
            self.lab.directory / "y.sock", "--state-dir", self.lab.directory / "y", "--access-log",
            "-")
        self.assertIn("huge pages", line)
        self.assertIn("nr_hugepages", line)
        self.lab.weir("apply", "-f", self.good)

    def gateway_config(self):
        if not (self.lab.directory / "shop.pem").exists():
            self.lab.make_certificates()
        return self.lab.write_config(l7_config(self.lab.directory), "gateway.yaml")


if __name__ == "__main__":
    main()
