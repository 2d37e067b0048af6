"""Whole transfers through a cable that loses one frame in a hundred."""

import json

from labcase import *


class Loss(LabCase):
    IMPAIRED = True

    @classmethod
    def prepare(cls):
        lab = cls.lab
        directory = lab.pins / "impair"
        directory.mkdir(parents=True, exist_ok=True)
        program = directory / "program"
        run("bpftool", "prog", "load", weirlab.BUILD / "tests" / "lab" / "impair.bpf.o", program,
            "pinmaps", directory)
        index = {row["ifname"]: row["ifindex"] for row in
                 json.loads(lab.run_in("impair", "ip", "-j", "link").stdout)}
        cls.counters = directory / "impair_counters"
        for here, there in (("left", "right"), ("right", "left")):
            lab.run_in("impair", "bpftool", "map", "update", "pinned", directory / "impair_devices",
                       "key", *cls.little_endian(index[here]), "value",
                       *cls.little_endian(index[there]))
            lab.run_in("impair", "bpftool", "net", "attach", "xdpdrv", "pinned", program, "dev", here)
        lab.receive_redirected("client", "eth0")
        lab.receive_redirected("fabric", "client")
        lab.make_certificates()
        config = lab.write_config(l7_config(lab.directory))
        lab.weir("apply", "-f", config)
        lab.start_l7(config)

    @staticmethod
    def little_endian(number):
        return [str(b) for b in number.to_bytes(4, "little")]

    def lost(self):
        rows = json.loads(run("bpftool", "-j", "map", "dump", "pinned", self.counters).stdout)
        return sum(cpu["value"] for cpu in rows[1]["formatted"]["values"])

    def transfer(self, *arguments):
        before = self.lost()
        done = self.lab.curl("-k", "--resolve", f"api.shop.example:443:{VIP_EDGE4}", *arguments)
        self.assertGreater(self.lost() - before, 50, "the cable lost next to nothing")
        return done.stdout

    def test_a_download_of_64_mib_is_exact(self):
        target = self.lab.directory / "download"
        self.transfer("-o", target, "https://api.shop.example/cart/files/64MiB")
        self.assertEqual(sha256(target), sha256(self.lab.directory / "www" / "64MiB"))

    def test_an_upload_of_16_mib_is_exact(self):
        source = self.lab.directory / "upload"
        source.write_bytes(os.urandom(16 << 20))
        self.transfer("-o", "/dev/null", "-T", source, "https://api.shop.example/users/upload/lossy")
        stored = self.lab.directory / "upload-b3" / "users" / "upload" / "lossy"
        self.assertEqual(sha256(stored), sha256(source))

    def test_two_thousand_requests_all_succeed(self):
        done = self.lab.run_in("client", "h2load", "--h1", "-n2000", "-c20",
                               f"--connect-to={VIP_EDGE4}:443", "https://api.shop.example/cart",
                               timeout=180)
        self.assertIn("2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout", done.stdout)


if __name__ == "__main__":
    main()
