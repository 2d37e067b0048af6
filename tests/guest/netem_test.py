"""A download through a VIP over a link that loses and reorders, made so by the kernel's netem."""

import json
import unittest

from guestcase import BACKENDS, VIP4, GuestCase, backend4, sha256_of_stream

SIZE = 5_000_000
# Both ways of the client's cable: what it sends to the balancer, and what backends send to it.
IMPAIRED = [("client", "eth0"), ("fabric", "client")]
NETEM = ["loss", "1%", "delay", "4ms", "reorder", "75%", "50%"]


class LossyLink(GuestCase):

    @classmethod
    def prepare(cls):
        cls.add_vip(f"{VIP4}:80/tcp", "ipip", [backend4(name) for name in BACKENDS])
        cls.lab.weir("load", "eth0", "--mode", "native")
        for host, device in IMPAIRED:
            cls.lab.run_in(host, "tc", "qdisc", "add", "dev", device, "root", "netem", "limit",
                           "10000", *NETEM)

    def dropped(self, host, device):
        told = self.lab.run_in(host, "tc", "-s", "-j", "qdisc", "show", "dev", device).stdout
        return next(row["drops"] for row in json.loads(told) if row["kind"] == "netem")

    def test_a_download_over_loss_and_reordering_is_intact(self):
        self.assertEqual(self.lab.ask("download", VIP4, SIZE), sha256_of_stream(SIZE))
        drops = {f"{host} {device}": self.dropped(host, device) for host, device in IMPAIRED}
        self.assertTrue(all(drops.values()), f"netem dropped on each way: {drops}")
        self.assertGreater(self.verdicts()["tx_ipip"], 100, "the client's segments came through us")


if __name__ == "__main__":
    unittest.main()
