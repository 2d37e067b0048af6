"""Very many connections, one after the other, through our stack to one Linux server: every one works,
and afterwards flows, TIME-WAIT records, ports and buffers are as before. WEIR_STACK_CONNECTIONS says how
many, 50,000 without it; a million takes some minutes."""

from labcase import main
from stackcase import *

COUNT = int(os.environ.get("WEIR_STACK_CONNECTIONS", 50_000))
UPSTREAM = 7000
GROWTH_KB = 4096


class StackMany(StackCase):

    def connect(self, count):
        # As many ports as keep the kernel's own TIME-WAIT from running out of tuples.
        report = self.kernel_client("crr", "--peer", f"{WEIR4}:{PORT}", "--ports", 16,
                                    "--connections", 32, "--count", count,
                                    timeout=60 + count // 1000)
        self.assertEqual((report["attempts"], report["failures"]), (count, 0))
        self.assertEqual(report["operations"], count)
        return report

    def test_every_connection_works_and_all_counts_go_back_to_zero(self):
        self.start_linux_server("echo", UPSTREAM)
        self.start_stack("relay", "--peer", f"{LINUX4}:{UPSTREAM}", "--ports", 16, "--pool-mb", 64)
        first = COUNT // 5  # slabs and pools have grown by then
        self.connect(first)
        before = self.counters()["resident_kb"]
        report = self.connect(COUNT - first)
        self.assert_all_gone()
        counters = self.end_stack()
        tcp = counters["tcp"]
        print(f"\n{COUNT:,} connections, {report['rate_per_s']:,.0f}/s, p50 {report['p50_us']} us; memory "
              f"{before:,} kB then, {counters['resident_kb']:,} kB at the end", flush=True)
        self.assertEqual((tcp["accepted"], tcp["connected"]), (COUNT, COUNT))
        self.assertEqual((tcp["failed_connects"], tcp["resets_sent"]), (0, 0))
        self.assertEqual(tcp["dropped_no_memory"], 0)
        self.assertLess(counters["resident_kb"] - before, GROWTH_KB)
        self.lab.stop("linux-echo")
        self.assertIn(f'"accepted":{COUNT}', self.lab.log("linux-echo"))


if __name__ == "__main__":
    main()
