"""A small data centre in network namespaces: what the demo shows and the lab tests exercise.

    client ──┐
             ├── fabric (a bridge) ──┬── node: weir-l4, weir-l7
             │                       ├── b1 … b4: nginx, dnsmasq, our decapsulation program
    impair ──┘

One segment, 10.77.0.0/24 and fd77::/64. Its devices carry 1600 bytes, so that an encapsulated
packet of 1500 fits; the client's device carries 1500. VIPs are routed to the node. Backends own
the VIPs on loopback and answer the client directly.

Everything is named after the lab's prefix and removed by close(), also when a step has failed.
"""

import atexit
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import netns

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("WEIR_BUILD", ROOT / "build" / "release"))
BACKENDS = ["b1", "b2", "b3", "b4"]

NODE4, NODE6 = "10.77.0.1", "fd77::1"
L7_4, L7_6 = "10.77.0.2", "fd77::2"
CLIENT4, CLIENT6 = "10.77.0.100", "fd77::100"

VIP_WEB4, VIP_WEB6 = "203.0.113.80", "2001:db8:77::80"  # TCP 80, IPIP
VIP_DNS4, VIP_DNS6 = "203.0.113.53", "2001:db8:77::53"  # UDP 53, IPIP
VIP_L2 = "203.0.113.90"  # TCP 80, MAC rewrite
VIP_EDGE4, VIP_EDGE6 = "203.0.113.10", "2001:db8:77::10"  # HTTP and HTTPS, L7


class LabError(Exception):
    """A step of the lab failed; the text says which and what it printed."""


def backend4(name):
    return f"10.77.0.1{name[1:]}"


def backend6(name):
    return f"fd77::1{name[1:]}"


