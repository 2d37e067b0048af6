"""`weir doctor` on a node of the lab: things are broken one by one, and each is named with a remedy
that mends it."""

import json
import subprocess

from labcase import *


class Doctor(LabCase):

    @classmethod
    def prepare(cls):
        cls.lab.weir("apply", "-f", cls.lab.write_config(l4_config()))
        wait_until("next hops", lambda: cls.lab.weir_json("status")["weir-l4"]["backends_unresolved"] == 0)

    def doctor(self, *arguments):
        """Findings by check."""
        done = self.lab.weir("doctor", *arguments, "--json", check=False)
        self.assertIn(done.returncode, (0, 1, 2), done.stderr)
        checks = json.loads(done.stdout)["checks"]
        worst = max(["ok", "warn", "fail"].index(check["verdict"]) for check in checks)
        self.assertEqual(done.returncode, worst)
        return {check["check"]: check for check in checks}

    def assert_mended(self, check, remedy):
        """Types the remedy, as the report has it, and looks again."""
        self.lab.run_in("node", "sh", "-c", remedy)
        self.assertEqual(self.doctor()[check]["verdict"], "ok")

    def test_a_healthy_node_has_no_failure(self):
        findings = self.doctor()
        self.assertEqual([c for c in findings.values() if c["verdict"] == "fail"], [])
        for check in ("kernel", "xdp", "bpf maps", "bpffs", "weir-l4", "neighbours", "eth0 link",
                      "eth0 mtu", "eth0 driver"):
            self.assertEqual(findings[check]["verdict"], "ok", findings[check])
        self.assertIn("weir_lb", findings["eth0 xdp"]["found"])
        self.assertIn("ours", findings["eth0 xdp"]["found"])

    def test_a_strict_reverse_path_filter_is_named(self):
        self.lab.run_in("node", "sysctl", "-qw", "net.ipv4.conf.eth0.rp_filter=1")
        found = self.doctor()["eth0 rp_filter"]
        self.assertEqual((found["verdict"], found["found"]), ("warn", "strict"))
        self.assert_mended("eth0 rp_filter", found["remedy"])

    def test_a_small_mtu_is_named(self):
        self.lab.run_in("node", "ip", "link", "set", "eth0", "mtu", "1500")
        self.addCleanup(self.lab.run_in, "node", "ip", "link", "set", "eth0", "mtu", "1600")
        found = self.doctor()["eth0 mtu"]
        self.assertEqual((found["verdict"], found["found"]), ("warn", "1500"))
        self.assert_mended("eth0 mtu", found["remedy"])

    def test_another_program_is_named_with_its_id(self):
        self.lab.cable("node", "eth9", "fabric", "spare", 1600)
        self.addCleanup(self.lab.run_in, "node", "ip", "link", "delete", "eth9")
        self.lab.load_program("node", "eth9", "weir_pass")
        found = self.doctor("eth9")["eth9 xdp"]
        self.assertEqual(found["verdict"], "fail")
        self.assertRegex(found["found"], r"weir_pass \(id \d+, native\)")
        self.lab.run_in("node", "sh", "-c", found["remedy"])
        self.assertEqual(self.doctor("eth9")["eth9 xdp"]["verdict"], "ok")

    def test_a_backend_that_does_not_answer_is_named(self):
        vip = f"{VIP_L2}:8080/tcp"
        self.lab.weir("vip", "add", vip, "--mode", "l2")
        self.addCleanup(self.lab.weir, "vip", "del", vip)
        self.lab.weir("backend", "add", vip, "10.77.0.77")
        found = wait_until("the kernel to give up", lambda: next(
            (c for c in [self.doctor()["neighbours"]] if c["verdict"] == "fail"), None))
        self.assertIn("10.77.0.77", found["found"])

    def test_a_device_that_is_down_or_absent_is_named(self):
        self.lab.cable("node", "eth8", "fabric", "spare8", 1600)
        self.addCleanup(self.lab.run_in, "node", "ip", "link", "delete", "eth8")
        self.lab.run_in("node", "ip", "link", "set", "eth8", "down")
        findings = self.doctor("eth8", "eth7")
        self.assertEqual(findings["eth8 link"]["found"], "down")
        self.assertEqual(findings["eth7 link"]["verdict"], "fail")

    def test_a_daemon_that_is_away_is_named(self):
        done = self.lab.run_in("node", BUILD / "tools" / "weir" / "weir", "--l4-socket", "/nowhere",
                               "doctor", "eth0", check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("systemctl start weir-l4", done.stdout)
        self.assertIn("no daemon here speaks for", done.stdout)

    def test_without_rights_it_says_what_it_could_not_see(self):
        done = subprocess.run(
            self.lab.command_in("node", "setpriv", "--reuid=65534", "--clear-groups",
                                "--bounding-set=-all", BUILD / "tools" / "weir" / "weir", "doctor",
                                "eth0"), capture_output=True, text=True, check=False)
        self.assertIn("not seen, for want of rights", done.stdout, done.stderr)
        self.assertRegex(done.stdout, r"(?m)^warn  rights +missing: CAP_BPF")
        self.assertRegex(done.stdout, r"(?m)^ok    eth0 link +up")


if __name__ == "__main__":
    main()
