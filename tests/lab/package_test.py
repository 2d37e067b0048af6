"""The Debian package: what is in it, that its programs run from where they are unpacked, and that they
balance a VIP there. Whether it installs on a system without anything is the guest layer's question
(tests/guest/clean_root_test.py), since that fetches a system first."""

import pathlib
import re
import os
import shutil
import subprocess
import tempfile
import unittest

from labcase import *

PROGRAMS = ["weir", "weir-l4", "weir-l7", "weir-decap"]
UNITS = ["weir-l4", "weir-l7", "weir-l7@"]


class Package(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        if shutil.which("dpkg-deb") is None:
            print("SKIPPED: dpkg-deb is not installed; this is no Debian")
            raise unittest.SkipTest("no dpkg-deb")
        cls.directory = pathlib.Path(tempfile.mkdtemp(prefix="weir-package-"))
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        # Packed anew, so that it is what was built; a few seconds.
        run("cpack", "-G", "DEB", "--config", BUILD / "CPackConfig.cmake", "-B", cls.directory,
            timeout=240)
        cls.package = next(cls.directory.glob("*.deb"))
        cls.root = cls.directory / "root"
        run("dpkg-deb", "-x", cls.package, cls.root)
        cls.has_l7 = (cls.root / "usr/bin/weir-l7").exists()

    def programs(self):
        return [name for name in PROGRAMS if self.has_l7 or name != "weir-l7"]

    def units(self):
        return [self.root / f"usr/lib/systemd/system/{name}.service" for name in UNITS
                if self.has_l7 or not name.startswith("weir-l7")]

    def field(self, name):
        return run("dpkg-deb", "-f", self.package, name).stdout.strip()

    def control_file(self, name):
        return run("dpkg-deb", "-I", self.package, name).stdout

    # ---- contents -----------------------------------------------------------------------------

    def test_everything_is_in_its_place(self):
        files = {str(path.relative_to(self.root)) for path in self.root.rglob("*")
                 if path.is_file()}
        expected = {"etc/weir/weir.yaml", "usr/share/bash-completion/completions/weir",
                    "usr/share/zsh/vendor-completions/_weir",
                    "usr/share/fish/vendor_completions.d/weir.fish",
                    "usr/share/doc/weir/copyright", "usr/share/doc/weir/changelog.gz",
                    "usr/share/man/man1/weir.1.gz", "usr/share/man/man5/weir.yaml.5.gz",
                    "usr/share/man/man8/weir-l4.8.gz", "usr/share/man/man8/weir-decap.8.gz",
                    "usr/share/man/man1/weir-bench.1.gz", "usr/bin/weir-bench",
                    *(f"usr/bin/{name}" for name in self.programs())}
        self.assertLessEqual(expected, files)
        for place in files:
            self.assertRegex(place, r"^(usr/|etc/weir/)")

    def test_libraries_are_depended_on_by_what_the_programs_need(self):
        depends = self.field("Depends")
        for library in ("libc6", "libstdc++6", "libbpf1", "libxdp1", "libyaml-0-2", "libfmt9"):
            self.assertIn(library, depends)
        self.assertNotIn("-dev", depends)

    def test_the_configuration_is_the_administrators(self):
        self.assertEqual(self.control_file("conffiles").split(), ["/etc/weir/weir.yaml"])

    def test_no_script_of_the_package_stops_traffic(self):
        for name in ("postinst", "prerm", "postrm"):
            script = self.control_file(name)
            with self.subTest(script=name):
                subprocess.run(["sh", "-n"], input=script, text=True, check=True)
                self.assertNotIn("weir unload", re.sub(r"#.*|echo .*", "", script))
        # Whoever purges asks for it; whoever upgrades or removes does not.
        before, purge = self.control_file("postrm").split('"$1" = purge')
        self.assertNotIn("/sys/fs/bpf/weir", before)
        self.assertIn("/sys/fs/bpf/weir", purge)

    def test_lintian_finds_no_error(self):
        if shutil.which("lintian") is None:
            self.skipTest("lintian is not installed; run tools/setup")
        done = run("lintian", "--fail-on", "error,warning", "--suppress-tags",
                   "initial-upload-closes-no-bugs", self.package, check=False, timeout=240)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    # ---- units --------------------------------------------------------------------------------

    def test_systemd_understands_the_units(self):
        if shutil.which("systemd-analyze") is None:
            self.skipTest("systemd-analyze is not installed; run tools/setup")
        for unit in self.units():
            # Checked where the programs that they name are: in the unpacked tree.
            there = self.directory / unit.name
            there.write_text(unit.read_text().replace("/usr/bin/weir", f"{self.root}/usr/bin/weir"))
            done = run("systemd-analyze", "verify", "--man=no", there, check=False)
            lines = [line for line in (done.stdout + done.stderr).splitlines() if "weir" in line]
            self.assertEqual(lines, [], unit.name)

    def test_units_are_locked_up(self):
        if shutil.which("systemd-analyze") is None:
            self.skipTest("systemd-analyze is not installed; run tools/setup")
        for unit in self.units():
            done = run("systemd-analyze", "security", "--offline=true", "--threshold=40", unit,
                       check=False)
            overall = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
            self.assertTrue(overall, done.stdout + done.stderr)
            print(f"{unit.name}: exposure {overall.group(1)} of 10")
            self.assertLessEqual(float(overall.group(1)), 4.0, done.stdout)

    # ---- programs -----------------------------------------------------------------------------

    def test_programs_run_from_where_they_were_unpacked(self):
        for name in self.programs():
            done = run(self.root / "usr/bin" / name, "--help")
            self.assertIn(name, done.stdout)

    def test_the_configuration_that_comes_along_is_valid_and_empty(self):
        done = run(self.root / "usr/bin/weir", "check", "-f", self.root / "etc/weir/weir.yaml")
        self.assertIn("is fine", done.stdout)


class PackageUnderTraffic(LabCase):
    """The programs of the package, in the lab's network."""

    @classmethod
    def setUpClass(cls):
        cls.directory = pathlib.Path(tempfile.mkdtemp(prefix="weir-package-"))
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        run("cmake", "--install", BUILD, env=os.environ | {"DESTDIR": str(cls.directory)},
            timeout=120)
        super().setUpClass()

    @classmethod
    def installed(cls, name):
        return next(cls.directory.rglob(f"bin/{name}"))

    @classmethod
    def prepare(cls):
        """Puts the installed daemon in the place of the built one, over the same pins and state."""
        cls.lab.stop("weir-l4")
        cls.lab.start("weir-l4", "node", cls.installed("weir-l4"), "--socket", cls.lab.l4_socket,
                      "--state-dir", cls.lab.directory / "state", "--pin-dir", cls.lab.pins / "lb")
        wait_until("the installed weir-l4 to answer",
                   lambda: cls.weir("vip", "list", check=False).returncode == 0)

    @classmethod
    def weir(cls, *arguments, **options):
        return cls.lab.run_in("node", cls.installed("weir"), "--l4-socket", cls.lab.l4_socket,
                              "--l7-socket", cls.lab.l7_socket, *arguments, **options)

    def test_a_vip_is_balanced_by_what_was_installed(self):
        vip = f"{VIP_WEB4}:80/tcp"
        self.weir("load", "eth0")
        self.weir("vip", "add", vip)
        for name in BACKENDS:
            self.weir("backend", "add", vip, weirlab.backend4(name))
        wait_until("next hops", lambda: "unresolved" not in self.weir("vip", "show", vip).stdout)
        counts = self.connect_many(200, f"{VIP_WEB4}:80")
        self.assertEqual(sum(counts[name] for name in BACKENDS), 200, counts)
        self.assertTrue(all(counts[name] > 0 for name in BACKENDS), counts)

    def test_the_configuration_that_comes_along_changes_nothing(self):
        config = next(self.directory.rglob("weir.yaml"))
        before = self.weir("vip", "list").stdout
        self.weir("apply", "-f", config)
        self.assertEqual(self.weir("vip", "list").stdout, before)


if __name__ == "__main__":
    main()
