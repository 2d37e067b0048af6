"""Configurations and revisions as an operator works with them: what would change, what did, the way
back, the running state as a file, files that are applied by themselves; and what a full disk, a disk
that cannot be written and a daemon that is killed do to all of it."""

import json
import random
import signal
import threading
import time
import unittest

from labcase import *

A, B = "203.0.113.1:53/udp", "203.0.113.2:53/udp"
HAND = "203.0.113.99:53/udp"


def vip(number, weight=1, extra=""):
    return (f"- {{name: v{number}, address: 203.0.113.{number}, port: 53, protocol: UDP, forward: "
            f"{{mode: ipip}}, table: {{size: 251}}, backends: "
            f"[{{address: 10.77.0.11, weight: {weight}}}]{extra}}}\n")


def config(*vips, node="  interfaces: [eth0]\n"):
    return f"version: 1\nnode:\n{node}vips:\n{''.join(vips)}"


class RevisionCase(unittest.TestCase):
    """A node with a device, and a state directory that is a disk of its own."""

    DISK = "64m"

    def setUp(self):
        need_root()
        self.lab = weirlab.Lab(f"weirtest{os.getpid()}r")
        self.addCleanup(self.lab.close)
        self.lab.remove_leftovers()
        for host in ("fabric", "node"):
            self.lab.add_host(host)
        self.lab.run_in("fabric", "ip", "link", "add", "br0", "type", "bridge")
        self.lab.run_in("fabric", "ip", "link", "set", "br0", "up")
        self.lab.attach("node", 1500)
        self.lab.run_in("node", "ip", "address", "add", f"{NODE4}/24", "dev", "eth0")
        self.lab.pins.mkdir(parents=True, exist_ok=True)
        self.state = self.lab.directory / "state"
        self.state.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={self.DISK}", "none", self.state)
        self.addCleanup(run, "umount", self.state)
        self.addCleanup(self.lab.stop, "weir-l4")
        self.lab.start_l4()

    # ---- words --------------------------------------------------------------------------------

    def weir(self, *arguments, code=0):
        done = self.lab.weir(*arguments, check=False)
        self.assertEqual(done.returncode, code, f"{arguments}\n{done.stdout}{done.stderr}")
        return done

    def apply(self, text, *options, code=0):
        return self.weir("apply", "-f", self.lab.write_config(text), *options, code=code)

    def diff(self, text, code):
        done = self.weir("diff", self.lab.write_config(text, "other.yaml"), code=code)
        return [line.split(None, 1)[1] for line in done.stdout.splitlines()[1:]] if code == 1 else []

    def status(self):
        return self.lab.weir_json("status")

    def revision(self):
        return self.status()["weir-l4"]["revision"]

    def export(self):
        return self.weir("export").stdout

    def vips(self):
        return {v["vip"]: v for v in self.lab.weir_json("vip", "list")["vips"]}

    def kill(self, *options):
        self.lab.stop("weir-l4", signal.SIGKILL)
        self.lab.start_l4(*options)


