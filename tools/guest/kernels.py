"""Debian's kernels, unpacked below build/guest/ and never installed.

apt fetches and verifies them with a configuration of its own: lists and packages in our folder,
mirrors as this machine's apt knows them, signatures by Debian's keyring. Nothing of the machine's
own apt state changes."""

import dataclasses
import fcntl
import os
import pathlib
import re
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("WEIR_GUEST_CACHE", ROOT / "build" / "guest"))
KEYRING = pathlib.Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# Series: the release that has it, and the package that depends on its newest build.
SERIES = {
    "5.10": ("bullseye", "linux-image-amd64"),
    "6.1": ("bookworm", "linux-image-amd64"),
    "6.12": ("bookworm", "linux-image-6.12-amd64"),
}


class KernelError(Exception):
    """A kernel could not be had; the text says which step failed and what to do."""


@dataclasses.dataclass(frozen=True)
class Kernel:
    version: str  # as uname -r says it
    image: pathlib.Path
    modules: pathlib.Path  # the folder with modules.dep


def get(series):
    """The kernel of a series; fetched when it is not there yet."""
    for tool in ("apt-get", "dpkg-deb", "depmod"):
        if shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            raise KernelError(f"{tool} is not installed; run tools/setup guest")
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        place = CACHE / f"linux-{series}"
        if not place.is_dir():
            fetch(series, place)
        return unpacked(place)


def unpacked(place):
    """Reads what fetch() has left."""
    images = list((place / "boot").glob("vmlinuz-*"))
    if len(images) != 1:
        raise KernelError(f"{place} holds {len(images)} kernels instead of 1; remove the folder and "
                          "run again")
    version = images[0].name.removeprefix("vmlinuz-")
    return Kernel(version, images[0], place / "lib" / "modules" / version)


def fetch(series, place):
    """Downloads the newest build of the series; `place` appears when it is complete."""
    release, package = SERIES[series]
    work = CACHE / f"fetch-{series}"
    shutil.rmtree(work, ignore_errors=True)
    (work / "lists" / "partial").mkdir(parents=True)
    (work / "cache" / "archives" / "partial").mkdir(parents=True)
    (work / "sources.list").write_text(sources(release), encoding="ascii")
    apt = ["-o", f"Dir::Etc::sourcelist={work}/sources.list", "-o", "Dir::Etc::sourceparts=/dev/null",
           "-o", f"Dir::State::lists={work}/lists", "-o", f"Dir::Cache={work}/cache",
           "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=2"]
    step(["apt-get", *apt, "-qq", "update"], f"reading {release}'s package lists")
    depends = step(["apt-cache", *apt, "depends", package], f"looking for {package}")
    image = re.search(r"^ *Depends: (linux-image-[0-9]\S*-amd64)$", depends, re.M)
    if image is None:
        raise KernelError(f"{package} of {release} depends on no kernel; apt-cache says: {depends}")
    step(["apt-get", *apt, "-qq", "download", image.group(1)], f"downloading {image.group(1)}",
         cwd=work)
    archive = next(work.glob("linux-image-*.deb"))
    unpack = work / "unpacked"
    step(["dpkg-deb", "--extract", archive, unpack], f"unpacking {archive.name}")
    version = image.group(1).removeprefix("linux-image-")
    step(["depmod", "--basedir", unpack, version], "writing the modules' dependencies",
         env=os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"})
    unpack.rename(place)
    shutil.rmtree(work)


def sources(release):
    """apt's sources for a release, at the mirrors that this machine uses for its own."""
    if not KEYRING.exists():
        raise KernelError(f"{KEYRING} is missing; run tools/setup guest")
    own = step(["apt-get", "indextargets", "--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages"],
               "asking apt for its mirrors")
    mirrors = dict(line.split("|", 1) for line in own.splitlines() if line.startswith("Debian"))
    if "Debian" not in mirrors:
        raise KernelError("apt knows no mirror of Debian; run apt-get update and run again")
    lines = [f"deb [signed-by={KEYRING}] {mirrors['Debian']} {release} main"]
    if "Debian-Security" in mirrors:
        lines.append(f"deb [signed-by={KEYRING}] {mirrors['Debian-Security']} {release}-security main")
    return "\n".join(lines) + "\n"


def step(command, what, **options):
    """Runs one command to its end; its output, or an error that says what was being done."""
    done = subprocess.run([str(part) for part in command], text=True, capture_output=True,
                          timeout=600, check=False, **options)
    if done.returncode != 0:
        raise KernelError(f"{what}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout
