"""weir-l7 with two workers: both work, nothing is misrouted, and neither wastes time."""

import re
import subprocess
import threading
import time

from labcase import *

WORKERS = 2
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# What the port does: sendto starts a send, ppoll sleeps, recvfrom rouses the receiver; read and
# write are the alarm clock. The rest of a busy turn is in user space.
CALLS_OF_A_WORKER = {"sendto", "ppoll", "poll", "recvfrom", "read", "write", "restart_syscall"}


class TwoWorkers(LabCase):

    @classmethod
    def prepare(cls):
        cls.lab.make_certificates()
        text = l7_config(cls.lab.directory).replace("workers: 1", f"workers: {WORKERS}")
        cls.config = cls.lab.write_config(text)
        cls.lab.weir("apply", "-f", cls.config)
        cls.lab.start_l7(cls.config)

    # ---- reading ------------------------------------------------------------------------------

    def stats(self):
        """A dictionary of counters for each worker."""
        workers = [collections.Counter() for _ in range(WORKERS)]
        for row in self.lab.weir_json("stats", "--total")["weir-l7"]:
            if row["worker"] is not None:  # of the process
                workers[row["worker"]][row["counter"]] = row["value"]
        return workers

    def moved(self, before):
        return [after - then for then, after in zip(before, self.stats())]

    def threads(self):
        """The workers' threads by number."""
        found = {}
        for task in pathlib.Path(f"/proc/{self.lab.processes['weir-l7'].pid}/task").iterdir():
            match = re.fullmatch(r"weir-worker-(\d+)", (task / "comm").read_text().strip())
            if match:
                found[int(match.group(1))] = int(task.name)
        return found

    def cpu_seconds(self, path):
        fields = pathlib.Path(path).read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def load(self, requests, clients=50, port=443, path="/cart"):
        scheme = "https" if port == 443 else "http"
        return self.lab.run_in("client", "h2load", "--h1", f"-n{requests}", f"-c{clients}", "-t1",
                               f"--connect-to={VIP_EDGE4}:{port}",
                               f"{scheme}://api.shop.example:{port}{path}", timeout=120).stdout

    def assert_all_succeeded(self, output, requests):
        self.assertIn(f"{requests} done, {requests} succeeded, 0 failed, 0 errored, 0 timeout", output)

    # ---- traffic ------------------------------------------------------------------------------

    def test_both_workers_work_and_nothing_is_misrouted(self):
        before = self.stats()
        self.assert_all_succeeded(self.load(3000), 3000)
        self.assert_all_succeeded(self.load(3000, clients=40, port=8080, path="/split"), 3000)
        wrk = self.lab.run_in("client", "wrk", "-t1", "-c16", "-d1s", "-H", "Host: api.shop.example",
                              f"https://{VIP_EDGE4}:443/users", timeout=60).stdout
        self.assertNotIn("Socket errors", wrk)
        self.assertNotIn("Non-2xx", wrk)
        for _ in range(20):
            for vip in (VIP_EDGE4, f"[{VIP_EDGE6}]"):
                reply = self.lab.curl("-k", "-i", "--resolve", f"api.shop.example:443:{vip}",
                                      "https://api.shop.example/users").stdout
                self.assertIn("x-service: users", reply)
        for index, worker in enumerate(self.moved(before)):
            self.assertGreater(worker["http.requests"], 500, index)
            self.assertGreater(worker["upstream.opened"], 0, index)
            for counter in ("misrouted_out", "misrouted_in", "misrouted_dropped"):
                self.assertEqual(worker[f"steering.{counter}"], 0, (index, counter))
            self.assertEqual(worker["tcp.failed_connects"], 0, index)

    def test_each_worker_logs_and_metrics_tell_them_apart(self):
        path = "/cart/logged"
        self.assert_all_succeeded(self.load(400, clients=20, path=path), 400)
        log = self.lab.directory / "access.log"
        wait_until("400 lines of log", lambda: log.read_text().count(f'"{path}"') == 400)
        for line in log.read_text().splitlines():
            json.loads(line)
        metrics = self.lab.run_in("node", "curl", "-sS", "--unix-socket", self.lab.l7_socket,
                                  "http://weir/metrics").stdout
        for worker in range(WORKERS):
            self.assertIn(f'weir_l7_http_requests_total{{worker="{worker}"}}', metrics)
            self.assertIn(f'weir_l7_steering_misrouted_in_total{{worker="{worker}"}} 0\n', metrics)
        self.assertEqual(self.lab.weir_json("status")["weir-l7"]["workers"], WORKERS)

    def test_a_new_configuration_reaches_both_while_they_work(self):
        result = {}
        thread = threading.Thread(target=lambda: result.update(done=self.load(4000, 20)))
        thread.start()
        try:
            for _ in range(5):
                self.lab.weir("apply", "-f", self.config)
        finally:
            thread.join()
        self.assert_all_succeeded(result["done"], 4000)
        wait_until("old configurations to be let go", lambda: all(
            worker["generations"] == 1 for worker in self.stats()))
        self.assertEqual(len({worker["revision"] for worker in self.stats()}), 1)

    def test_another_number_of_workers_is_refused_with_what_to_do(self):
        text = self.config.read_text().replace(f"workers: {WORKERS}", "workers: 3")
        done = self.lab.weir("apply", "-f", self.lab.write_config(text, "three.yaml"), check=False)
        self.assertEqual(done.returncode, 1)
        for word in (f"node.l7.workers is 3, this weir-l7 runs {WORKERS}", "restart weir-l7"):
            self.assertIn(word, done.stderr)

    def test_it_starts_again_after_an_end_and_after_a_kill(self):
        for number in (signal.SIGTERM, signal.SIGKILL):
            self.lab.stop("weir-l7", number)
            self.lab.start_l7(self.config)
            self.assert_all_succeeded(self.load(300, 30), 300)
            for worker in self.stats():
                self.assertGreater(worker["http.requests"], 0)

    # ---- time ---------------------------------------------------------------------------------

    def test_an_idle_daemon_uses_next_to_no_time(self):
        self.load(100, 10)
        time.sleep(0.5)
        stat = f"/proc/{self.lab.processes['weir-l7'].pid}/stat"
        before, began = self.cpu_seconds(stat), time.monotonic()
        time.sleep(3)
        share = (self.cpu_seconds(stat) - before) / (time.monotonic() - began)
        print(f"idle with {WORKERS} workers: {100 * share:.2f} % of a CPU")
        self.assertLess(share, 0.02)

    def test_a_busy_worker_calls_the_kernel_for_frames_only(self):
        if shutil.which("strace") is None:
            self.skipTest("strace is not installed")
        # Without TLS: OpenSSL asks for the process's number and the like, handshake by handshake.
        allowed = set(CALLS_OF_A_WORKER)
        if "libasan" in pathlib.Path(f"/proc/{self.lab.processes['weir-l7'].pid}/maps").read_text():
            allowed |= {"mmap", "munmap", "madvise", "futex"}  # the sanitizer's own
        result = {}
        thread = threading.Thread(target=lambda: result.update(wrk=self.lab.run_in(
            "client", "wrk", "-t1", "-c16", "-d4s", "-H", "Host: api.shop.example",
            f"http://{VIP_EDGE4}:8080/users", timeout=60).stdout))
        thread.start()
        time.sleep(1)  # connections stand, memory is warm
        tracers = {worker: subprocess.Popen(
            ["timeout", "-sINT", "2", "strace", "-c", "-p", str(task)], text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            for worker, task in self.threads().items()}
        counts = {worker: calls_in(tracer.communicate()[1]) for worker, tracer in tracers.items()}
        thread.join()
        print("system calls of the workers in two seconds:", counts)
        self.assertEqual(set(counts), set(range(WORKERS)))
        # On a busy machine a worker may come to its first connections only now, and its heap grows
        # with them; a call for each request would be thousands.
        growth = {"mprotect", "brk", "mmap", "munmap"}
        for calls in counts.values():
            self.assertLessEqual(set(calls) - growth, allowed)
            self.assertLessEqual(sum(calls.get(name, 0) for name in growth - allowed), 32)
        self.assertGreater(sum(calls.get("sendto", 0) for calls in counts.values()), 50)
        self.assertNotIn("Non-2xx", result["wrk"])


def calls_in(table):
    """The numbers of calls by name that strace -c prints."""
    rows = [row.split() for row in table.splitlines() if re.match(r"\s*\d+\.\d\d ", row)]
    return {row[-1]: int(row[3]) for row in rows if row[-1] != "total"}


if __name__ == "__main__":
    main()