class Revisions(RevisionCase):

    def test_what_changes_is_said_before_and_kept_after(self):
        self.apply(config(vip(1), vip(2)))
        self.assertEqual(self.diff(config(vip(1), vip(2)), 0), [])
        self.weir("diff")
        lines = self.diff(config(vip(1, 50), vip(3)), 1)
        self.assertEqual(sorted(lines), sorted([
            f"remove vip {B}", f"vip {A}: backend 10.77.0.11 weight 1 → 50",
            "add vip 203.0.113.3:53/udp (ipip, 1 backend)"]))
        before = self.revision()
        done = self.apply(config(vip(1, 50), vip(3)), "--dry-run")
        self.assertIn("weight 1 → 50", done.stdout)
        self.assertEqual(self.revision(), before, "a dry run")
        self.apply(config(vip(1, 50), vip(3)))
        self.weir("vip", "add", HAND)
        self.weir("backend", "add", HAND, "10.77.0.12", "--weight", "5")
        rows = self.lab.weir_json("history")["revisions"]
        self.assertEqual([row["revision"] for row in rows], [1, 2, 3, 4])
        self.assertEqual([row["cause"].split(" /")[0] for row in rows],
                         ["apply", "apply", f"vip add {HAND}", f"backend add {HAND} 10.77.0.12"])
        self.assertIn(f"vip {A}: backend 10.77.0.11 weight 1 → 50", rows[1]["changes"])
        self.assertIn("REVISION", self.weir("history").stdout)
        self.weir("diff", "/nowhere.yaml", code=2)

    def test_the_way_back_and_what_is_gone(self):
        self.apply(config(vip(1)))
        self.weir("vip", "add", HAND)
        first = self.export()
        self.apply(config(vip(2, 9)))
        self.weir("vip", "del", HAND)
        done = self.weir("diff", "--revision", "2", code=1)
        self.assertIn(f"add vip {HAND}", done.stdout)
        self.weir("rollback", "2")
        self.assertEqual(self.export(), first)
        self.assertEqual(self.revision(), 5)
        self.assertEqual(self.lab.weir_json("history")["revisions"][-1]["cause"], "rollback 2")
        self.weir("diff", "--revision", "2")
        self.kill()
        self.assertEqual(self.export(), first)
        self.lab.stop("weir-l4")
        self.lab.start_l4("--revisions", "2")
        self.assertEqual([r["revision"] for r in self.lab.weir_json("history")["revisions"]], [4, 5])
        refused = self.weir("rollback", "2", code=1)
        self.assertIn("there is no revision 2: kept are 4 to 5", refused.stderr)

    def test_of_a_file_with_mistakes_the_rest_goes_live(self):
        wrong = config(vip(1), vip(2).replace("port: 53", "port: 0"), vip(3))
        refused = self.apply(wrong, code=1)
        self.assertIn("port of vip 'v2'", refused.stderr)
        self.assertEqual(self.vips(), {})
        done = self.apply(wrong, "--partial", code=3)
        self.assertIn("vip 'v2'", done.stdout)
        self.assertIn("were left out", done.stderr)
        self.assertEqual(sorted(self.vips()), [A, "203.0.113.3:53/udp"])
        self.assertIn("in part", self.lab.weir_json("history")["revisions"][-1]["cause"])
        # An address of the node itself is a mistake too.
        self.apply(config(vip(1), vip(2).replace("203.0.113.2", NODE4)), "--partial", code=3)
        self.assertEqual(list(self.vips()), [A])

    def test_an_export_is_the_running_state(self):
        seed = self.lab.directory / "seed"
        seed.write_text("an old secret of enough bytes\n")
        self.apply(config(vip(1), node=f"  interfaces: [eth0]\n  hashSeed: {{file: {seed}}}\n"))
        self.weir("vip", "add", HAND, "--name", "hand", "--mode", "gue", "--limit", "packets=1000/s")
        self.weir("backend", "add", HAND, "10.77.0.12", "--name", "b", "--weight", "3")
        text = self.export()
        self.assertNotIn("secret", text)
        self.assertIn(str(seed), text)
        self.assertEqual(self.diff(text, 1), [f"vip {HAND}: owner manual → file"])
        owners = lambda: {v["vip"]: v["owner"] for v in self.vips().values()}
        self.assertEqual(owners(), {A: "file", HAND: "manual"})
        program = self.status()["devices"][0]["program_id"]
        self.apply(text)
        self.assertEqual(owners(), {A: "file", HAND: "file"})
        self.assertEqual(self.status()["devices"][0]["program_id"], program)
        self.assertEqual(self.diff(self.export(), 0), [])
        self.weir("vip", "del", HAND, code=1)
        # A file that says something else about what was added by hand is refused.
        self.weir("vip", "add", B)
        refused = self.apply(config(vip(2)), code=1)
        self.assertIn("added by hand", refused.stderr)


class Reload(RevisionCase):

    def wait_for(self, what, condition):
        return wait_until(what, condition, 20, 0.1)

    def reload_state(self):
        return self.status()["reload"]

    def hup(self):
        self.lab.processes["weir-l4"].send_signal(signal.SIGHUP)

    def test_sighup_applies_the_last_file_again_or_keeps_what_is(self):
        self.apply(config(vip(1)))
        self.lab.write_config(config(vip(1), vip(2)))
        self.hup()
        self.wait_for("the second VIP", lambda: B in self.vips())
        self.assertEqual(self.reload_state()["state"], "ok")
        whole = config(vip(1), vip(2), vip(3))
        self.lab.write_config(whole[:-20])  # half written
        self.hup()
        self.wait_for("the failure", lambda: self.reload_state()["state"] == "failed")
        self.assertEqual(sorted(self.vips()), [A, B])
        self.assertIn("not applied:", self.weir("status").stdout)
        self.assertIn("stays in force", self.lab.log("weir-l4"))
        self.lab.write_config(whole)
        self.hup()
        self.wait_for("the third VIP", lambda: len(self.vips()) == 3)
        self.assertEqual(self.reload_state()["state"], "ok")

    def test_a_watched_file_is_applied_whenever_it_is_replaced(self):
        directory = self.lab.directory / "mounted"
        (directory / "..1").mkdir(parents=True)
        (directory / "..1" / "weir.yaml").write_text(config(vip(1)))
        (directory / "..data").symlink_to("..1")
        (directory / "weir.yaml").symlink_to("..data/weir.yaml")
        self.lab.stop("weir-l4")
        self.lab.start_l4("--config", directory / "weir.yaml", "--watch")
        self.assertEqual(list(self.vips()), [A], "applied at start")

        def swap(number, text):
            (directory / f"..{number}").mkdir()
            (directory / f"..{number}" / "weir.yaml").write_text(text)
            (directory / "..tmp").symlink_to(f"..{number}")
            (directory / "..tmp").rename(directory / "..data")

        swap(2, config(vip(1), vip(2)))
        self.wait_for("the second VIP", lambda: B in self.vips())
        swap(3, config(vip(1), vip(2), vip(3))[:-9])
        self.wait_for("the failure", lambda: self.reload_state()["state"] == "failed")
        self.assertEqual(sorted(self.vips()), [A, B])
        swap(4, config(vip(2)))
        self.wait_for("one VIP", lambda: list(self.vips()) == [B])
        # An editor writes a new file and renames it; a script writes in place.
        (directory / "new").write_text(config(vip(1)))
        (directory / "new").rename(directory / "weir.yaml")
        self.wait_for("the renamed file", lambda: list(self.vips()) == [A])
        with open(directory / "weir.yaml", "w", encoding="ascii") as file:
            file.write(config(vip(2), vip(1))[:-30])
            file.flush()
            time.sleep(1)
            self.assertEqual(list(self.vips()), [A], "half a file was read")
            file.seek(0)
            file.write(config(vip(2), vip(1)))
        self.wait_for("the written file", lambda: len(self.vips()) == 2)

    def test_a_bad_file_at_start_leaves_what_ran(self):
        self.apply(config(vip(1)))
        bad = self.lab.write_config("version: 1\nvips: 7\n", "bad.yaml")
        self.kill("--config", bad)
        self.assertEqual(list(self.vips()), [A])
        self.assertEqual(self.reload_state()["state"], "failed")


class Disk(RevisionCase):
    DISK = "256k"

    def fill(self):
        with open(self.state / "filler", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass

    def refuses_everything(self, *more):
        before, revision, shown = self.export(), self.revision(), self.status()["devices"]
        large = [word for i in range(30) for word in ("--deny", f"192.0.2.{i}")]
        for arguments in (("vip", "add", B, *large), ("rollback", "1"), *more):
            done = self.weir(*arguments, code=1)
            self.assertRegex(done.stderr, "No space left|Read-only", arguments)
            self.assertIn("nothing was changed", done.stderr, arguments)
        self.apply(config(vip(1), vip(2)), code=1)
        self.assertEqual(self.export(), before)
        self.assertEqual(self.revision(), revision)
        self.assertEqual(self.status()["devices"], shown)

    def prepare(self):
        self.apply(config(vip(1)))
        self.weir("vip", "add", HAND)
        self.weir("backend", "add", HAND, "10.77.0.12")

    def works_again(self):
        self.weir("backend", "add", HAND, "10.77.0.13")
        self.apply(config(vip(1), vip(2)))
        before = self.export()
        self.kill()
        self.assertEqual(self.export(), before)

    def test_a_full_disk(self):
        self.prepare()
        self.fill()
        # Small records fit in what is left of the last block.
        for weight in range(2, 200):
            if self.lab.weir("backend", "set", HAND, "10.77.0.12", "--weight", str(weight),
                             check=False).returncode != 0:
                break
        self.refuses_everything()
        self.kill()
        self.refuses_everything()
        (self.state / "filler").unlink()
        self.works_again()

    def test_a_disk_that_cannot_be_written(self):
        self.prepare()
        run("mount", "-o", "remount,ro", self.state)
        small = ("vip", "del", HAND), ("unload",), ("backend", "add", HAND, "10.77.0.13")
        self.refuses_everything(*small)
        self.kill()
        self.refuses_everything(*small)
        run("mount", "-o", "remount,rw", self.state)
        self.works_again()


class Killed(RevisionCase):

    def test_kill_at_any_moment_leaves_the_old_state_or_the_new(self):
        rng = random.Random(20261128)
        print("\nseed 20261128", flush=True)
        self.apply(config(vip(1)))
        self.weir("vip", "add", HAND)
        for turn in range(40):
            acknowledged = self.export()
            number, weight = rng.randint(1, 90), rng.randint(2, 9999)
            commands = [("backend", "add" if turn == 0 else "set", HAND, "10.77.0.12", "--weight",
                         str(weight)),
                        ("apply", "-f", self.lab.write_config(config(vip(number, weight))))]
            if turn == 0:
                self.weir(*commands[0])
                continue
            answers = []
            worker = threading.Thread(target=lambda: answers.append(
                self.lab.weir(*commands[turn % 2], check=False).returncode))
            worker.start()
            time.sleep(rng.uniform(0, 0.15))
            self.lab.stop("weir-l4", signal.SIGKILL)
            worker.join()
            self.lab.start_l4()
            now = self.export()
            changed = f"weight: {weight}" in now
            self.assertTrue(changed or now == acknowledged, f"{turn}\n{acknowledged}\n{now}")
            if answers == [0]:
                self.assertTrue(changed, f"{turn}: what was acknowledged is lost")
            # The kernel has what the disk says.
            self.assertEqual(self.status()["weir-l4"]["vips"], 2)
            self.weir("diff", "--revision", str(self.revision()))
        rows = self.lab.weir_json("history")["revisions"]
        self.assertEqual([r["revision"] for r in rows],
                         list(range(rows[0]["revision"], rows[-1]["revision"] + 1)))


if __name__ == "__main__":
    main()
