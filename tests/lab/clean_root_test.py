"""The Debian package on a Debian 12 that has nothing but apt: it installs with what it depends on, its
programs balance a VIP from there, an upgrade loses no connection, and a purge leaves nothing.

Fetches a system of some 100 MB from Debian's mirrors, so it is part of the layer `guest`, which runs on
request: tools/test guest."""

import os
import pathlib
import shutil
import signal
import tempfile
import unittest

from labcase import *

VIP = f"{VIP_WEB4}:80/tcp"


class CleanRoot(LabCase):

    @classmethod
    def setUpClass(cls):
        for tool in ("mmdebstrap", "cpack", "dpkg-deb"):
            if shutil.which(tool) is None:
                print(f"SKIPPED: {tool} is not installed; run tools/setup guest")
                raise unittest.SkipTest(f"no {tool}")
        cls.directory = pathlib.Path(tempfile.mkdtemp(prefix="weir-clean-"))
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        cls.root = cls.directory / "root"
        # WEIR_CLEAN_ROOT: a tar of such a system, for whoever runs this often.
        kept = os.environ.get("WEIR_CLEAN_ROOT")
        if kept:
            cls.root.mkdir()
            run("tar", "-xf", kept, "-C", cls.root, timeout=120)
        else:
            run("mmdebstrap", "--variant=apt", "bookworm", cls.root,
                "http://deb.debian.org/debian", timeout=600)
        run("cpack", "-G", "DEB", "--config", BUILD / "CPackConfig.cmake", "-B", cls.directory,
            timeout=240)
        cls.package = next(cls.directory.glob("*.deb"))
        shutil.copy(cls.package, cls.root / "weir.deb")
        shutil.copy("/etc/resolv.conf", cls.root / "etc/resolv.conf")
        cls.in_root("apt-get", "update", timeout=300)
        cls.in_root("apt-get", "install", "-y", "--no-install-recommends", "./weir.deb", timeout=600)
        super().setUpClass()

    @classmethod
    def command(cls, *command):
        """Within the root, with the kernel's file systems, which end with the command's mounts."""
        mounts = "; ".join(f"mount --rbind {place} {cls.root}{place}" for place in
                           ("/proc", "/sys", "/dev"))
        return ["unshare", "--mount", "sh", "-c", f'{mounts}; exec chroot "$0" "$@"', str(cls.root),
                *map(str, command)]

    @classmethod
    def in_root(cls, *command, **options):
        return run(*cls.command(*command),
                   env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive",
                        "LC_ALL": "C"}, **options)

    @classmethod
    def weir(cls, *arguments, **options):
        return cls.lab.run_in("node", *cls.command("weir", *arguments), **options)

    @classmethod
    def start_installed(cls):
        cls.lab.start("weir-l4", "node", *cls.command("weir-l4", "--pin-dir", cls.lab.pins / "lb"))
        wait_until("the installed weir-l4 to answer",
                   lambda: cls.weir("vip", "list", check=False).returncode == 0)

    @classmethod
    def prepare(cls):
        cls.lab.stop("weir-l4")  # the build tree's
        cls.start_installed()

    def requests(self, count):
        counts = self.connect_many(count, f"{VIP_WEB4}:80")
        self.assertEqual(sum(counts[name] for name in BACKENDS), count, counts)

    def test_1_the_package_is_installed_whole(self):
        done = self.in_root("dpkg", "--status", "weir")
        self.assertIn("Status: install ok installed", done.stdout)
        self.assertEqual(self.in_root("dpkg", "--verify", "weir").stdout, "")
        for name in ("weir", "weir-l4", "weir-decap"):
            self.in_root(name, "--help")

    def test_2_a_vip_is_balanced(self):
        self.weir("load", "eth0")
        self.weir("vip", "add", VIP)
        for name in BACKENDS:
            self.weir("backend", "add", VIP, weirlab.backend4(name))
        wait_until("next hops", lambda: "unresolved" not in self.weir("vip", "show", VIP).stdout)
        self.requests(200)

    def test_3_an_upgrade_stops_no_traffic(self):
        target = self.lab.directory / "download"
        client = self.lab.start("download", "client", "curl", "-sS", "--limit-rate", "30M", "-o",
                                target, f"http://{VIP_WEB4}/files/64MiB")
        wait_until("the download to begin", lambda: target.exists() and target.stat().st_size > 0)
        self.in_root("dpkg", "--install", "/weir.deb")
        self.lab.stop("weir-l4", signal.SIGTERM)
        self.start_installed()
        self.assertEqual(client.wait(60), 0)
        self.lab.processes.pop("download")
        self.requests(50)

    def test_4_a_removed_package_leaves_traffic_and_a_purged_one_nothing(self):
        self.lab.stop("weir-l4", signal.SIGTERM)
        self.in_root("dpkg", "--remove", "weir")
        self.requests(50)
        self.assertTrue((self.root / "etc/weir/weir.yaml").exists())
        self.in_root("dpkg", "--purge", "weir")
        for place in ("etc/weir", "var/lib/weir", "run/weir", "usr/bin/weir"):
            self.assertFalse((self.root / place).exists(), place)


if __name__ == "__main__":
    main()
