"""What a group of rows stands on."""

import contextlib
import fcntl
import shutil
import signal

from programs import weirlab  # whose folder it knows
import processor_group

LIVE_LOCK, LIVE_PINS = "/run/weir-bench.lock", "/sys/fs/bpf/weir-bench"  # as live_bench.cpp has them
# What is named after each kind of hosts, and goes with the next run.
LABS = ("benchctl", "benchmem", "weirsvc", "stacklab", "l7lab")


@contextlib.contextmanager
def only_run():
    """Two would measure each other. What a run before this one has not taken down, because it was killed, goes."""
    with weirlab.hold("weir bench"):
        for name in LABS:
            with contextlib.suppress(weirlab.LabError):  # a test may have it
                BenchLab(name).close()
        processor_group.remove_all()
        remove_pins()
        yield


def remove_pins():
    """Those of a live_bench that was killed; one that runs has its lock."""
    with open(LIVE_LOCK, "a", encoding="ascii") as lock, contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(LIVE_PINS, ignore_errors=True)


class Group:
    """Series that need no hosts that last."""

    name = ""
    series = ()
    setup_s = 0.0  # about what it takes to make the hosts

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        pass

    def why(self):
        """What a series has failed of, where the hosts know."""


class LabGroup(Group):
    """Series that share the hosts of one laboratory, a class of BenchLab's. They are made anew in each round: how
    memory happens to lie is part of what differs between two runs."""

    make_lab = None
    lab = None

    def __enter__(self):
        self.lab = self.make_lab()
        self.lab.__enter__()
        return self

    def __exit__(self, *unused):
        self.lab.close()

    def why(self):
        """Nothing that a turn starts is left when it has failed, so what has ended was meant to stay."""
        ended = [(name, process.returncode) for name, process in self.lab.processes.items()
                 if process.poll() is not None] if self.lab else []
        return "; ".join(self.end_of(name, status) for name, status in ended)

    def end_of(self, name, status):
        if status < 0:
            return f"{name} was ended by {signal.Signals(-status).name}"
        return f"{name} has ended with {status}: {self.lab.log(name)[-200:].strip() or 'without a word'}"


class BenchLab(weirlab.Lab):
    """Hosts that can hold many connections. What prepare() makes stands when a `with` begins, or nothing does."""

    settings = ("net.ipv4.ip_local_port_range=10000 65535", "net.ipv4.tcp_tw_reuse=1",
                "net.core.somaxconn=4096", "net.ipv4.tcp_max_syn_backlog=4096")

    def __init__(self, prefix):
        assert prefix in LABS, prefix
        super().__init__(prefix)

    def __enter__(self):
        try:
            self.prepare()
        except BaseException:
            self.close()
            raise
        return self

    def prepare(self):
        """Makes hosts and starts what runs on them."""

    def add_host(self, host):
        super().add_host(host)
        for setting in self.settings:
            self.run_in(host, "sysctl", "-qw", setting)