def run(*command, check=True, timeout=60, **options):
    """Runs a command to its end and returns the CompletedProcess, with text output."""
    options.setdefault("capture_output", True)
    try:
        done = subprocess.run([str(c) for c in command], text=True, timeout=timeout, **options)
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(map(str, command))}: did not end within {timeout} s") from None
    except FileNotFoundError:
        raise LabError(f"{command[0]} is not installed; run tools/setup") from None
    if check and done.returncode != 0:
        raise LabError(
            f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def wait_until(what, condition, seconds=10.0, step=0.05):
    """Waits for a condition that another process brings about; fails by name."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise LabError(f"waited {seconds:g} s for {what}")
        time.sleep(step)


INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@contextlib.contextmanager
def undisturbed():
    """Ctrl-C, or another end, must not stop a removal: it comes when that is done. Handlers are the main thread's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in dict.fromkeys(came):
            signal.raise_signal(number)


def resident_kb(pid):
    """Memory of a process; huge pages are not in it."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])


def is_listened_on(path):
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def hold(name):
    """Keeps others of this name from starting until it is closed; an abstract address is one process's, and free
    again however that ends."""
    held = socket.socket(socket.AF_UNIX)
    try:
        held.bind(f"\0{name}")
    except OSError:
        held.close()
        raise LabError(f"another {name} is running; start this one when it has ended") from None
    return held


class Lab:
    """Namespaces, links, servers and daemons of one run."""

    marker = ".lab"  # in a directory that the next lab of this name may remove

    def __init__(self, prefix="weirlab"):
        self.prefix = prefix
        self.lock = hold(prefix)
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
        (self.directory / self.marker).touch()
        self.pins = pathlib.Path("/sys/fs/bpf") / prefix
        self.processes = {}
        self.node = "node"  # the host that has the daemons
        self.closed = False
        atexit.register(self.close)

    # ---- namespaces and processes -------------------------------------------------------------

    def namespace(self, host):
        return f"{self.prefix}-{host}"

    def command_in(self, host, *command):
        # nsenter and not `ip netns exec`: the latter remounts /sys and hides bpffs.
        return ["nsenter", f"--net=/run/netns/{self.namespace(host)}", *map(str, command)]

    def inside(self, host):
        """What the calling thread does within is done in that host's network namespace."""
        return netns.inside(f"/run/netns/{self.namespace(host)}")

    def mac(self, host, device="eth0"):
        return json.loads(self.run_in(host, "ip", "-j", "link", "show", device).stdout)[0]["address"]

    def run_in(self, host, *command, **options):
        return run(*self.command_in(host, *command), **options)

    def start(self, name, host, *command, **options):
        """Starts a process that lives until stop(name) or close(); its output goes to a file."""
        log = open(self.directory / f"{name}.log", "ab")
        process = subprocess.Popen(
            self.command_in(host, *command), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            # Ctrl-C is for us, who end our children in order; the session is ours, so that who runs us
            # in idle time, or beside what does, has a say in how they are scheduled (autogroup).
            process_group=0, **options)
        log.close()
        self.processes[name] = process
        return process

    def log(self, name):
        path = self.directory / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self, name, sig=signal.SIGTERM, seconds=10):
        process = self.processes.pop(name, None)
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(sig)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(seconds)
                if sig != signal.SIGKILL:
                    raise LabError(f"{name} did not end within {seconds} s of signal {sig}")
        return process.returncode

    # ---- construction -------------------------------------------------------------------------

    def build(self, impaired=False):
        """Makes namespaces and links. With `impaired`, the client hangs behind host 'impair', which
        has two devices, `left` to the client and `right` to the fabric, and forwards nothing by
        itself."""
        for tool in ("ip", "nsenter", "bpftool", "ethtool", "nginx", "dnsmasq"):
            if shutil.which(tool) is None:
                raise LabError(f"{tool} is not installed; run tools/setup")
        self.remove_leftovers()
        hosts = ["fabric", "client", "node", *BACKENDS] + (["impair"] if impaired else [])
        for host in hosts:
            self.add_host(host)
        self.run_in("fabric", "ip", "link", "add", "br0", "mtu", "1600", "type", "bridge",
                    "stp_state", "0", "mcast_snooping", "0")
        self.run_in("fabric", "ip", "link", "set", "br0", "up")
        for host in ["node", *BACKENDS]:
            self.attach(host, 1600)
        if impaired:
            self.cable("impair", "right", "fabric", "client", 1600)
            self.run_in("fabric", "ip", "link", "set", "client", "master", "br0")
            self.cable("client", "eth0", "impair", "left", 1600)
            self.run_in("client", "ip", "link", "set", "eth0", "mtu", "1500")
        else:
            self.attach("client", 1500)
        self.address("node", NODE4, NODE6)
        self.address("client", CLIENT4, CLIENT6)
        for name in BACKENDS:
            self.address(name, backend4(name), backend6(name))
        self.run_in("client", "ip", "route", "add", "203.0.113.0/24", "via", NODE4)
        self.run_in("client", "ip", "-6", "route", "add", "2001:db8:77::/64", "via", NODE6)

    def add_host(self, host):
        run("ip", "netns", "add", self.namespace(host))
        self.run_in(host, "ip", "link", "set", "lo", "up")
        for setting in ("all.disable_ipv6=0", "default.accept_dad=0", "all.accept_dad=0",
                        "default.accept_ra=0"):
            self.run_in(host, "sysctl", "-qw", f"net.ipv6.conf.{setting}")

    def cable(self, host, device, other, other_device, mtu):
        """A veth between two hosts, without the offloads that leave packets unfinished."""
        run("ip", "-n", self.namespace(host), "link", "add", device, "mtu", str(mtu), "type", "veth",
            "peer", "name", other_device, "mtu", str(mtu), "netns", self.namespace(other))
        for where, name in ((host, device), (other, other_device)):
            self.run_in(where, "ethtool", "-K", name, "tx", "off", check=False)
            self.run_in(where, "ip", "link", "set", name, "up")

    def attach(self, host, mtu):
        """Plugs a host's eth0 into the bridge; the port carries 1600 bytes whatever the host does."""
        self.cable(host, "eth0", "fabric", host, 1600)
        if mtu != 1600:
            self.run_in(host, "ip", "link", "set", "eth0", "mtu", str(mtu))
        self.run_in("fabric", "ip", "link", "set", host, "master", "br0")

    def address(self, host, four, six):
        self.run_in(host, "ip", "address", "add", f"{four}/24", "dev", "eth0")
        self.run_in(host, "ip", "address", "add", f"{six}/64", "dev", "eth0", "nodad")

    def receive_redirected(self, host, device):
        """Frames that XDP sends into a veth wait until its peer has a native XDP program: give it
        one that passes everything."""
        self.load_program(host, device, "weir_pass")

    def load_program(self, host, device, name):
        directory = self.pins / f"{host}-{name}"
        directory.mkdir(parents=True, exist_ok=True)
        program = directory / "program"
        if not program.exists():
            run("bpftool", "prog", "load", BUILD / "bpf" / f"{name}.bpf.o", program)
        self.run_in(host, "bpftool", "net", "attach", "xdpdrv", "pinned", program, "dev", device)

    def decap(self, host, *arguments, **options):
        """`weir decap` on a host. Indexes of devices repeat between namespaces, so each has a pin
        directory of its own."""
        self.pins.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"WEIR_DECAP_PIN_DIR": str(self.pins / f"{host}-decap"),
                                    "PATH": f"{BUILD / 'l4'}:{os.environ['PATH']}"}
        return self.run_in(host, BUILD / "tools" / "weir" / "weir", "decap", *arguments,
                           env=environment, **options)

    def start_decapsulation(self, host, sources=(NODE4, NODE6)):
        lists = [word for source in sources for word in ("--source", source)]
        lists += [word for vip in (VIP_WEB4, VIP_WEB6, VIP_DNS4, VIP_DNS6) for word in ("--vip", vip)]
        self.decap(host, "load", "eth0", "--mode", "native", *lists)

    # ---- servers ------------------------------------------------------------------------------

    def start_backends(self):
        """nginx on every backend: the web VIPs, and one HTTP service per port for L7. dnsmasq
        answers for the DNS VIPs and says who it is."""
        for name in BACKENDS:
            for vip in (VIP_WEB4, VIP_DNS4, VIP_L2):
                self.run_in(name, "ip", "address", "add", f"{vip}/32", "dev", "lo")
            for vip in (VIP_WEB6, VIP_DNS6):
                self.run_in(name, "ip", "address", "add", f"{vip}/128", "dev", "lo", "nodad")
            for setting in ("arp_ignore=1", "arp_announce=2", "rp_filter=0"):
                self.run_in(name, "sysctl", "-qw", f"net.ipv4.conf.all.{setting}",
                            f"net.ipv4.conf.eth0.{setting}")
            self.start_decapsulation(name)
            self.start_nginx(name)
            self.start(f"dnsmasq-{name}", name, "dnsmasq", "--keep-in-foreground", "--no-resolv",
                       "--no-hosts", "--conf-file=/dev/null", "--bind-interfaces", "--user=root",
                       f"--pid-file={self.directory}/dnsmasq-{name}.pid", "--no-daemon",
                       f"--listen-address={VIP_DNS4}", f"--listen-address={VIP_DNS6}",
                       f"--txt-record=who.weir.test,{name}")
        for name in BACKENDS:
            self.run_in(name, "ping", "-c1", "-W2", NODE4)
            wait_until(f"nginx on {name}", lambda n=name: self.listening(n, 8080))

    def listening(self, host, port):
        return f":{port} " in self.run_in(host, "ss", "-Hltn").stdout

    def start_nginx(self, name):
        content = self.directory / "www"
        if not content.exists():
            content.mkdir()
            with open(content / "64MiB", "wb") as file:
                for _ in range(64):
                    file.write(os.urandom(1 << 20))
            (content / "1KiB").write_bytes(os.urandom(512).hex().encode())
        services = "\n".join(f"""
  server {{
    listen {port} reuseport; listen [::]:{port} reuseport;
    client_max_body_size 0;
    add_header x-backend {name} always; add_header x-service {service} always;
    location / {{ default_type text/plain; return 200 "{service} on {name}: $request_method $request_uri\\n"; }}
    location /files/ {{ alias {content}/; }}
    location ~ ^/{service}/files/(.*)$ {{ alias {content}/$1; }}
    location ~ /upload {{ dav_methods PUT; root {self.directory}/upload-{name}; create_full_put_path on; }}
  }}""" for port, service in ((8080, "cart"), (8081, "users"), (80, "web")))
        (self.directory / f"upload-{name}").mkdir(exist_ok=True)
        config = self.directory / f"nginx-{name}.conf"
        config.write_text(f"""
worker_processes 1; daemon off; user root; pid {self.directory}/nginx-{name}.pid;
error_log {self.directory}/nginx-{name}.error warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_timeout 75s; keepalive_requests 1000000; sendfile on;
  client_body_temp_path {self.directory}/tmp-{name}; proxy_temp_path {self.directory}/tmp-{name}-p;
  fastcgi_temp_path {self.directory}/tmp-{name}-f; uwsgi_temp_path {self.directory}/tmp-{name}-u;
  scgi_temp_path {self.directory}/tmp-{name}-s;
  {services}
}}""")
        self.start(f"nginx-{name}", name, "nginx", "-c", config, "-p", self.directory)

    def make_certificates(self):
        """One ECDSA and one RSA certificate, self-signed, for the L7 listener."""
        for file, key, names in (
                ("shop.pem", ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
                 "DNS:shop.example,DNS:*.shop.example"),
                ("admin.pem", ["-newkey", "rsa:2048"], "DNS:admin.example")):
            common = names.split(",")[0][4:]
            keyfile = self.directory / "key.tmp"
            run("openssl", "req", "-x509", "-nodes", "-days", "30", *key, "-keyout", keyfile,
                "-out", self.directory / file, "-subj", f"/CN={common}",
                "-addext", f"subjectAltName={names}")
            with open(self.directory / file, "a", encoding="ascii") as out:
                out.write(keyfile.read_text())
            keyfile.unlink()

    # ---- Weir ---------------------------------------------------------------------------------

    @property
    def l4_socket(self):
        return self.directory / "l4.sock"

    @property
    def l7_socket(self):
        return self.directory / "l7.sock"

    def start_l4(self, *options, seconds=10.0):
        process = self.start("weir-l4", self.node, BUILD / "l4" / "weir-l4", "--socket", self.l4_socket,
                             "--state-dir", self.directory / "state", "--pin-dir", self.pins / "lb", *options)
        wait_until("weir-l4 to answer",
                   lambda: self.alive("weir-l4") and self.weir("vip", "list", check=False).returncode == 0,
                   seconds)
        return process

    def l7_command(self, config, *more):
        return (BUILD / "l7" / "weir-l7", "--config", config, "--socket", self.l7_socket,
                "--l4-socket", self.l4_socket, "--state-dir", self.directory / "state",
                "--access-log", self.directory / "access.log", *more)

    def start_l7(self, config, *more, host="node"):
        process = self.start("weir-l7", host, *self.l7_command(config, *more))
        wait_until("weir-l7 to answer", lambda: self.alive("weir-l7") and is_listened_on(self.l7_socket), 30)
        return process

    def alive(self, name):
        process = self.processes.get(name)
        if process is None or process.poll() is not None:
            raise LabError(f"{name} has ended: {self.log(name)[-2000:]}")
        return True

    def weir(self, *arguments, **options):
        return self.run_in(self.node, BUILD / "tools" / "weir" / "weir", "--l4-socket", self.l4_socket,
                           "--l7-socket", self.l7_socket, *arguments, **options)

    def weir_json(self, *arguments):
        return json.loads(self.weir(*arguments, "-o", "json").stdout)

    def write_config(self, text, name="weir.yaml"):
        path = self.directory / name
        path.write_text(text)
        return path

    def curl(self, *arguments, **options):
        return self.run_in("client", "curl", "-sS", "--max-time", "60", *arguments, **options)

    # ---- removal ------------------------------------------------------------------------------

    def remove_leftovers(self):
        """What an earlier run of the same prefix has left behind when it was killed."""
        existing = run("ip", "netns", "list").stdout
        for line in existing.splitlines():
            name = line.split()[0]
            if name.startswith(f"{self.prefix}-"):
                # Whatever still runs in there was started by a lab of this name.
                for pid in run("ip", "netns", "pids", name, check=False).stdout.split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                run("ip", "netns", "delete", name, check=False)
        shutil.rmtree(self.pins, ignore_errors=True)
        for lock in pathlib.Path("/run").glob(f"weir-*{str(self.pins).replace('/', '_')}_*.lock"):
            lock.unlink(missing_ok=True)
        for marker in pathlib.Path(tempfile.gettempdir()).glob(f"{self.prefix}-*/{self.marker}"):
            if marker.parent != self.directory:
                shutil.rmtree(marker.parent, ignore_errors=True)

    def close(self):
        with undisturbed():
            if self.closed:
                return
            self.closed = True
            try:
                for name in list(self.processes):
                    with contextlib.suppress(LabError, subprocess.TimeoutExpired):
                        self.stop(name, signal.SIGTERM, 5)
                self.remove_leftovers()
                self.drop_directory()
            finally:
                self.lock.close()

    def drop_directory(self):
        (self.directory / self.marker).unlink(missing_ok=True)
        if os.environ.get("WEIR_LAB_KEEP") and any(self.directory.iterdir()):
            print(f"logs are kept in {self.directory}", file=sys.stderr)
        else:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()
