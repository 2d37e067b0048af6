"""One run of one guest: its initramfs, QEMU, and what comes over the serial ports."""

import dataclasses
import lzma
import os
import pathlib
import secrets
import selectors
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
BUSYBOX = pathlib.Path("/bin/busybox")
# What stands between the kernel and the machine's files; what these need comes with them.
MODULES = ["virtio_pci", "9pnet_virtio", "9p", "overlay"]
TIMED_OUT = 124
CONSOLE_LINES = 25  # of the kernel's last words, when a guest ends without a result


class GuestError(Exception):
    """The guest could not be made, or ended without a result; the text says why."""


@dataclasses.dataclass
class Outcome:
    status: int
    boot_s: float
    command_s: float


def run(kernel, command, directory, options):
    """Boots the kernel, runs the command in the directory, copies its output to ours."""
    for tool, package in (("qemu-system-x86_64", "qemu-system-x86"), ("cpio", "cpio"),
                          (BUSYBOX, "busybox-static")):
        if shutil.which(tool) is None:
            raise GuestError(f"{package} is not installed; run tools/setup guest")
    with tempfile.TemporaryDirectory(prefix="weir-guest-") as name:
        work = pathlib.Path(name)
        token = f"guest-{secrets.token_hex(8)}:"
        initramfs(work, kernel, token, command, directory)
        try:
            return talk(start(work, kernel, options), token, work, options)
        finally:
            if options.console and (work / "console").exists():
                shutil.copyfile(work / "console", options.console)


def initramfs(work, kernel, token, command, directory):
    tree = work / "tree"
    for folder in ("bin", "modules"):
        (tree / folder).mkdir(parents=True)
    shutil.copy(BUSYBOX, tree / "bin" / "busybox")
    shutil.copy(HERE / "init", tree / "init")
    (tree / "init").chmod(0o755)
    (tree / "settings").write_text(f"token={token}\nmodules={shlex.quote(str(kernel.modules))}\n",
                                   encoding="utf-8")
    (tree / "command").write_text(
        f"cd {shlex.quote(directory)} || exit 125\n"
        "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "
        f"LANG=C.UTF-8\n{command}\n", encoding="utf-8")
    for position, file in enumerate(load_order(kernel.modules)):
        # The shell sorts the names, so they are numbered.
        target = tree / "modules" / f"{position:02}-{file.name.split('.')[0]}.ko"
        target.write_bytes(lzma.decompress(file.read_bytes()) if file.suffix == ".xz"
                           else file.read_bytes())
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    with open(work / "initramfs", "wb") as out:
        subprocess.run(["cpio", "--quiet", "--create", "--format=newc"], input=names.encode(),
                       stdout=out, cwd=tree, check=True, timeout=60)


def load_order(folder):
    """Files of MODULES and of what they need, each after what it needs, from modules.dep."""
    needs = {}
    for line in (folder / "modules.dep").read_text(encoding="ascii").splitlines():
        file, _, rest = line.partition(":")
        needs[module_name(file)] = (file, rest.split())
    built_in = {module_name(line) for line in
                (folder / "modules.builtin").read_text(encoding="ascii").splitlines()}
    ordered = []
    for name in MODULES:
        if name in built_in:
            continue
        if name not in needs:
            raise GuestError(f"{folder.name} has no module {name}")
        file, dependencies = needs[name]
        # depmod lists what is needed last first.
        ordered += [entry for entry in [*reversed(dependencies), file] if entry not in ordered]
    return [folder / entry for entry in ordered]


def module_name(path):
    return pathlib.Path(path).name.split(".")[0].replace("-", "_")


def start(work, kernel, options):
    """QEMU; it ends with us whatever ends us."""
    append = ("console=ttyS0 panic=-1 mitigations=off random.trust_cpu=on "
              "net.ifnames=0 loglevel=5 nokaslr")
    command = [
        "setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64",
        "-machine", f"q35,accel={options.accel}", "-cpu", "max" if options.accel == "tcg" else "host",
        "-smp", options.cpus, "-m", options.memory, "-nodefaults", "-no-user-config", "-no-reboot",
        "-display", "none", "-kernel", kernel.image, "-initrd", work / "initramfs", "-append", append,
        "-serial", f"file:{work}/console", "-chardev", "stdio,id=out,signal=off",
        "-serial", "chardev:out",
        "-virtfs", "local,path=/,mount_tag=machine,security_model=none,readonly=on,multidevs=remap"]
    return subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=open(work / "qemu", "wb"),
                            start_new_session=True)


def talk(qemu, token, work, options):
    """Copies the guest's output until the line with the command's status, or until the time ends."""
    began = time.monotonic()
    booted = None
    pending = b""
    mark = token.encode()
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(qemu.stdout, selectors.EVENT_READ)
            while (left := began + options.timeout - time.monotonic()) > 0:
                if not selector.select(min(left, 1.0)):
                    continue
                data = os.read(qemu.stdout.fileno(), 65536)
                if not data:
                    raise GuestError(f"the guest ended without a result\n{last_words(work)}")
                pending += data
                while b"\n" in pending:
                    line, _, pending = pending.partition(b"\n")
                    text, found, word = line.partition(mark)
                    if not found:
                        show(line + b"\n")
                        continue
                    show(text)
                    now = time.monotonic()
                    if word.strip() == b"booted":
                        booted = now
                        continue
                    return Outcome(int(word), (booted or now) - began, now - (booted or now))
        show(pending)
        phase = "boot" if booted is None else "run its command"
        print(f"tools/guest/run: the guest did not {phase} within {options.timeout} s\n"
              f"{last_words(work)}", file=sys.stderr)
        return Outcome(TIMED_OUT, (booted or time.monotonic()) - began, options.timeout)
    finally:
        qemu.kill()
        qemu.wait(30)


def show(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def last_words(work):
    """The end of the kernel's console and of QEMU's own complaints."""
    words = []
    for name in ("console", "qemu"):
        path = work / name
        text = path.read_text(errors="replace") if path.exists() else ""
        words += [f"{name}: {line}" for line in text.splitlines()[-CONSOLE_LINES:]]
    return "\n".join(words)
