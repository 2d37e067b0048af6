"""Groups of the kernel's cpu controller: who has how much of a core, and what became of it."""

import contextlib
import pathlib

import weirlab
from weirlab import LabError

# Before whatever else the machine does: builds of others have 1024, or what autogroup gives them.
SHARES = 262144
PREFIX = "weir-bench-"


class ProcessorGroup:
    """A group of the kernel's cpu controller, of either version: a share and, on request, a quota."""

    # Short, so that queues bridge the pauses; enforcement is by the tick of 4 ms all the same.
    PERIOD_US = 4000

    def __init__(self, name):
        self.is_v1, root = ProcessorGroup.controller()
        self.path = root / (PREFIX + name)
        self.path.mkdir(exist_ok=True)
        self.limit(100)  # it may be left of a run that was killed
        if self.is_v1:
            (self.path / "cpu.shares").write_text(str(SHARES))
        else:
            (self.path / "cpu.weight").write_text("10000")

    @staticmethod
    def controller():
        one = pathlib.Path("/sys/fs/cgroup/cpu")
        if (one / "cpu.cfs_quota_us").exists():
            return True, one
        two = pathlib.Path("/sys/fs/cgroup")
        controls = two / "cgroup.subtree_control"
        if controls.exists() and "cpu" in controls.read_text().split():
            return False, two
        raise LabError("no cpu controller of cgroups, of neither version: enable it with "
                       "echo +cpu > /sys/fs/cgroup/cgroup.subtree_control")

    def resident_mb(self):
        """Of its processes; huge pages are not in it, and are taken at the start."""
        total = 0
        for pid in (self.path / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):  # one that has ended
                total += weirlab.resident_kb(pid)
        return total / 1024

    def processor_s(self):
        """What its processes have had of the processor, spinning and the softirqs in them included."""
        used = 0
        for pid in (self.path / "cgroup.procs").read_text().split():
            for task in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
                with contextlib.suppress(OSError):  # a thread that has just ended
                    used += int(task.read_text().split()[0])
        return used / 1e9

    def limit(self, percent):
        """To so much of one core; 100 is no limit."""
        quota = self.PERIOD_US * percent // 100 if percent < 100 else None
        if self.is_v1:
            (self.path / "cpu.cfs_quota_us").write_text("-1")
            (self.path / "cpu.cfs_period_us").write_text(str(self.PERIOD_US))
            (self.path / "cpu.cfs_quota_us").write_text(str(quota or -1))
        else:
            (self.path / "cpu.max").write_text(f"{quota or 'max'} {self.PERIOD_US}")


def remove_all():
    """Those of this run and of one that was killed; what ran in them has ended."""
    with contextlib.suppress(LabError):
        for path in ProcessorGroup.controller()[1].glob(PREFIX + "*"):
            with contextlib.suppress(LabError):
                weirlab.wait_until("the last process to be reaped", lambda p=path: removed(p), 5)


def removed(path):
    with contextlib.suppress(OSError):  # busy
        path.rmdir()
    return not path.exists()
