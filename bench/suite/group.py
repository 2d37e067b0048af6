"""What a group of rows stands on."""

from programs import weirlab  # whose folder it knows


class Group:
    """Series that need no hosts that last."""

    name = ""
    series = ()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        pass


class LabGroup(Group):
    """Series that share the hosts of one laboratory, a class of BenchLab's."""

    make_lab = None
    lab = None

    def __enter__(self):
        self.lab = self.make_lab()
        self.lab.__enter__()
        return self

    def __exit__(self, *unused):
        self.lab.close()


class BenchLab(weirlab.Lab):
    """Hosts that can hold many connections. What is in prepare() stands when a `with` begins, or nothing does."""

    settings = ("net.ipv4.ip_local_port_range=10000 65535", "net.ipv4.tcp_tw_reuse=1",
                "net.core.somaxconn=4096", "net.ipv4.tcp_max_syn_backlog=4096")

    def __enter__(self):
        try:
            self.remove_leftovers()
            self.prepare()
        except BaseException:
            self.close()
            raise
        return self

    def prepare(self):
        raise NotImplementedError

    def add_host(self, host):
        super().add_host(host)
        for setting in self.settings:
            self.run_in(host, "sysctl", "-qw", setting)
