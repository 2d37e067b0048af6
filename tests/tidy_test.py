#!/usr/bin/env python3
"""Reads the tree and fails on what reviewers should not have to look for: wrong include arrows,
long lines and functions, banned calls, files that no build names, transcripts that do not say which
rule they hold, marks of unfinished work.

    tests/tidy_test.py              check the tree
    tests/tidy_test.py --self-test  prove that every check can fail
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass

COLUMNS_MAX = 100
FUNCTION_LINES_MAX = 70
SOURCE_SUFFIXES = {".c", ".h", ".cpp", ".def"}
TEXT_SUFFIXES = SOURCE_SUFFIXES | {".py", ".sh", ".cmake", ".yaml", ".txt"}

# Who may include whom, besides itself: "part: the prefixes of repository paths it may include".
# The first part that is a prefix of a file's path is the file's; files before their folders.
MODEL = "l4/control/model.h"
ARROWS = [
    ("bpf/abi.h", ["bpf/verdicts.def", "bpf/decap_verdicts.def", "bpf/trace.def"]),
    ("bpf/", ["bpf/"]),
    ("l4/base/", []),
    ("l4/wire/", ["l4/base/"]),
    ("l4/control/", ["l4/base/", "l4/wire/"]),
    # Programs print their own manual pages, from the options that they parse (tools/man).
    ("l4/daemon.cpp", ["l4/", "tools/man/"]),
    ("l4/decap_main.cpp", ["l4/", "tools/man/"]),
    ("l7/daemon.cpp", ["l4/base/", "l4/wire/", "l4/control/", "l7/", "tools/man/"]),
    ("l4/", ["l4/base/", "l4/wire/", "l4/control/", "bpf/abi.h", "bpf/hash.h", "bpf/nat_state.h",
             "bpf/verdicts.def", "bpf/decap_verdicts.def", "bpf/trace.def"]),
    # wire: a port and the device that its start checks examine have MAC addresses.
    ("l7/port/", ["l4/base/", "l4/wire/"]),
    ("l7/net/", ["l4/base/", "l4/wire/", "l7/port/"]),
    # port: a segment is built in a packet buffer, in place; net's interface hands those out and takes
    # them back, but does not hide what they are.
    ("l7/tcp/", ["l4/base/", "l4/wire/", "l7/port/", "l7/net/"]),
    ("l7/tls/", ["l4/base/", MODEL]),
    ("l7/http/", ["l4/base/"]),
    # net: the worker owns the interface that its connections speak through. maglev: one table
    # serves both planes. value_template: one reader of variables checks and compiles.
    ("l7/proxy/", ["l4/base/", "l4/wire/", "l7/port/", "l7/net/", "l7/tcp/", "l7/tls/", "l7/http/",
                   MODEL, "l4/control/maglev.h", "l4/control/value_template.h"]),
    ("l7/", ["l4/base/", "l4/wire/", "l4/control/", "l7/"]),
    # wire and control, not the model alone: addresses and VIPs are checked before they are sent, and
    # the client of the admin API stands beside its server. Neither reaches a plane.
    # Netlink: `weir doctor` asks the kernel about devices, without libbpf and without a daemon.
    ("tools/weir/doctor_devices.cpp", ["l4/base/", "l4/wire/", "l4/netlink.h", "tools/weir/"]),
    ("tools/weir/", ["l4/base/", "l4/wire/", "l4/control/", "tools/man/"]),
    ("tools/man/", ["l4/base/"]),
    # What is installed: it stands on the plane, not on what tests use.
    *((f"bench/{stem}", ["bench/", "l4/", "bpf/", "tools/man/"]) for stem in ("live", "own_veth", "weir_bench")),
    ("bench/", [""]),
    ("tests/", [""]),
]

# Libraries that belong to one place: pattern of the included name, prefixes that may have it. A
# place that ends in "/*" is the folder without the folders in it, "/*.cpp" its sources alone.
LIBRARIES = [
    (r"rte_", ["l7/port/dpdk_port", "tests/l7/port/"]),
    # probe_tls: an HTTPS probe is a client, and health checks are below both planes (l4/README.md).
    # admin: its API over TCP serves both planes too, and must not reach up to l7/tls.
    (r"openssl/", ["l7/tls/", "l4/control/probe_tls.cpp", "l4/control/admin_tls.cpp",
                   "l4/control/admin_client.cpp", "tests/"]),
    (r"(bpf|xdp)/(libbpf|bpf|btf|xsk|libxdp)\.h", ["l4/*", "tests/", "bench/"]),
    (r".*\.skel\.h", ["l4/*", "tests/", "bench/"]),
    (r"nlohmann/", ["l4/control/*.cpp", "l4/*.cpp", "l4/control/route_json.h",
                    "l4/control/model_json_parts.h", "l7/*.cpp",
                    "tools/weir/", "tests/", "bench/"]),
    (r"yaml\.h", ["l4/control/yaml_tree.cpp"]),
    (r"httplib\.h", ["l4/control/admin_client.cpp", "tests/"]),
    (r"re2/", ["l4/control/rules_regex.cpp", "l7/proxy/regex.cpp", "tests/"]),
    (r"ares", ["l7/resolver.cpp"]),
    (r"nghttp2/", ["l7/http/h2_session", "l4/control/probe_grpc.cpp", "tests/"]),
    (r"n?curses", ["tools/weir/top_terminal.cpp"]),
    (r"CLI/", ["tools/weir/", "tools/man/", "l4/daemon.cpp", "l4/decap_main.cpp", "l7/daemon.cpp",
               "bench/weir_bench.cpp", "bench/live_main.cpp", "bench/stack_lab/"]),
]

# Call, why not, prefixes where it is wrong.
BANNED = [
    (r"\b(?:std::)?(sprintf|vsprintf|strcpy|strcat|gets|strtok|alloca)\s*\(", "unbounded", [""]),
    (r"(?<![\w.>:])(?:std::|::)?s?rand\s*\(", "use l4/base/random.h", [""]),
    (r"(?<![\w.>:])(?:std::|::)?(system|popen)\s*\(", "no shell",
     ["l4/", "l7/", "tools/weir/", "bench/"]),
    (r"\b(atoi|atol|atof)\s*\(", "no error; use from_chars", [""]),
    (r"\b(sleep|usleep|nanosleep)\s*\(|\bsleep_(?:for|until)\s*\(", "tests move time by hand",
     ["tests/"]),
    (r"\busing\s+namespace\s+std\s*;", "names stay qualified", [""]),
]

UNFINISHED = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")) + r")\b")


@dataclass(frozen=True)
class Finding:
    path: str
    line: int
    check: str
    message: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.check}: {self.message}"


def without_comments_and_strings(text):
    """Blanks them, keeping every line and column."""
    pattern = re.compile(
        r'R"(?P<tag>[^()\s\\]{0,16})\(.*?\)(?P=tag)"'
        r"|//[^\n]*|/\*.*?\*/"
        r'|"(?:\\.|[^"\\\n])*"'
        r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'",
        re.DOTALL)
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def allowed_includes(path):
    for part, allowed in ARROWS:
        if path.startswith(part):
            own = [part] if part.endswith("/") else []
            return allowed + own
    return None


def is_direct_child(path, folder):
    return path.startswith(folder) and "/" not in path[len(folder):]


def is_in_place(path, place):
    folder, star, suffix = place.partition("*")
    if star:
        return is_direct_child(path, folder) and path.endswith(suffix)
    return path.startswith(place)


def check_includes(path, text, _root):
    allowed = allowed_includes(path)
    if allowed is None:
        return
    for match in re.finditer(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', text, re.MULTILINE):
        name = match.group(2)
        line = line_of(text, match.start())
        for pattern, places in LIBRARIES:
            if re.match(pattern, name) and not any(is_in_place(path, place) for place in places):
                yield Finding(path, line, "include", f"{name} belongs to {', '.join(places)}")
        # A path that climbs would pass by the table below.
        if re.match(r"(.*/)?\.\.?/", name):
            yield Finding(path, line, "include", f"{name} is relative; start at the root of the tree")
        if match.group(1) == '"' and re.match(r"(bpf|l4|l7|tools|tests|bench)/", name):
            # The planes are the files directly in l4/: a library below must not reach up to them.
            if not any(name.startswith(prefix) for prefix in allowed):
                yield Finding(path, line, "include",
                              f"{name} is not for {path.rsplit('/', 1)[0]}; see the table ARROWS")


def check_lines(path, text, _root):
    for number, line in enumerate(text.split("\n"), 1):
        columns = len(line.expandtabs(8))
        is_row = "_VERDICT(" in line or "WEIR_STEP(" in line  # of a table, sentence and all
        if columns > COLUMNS_MAX and not is_row:
            yield Finding(path, number, "line", f"{columns} columns, at most {COLUMNS_MAX}")


CONTAINER = re.compile(r"(?:.*\b)?(namespace|class|struct|union|enum|extern)\b(?![^<]*\))", re.DOTALL)


def brace_kind(head, glued):
    """What the brace after `head` opens: "container", "function", or "other" (initializers)."""
    if glued or not head or head.endswith(("=", ",", "(", "return")):
        return "other"  # the formatter glues initializers to their names, and bodies never
    if ")" in head and not re.match(r"(namespace|class|struct|union|enum|extern)\b", head):
        return "function"
    return "container" if CONTAINER.match(head) else "other"


def check_functions(path, text, _root):
    """From the line where a function's head begins to its closing brace. What is nested in a
    function, lambdas included, is part of it."""
    if pathlib.PurePath(path).suffix not in {".c", ".h", ".cpp"}:
        return
    original = text.split("\n")
    code = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda match: re.sub(r"[^\n]", " ",
                                                                          match.group()),
                  without_comments_and_strings(text), flags=re.MULTILINE)
    stack = []  # (kind, line of the head)
    head_start = 0
    for match in re.finditer(r"[{};]|\b(?:public|private|protected):", code):
        token, at = match.group(), match.start()
        if token == "{":
            head = code[head_start:at]
            kind = brace_kind(head.strip(), at > 0 and not code[at - 1].isspace())
            begins = head_start + len(head) - len(head.lstrip())
            stack.append((kind, line_of(code, begins)))
            if kind != "other":
                head_start = at + 1
            continue
        if token == "}" and stack:
            kind, first = stack.pop()
            inside = any(outer == "function" for outer, _ in stack)
            length = line_of(code, at) - first + 1
            reason = original[first - 2] if first > 1 else ""
            if kind == "function" and not inside and length > FUNCTION_LINES_MAX \
                    and "long:" not in reason:
                yield Finding(path, first, "function",
                              f"{length} lines, at most {FUNCTION_LINES_MAX}, or the line before "
                              f"says why: '// long: …'")
            if kind == "other":
                continue  # still within the statement that the initializer is part of
        head_start = match.end()


def check_banned(path, text, _root):
    code = without_comments_and_strings(text)
    for pattern, why, places in BANNED:
        if not any(path.startswith(place) for place in places):
            continue
        for match in re.finditer(pattern, code):
            yield Finding(path, line_of(code, match.start()), "banned",
                          f"{match.group().strip(' (')}: {why}")


def check_unfinished(path, text, _root):
    for match in UNFINISHED.finditer(text):
        yield Finding(path, line_of(text, match.start()), "unfinished", match.group())


def check_listed(path, text, root):
    """A source that no CMakeLists.txt names is compiled by nobody."""
    del text
    if pathlib.PurePath(path).suffix not in {".c", ".cpp"} or path.startswith("tests/fuzz/"):
        return
    name = pathlib.PurePath(path).name
    stem = name.removesuffix(".cpp").removesuffix(".c")
    folder = (root / path).parent
    while True:
        listing = folder / "CMakeLists.txt"
        if listing.exists():
            words = listing.read_text(encoding="utf-8")
            if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", words):
                return
            if re.search(rf"\bforeach\b[^)]*\b{re.escape(stem)}\b", words):
                return
        if folder == root:
            break
        folder = folder.parent
    yield Finding(path, 1, "dead file", "no CMakeLists.txt above it names it")


# The transcripts of TCP, but for the one that tries out their language.
TRANSCRIPTS = re.compile(r"tests/l7/tcp/transcript_(?!harness_)\w+\.cpp")
TRANSCRIPT_TEST = re.compile(r"^((?://[^\n]*\n)*)TEST(?:_[FP])?\(([^)]*)\)(.*?)^\}",
                             re.MULTILINE | re.DOTALL)
CITATION = re.compile(r"RFC \d+, sections? \d")


def check_citations(path, text, _root):
    """Each transcript cites the rule that it is about, within it or directly above."""
    if not TRANSCRIPTS.fullmatch(path):
        return
    for match in TRANSCRIPT_TEST.finditer(text):
        comments = re.findall(r"^\s*//(.*)$", match.group(1) + match.group(3), re.MULTILINE)
        if not CITATION.search(" ".join(" ".join(comments).split())):
            name = ".".join(match.group(2).replace(",", " ").split())
            yield Finding(path, line_of(text, match.start(2)), "citation",
                          f"{name} says nowhere 'RFC 9293, section 3.10.7.4' or the like")


SOURCE_CHECKS = [check_includes, check_lines, check_functions, check_banned, check_listed,
                 check_citations]


def tracked_files(root):
    """What git knows, so that build trees and scratch files do not count; without git, all."""
    listing = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], capture_output=True,
                             check=False)
    if listing.returncode == 0 and listing.stdout:
        return sorted(name for name in listing.stdout.decode().split("\0") if name)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def check_tree(root, files):
    findings = []
    for path in files:
        suffix = pathlib.PurePath(path).suffix
        if suffix not in TEXT_SUFFIXES or not (root / path).is_file():
            continue
        if path.startswith("tests/golden/"):
            continue
        text = (root / path).read_text(encoding="utf-8", errors="replace")
        findings += check_unfinished(path, text, root)
        if suffix in SOURCE_SUFFIXES:
            for check in SOURCE_CHECKS:
                findings += check(path, text, root)
    return findings


# Each case: what is written where, and the check that must find it (None: nothing may be found).
LISTED = {"CMakeLists.txt": "a.cpp b.cpp x.c dpdk_port.cpp live_bench.cpp transcript_a_test.cpp "
                            "transcript_harness_test.cpp"}
TRANSCRIPT = "tests/l7/tcp/transcript_a_test.cpp"
LONG_BODY = "  work();\n" * (FUNCTION_LINES_MAX + 1)
SELF_TEST = [
    ("base includes wire", {"l4/base/a.h": '#include "l4/wire/address.h"\n'}, "include"),
    ("wire includes base", {"l4/wire/a.h": '#include "l4/base/result.h"\n'}, None),
    ("control includes the plane", {"l4/control/a.h": '#include "l4/maglev.h"\n'}, "include"),
    ("the plane includes control", {"l4/a.h": '#include "l4/control/model.h"\n'}, None),
    ("l4 includes l7", {"l4/a.h": '#include "l7/net/ip.h"\n'}, "include"),
    ("l7 includes the l4 plane", {"l7/proxy/a.h": '#include "l4/maglev.h"\n'}, "include"),
    ("http includes wire", {"l7/http/a.h": '#include "l4/wire/address.h"\n'}, "include"),
    ("tcp includes http", {"l7/tcp/a.h": '#include "l7/http/h1.h"\n'}, "include"),
    ("port includes wire", {"l7/port/a.h": '#include "l4/wire/address.h"\n'}, None),
    ("tls includes config", {"l7/tls/a.h": '#include "l4/control/config.h"\n'}, "include"),
    ("tls includes the model", {"l7/tls/a.h": '#include "l4/control/model.h"\n'}, None),
    ("the command line includes a plane", {"tools/weir/a.h": '#include "l4/maglev.h"\n'}, "include"),
    ("the command line includes netlink", {"tools/weir/a.h": '#include "l4/netlink.h"\n'}, "include"),
    ("a library includes tests", {"l4/base/a.h": '#include "tests/support/golden.h"\n'}, "include"),
    ("what is installed includes tests",
     {"bench/live_bench.cpp": '#include "tests/support/golden.h"\n'}, "include"),
    ("a benchmark includes tests",
     {"bench/a.cpp": '#include "tests/support/golden.h"\n'}, None),
    ("a shell in a benchmark", {"bench/a.cpp": "void f() { std::system(a); }\n"}, "banned"),
    ("abi.h includes maps", {"bpf/abi.h": '#include "bpf/maps.h"\n'}, "include"),
    ("OpenSSL outside tls", {"l7/proxy/a.h": "#include <openssl/ssl.h>\n"}, "include"),
    ("DPDK outside its file", {"l7/port/a.h": "#include <rte_mbuf.h>\n"}, "include"),
    ("DPDK in its file", {"l7/port/dpdk_port.cpp": "#include <rte_mbuf.h>\n"}, None),
    ("YAML outside its file", {"l4/control/a.cpp": "#include <yaml.h>\n"}, "include"),
    ("libbpf in the plane", {"l4/a.h": "#include <bpf/libbpf.h>\n"}, None),
    ("libbpf below the plane", {"l4/base/a.h": "#include <bpf/libbpf.h>\n"}, "include"),
    ("a skeleton in the plane", {"l4/a.cpp": '#include "weir_lb.skel.h"\n'}, None),
    ("a skeleton below the plane", {"l4/control/a.cpp": '#include "weir_lb.skel.h"\n'}, "include"),
    ("JSON in a source of the plane", {"l4/a.cpp": "#include <nlohmann/json.hpp>\n"}, None),
    ("JSON in a header of the plane", {"l4/a.h": "#include <nlohmann/json.hpp>\n"}, "include"),
    ("JSON in a source of control", {"l4/control/a.cpp": "#include <nlohmann/json.hpp>\n"}, None),
    ("JSON in wire", {"l4/wire/a.cpp": "#include <nlohmann/json.hpp>\n"}, "include"),
    ("JSON in the proxy", {"l7/proxy/a.cpp": "#include <nlohmann/json_fwd.hpp>\n"}, "include"),
    ("JSON in the command line", {"tools/weir/a.h": "#include <nlohmann/json.hpp>\n"}, None),
    ("an include that climbs", {"l4/base/a.h": '#include "../maglev.h"\n'}, "include"),
    ("an include from here", {"l4/a.h": '#include "./maglev.h"\n'}, "include"),
    ("an include that climbs later", {"l4/base/a.h": '#include "l4/base/../maglev.h"\n'}, "include"),
    ("tcp includes port", {"l7/tcp/a.h": '#include "l7/port/packet.h"\n'}, None),
    ("proxy includes net", {"l7/proxy/a.h": '#include "l7/net/interface.h"\n'}, None),
    ("the command line includes control", {"tools/weir/a.h": '#include "l4/control/admin.h"\n'},
     None),
    ("a line of 101 columns", {"l4/a.h": "/" * 101 + "\n"}, "line"),
    ("a line of 100 columns", {"l4/a.h": "/" * 100 + "\n"}, None),
    ("a tab counts for eight", {"bpf/x.c": "\t" * 13 + "\n"}, "line"),
    ("a long function", {"l4/a.cpp": "void f() {\n" + LONG_BODY + "}\n"}, "function"),
    ("a long function over two lines", {"l4/a.cpp": "int f(int a,\n      int b) const {\n"
                                        + LONG_BODY + "}\n"}, "function"),
    ("a long function that says why", {"l4/a.cpp": "// long: one table\nvoid f() {\n" + LONG_BODY
                                       + "}\n"}, None),
    ("a long namespace", {"l4/a.cpp": "namespace a {\n" + "int f();\n" * 99 + "}\n"}, None),
    ("a long function with branches", {"l4/a.cpp": "void f() {\n  if (a) {\n" + LONG_BODY
                                       + "  } else {\n    g();\n  }\n}\n"}, "function"),
    ("sprintf", {"l4/a.cpp": "void f() { sprintf(a, b); }\n"}, "banned"),
    ("strcpy", {"l4/a.cpp": "void f() { strcpy(a, b); }\n"}, "banned"),
    ("rand", {"l4/a.cpp": "int f() { return std::rand(); }\n"}, "banned"),
    ("snprintf", {"l4/a.cpp": "void f() { snprintf(a, 1, b); }\n"}, None),
    ("sprintf in a comment", {"l4/a.cpp": "// not sprintf(a)\n"}, None),
    ("sprintf in a string", {"l4/a.cpp": 'auto t = "sprintf(a)";\n'}, None),
    ("sleep in a test", {"tests/a.cpp": "void f() { sleep(1); }\n"}, "banned"),
    ("sleep_for in a test", {"tests/a.cpp": "void f() { std::this_thread::sleep_for(x); }\n"},
     "banned"),
    ("a transcript with its rule", {TRANSCRIPT: "TEST(A, B) {\n  // RFC 9293, section 3.4.\n}\n"},
     None),
    ("a transcript with its rule above it",
     {TRANSCRIPT: "// RFC 9293, section\n// 3.4: so it is.\nTEST(A, B) {\n}\n"}, None),
    ("a transcript without a rule", {TRANSCRIPT: "TEST(A, B) {\n  f();\n}\n"}, "citation"),
    ("a table of transcripts without a rule", {TRANSCRIPT: "TEST_P(A, B) {\n  f();\n}\n"},
     "citation"),
    ("a transcript whose rule has no section", {TRANSCRIPT: "TEST(A, B) {\n  // RFC 9293.\n}\n"},
     "citation"),
    ("a rule above another transcript",
     {TRANSCRIPT: "// RFC 9293, section 3.4.\nTEST(A, B) {\n}\n\nTEST(A, C) {\n}\n"}, "citation"),
    ("a rule that is text", {TRANSCRIPT: 'TEST(A, B) {\n  f("RFC 9293, section 3.4");\n}\n'},
     "citation"),
    ("a test of the transcripts' language",
     {"tests/l7/tcp/transcript_harness_test.cpp": "TEST(A, B) {\n  f();\n}\n"}, None),
    ("a file that no build names", {"l4/dead.cpp": "int x;\n"}, "dead file"),
    ("an unfinished mark", {"l4/a.cpp": "// " + "TO" + "DO: later\n"}, "unfinished"),
    ("an unfinished mark in a script", {"tools/a.py": "# " + "FIX" + "ME\n"}, "unfinished"),
]


def self_test():
    failures = 0
    for name, files, expected in SELF_TEST:
        with tempfile.TemporaryDirectory() as directory:
            root = pathlib.Path(directory)
            for path, text in (LISTED | files).items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text, encoding="utf-8")
            found = {finding.check for finding in check_tree(root, sorted(files))}
        wanted = set() if expected is None else {expected}
        if found != wanted:
            failures += 1
            print(f"self-test '{name}': found {found or 'nothing'}, expected "
                  f"{wanted or 'nothing'}")
    print(f"{len(SELF_TEST)} cases, {failures} failed")
    return failures == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--root", type=pathlib.Path,
                        default=pathlib.Path(__file__).resolve().parent.parent)
    arguments = parser.parse_args()
    if arguments.self_test:
        return 0 if self_test() else 1
    findings = check_tree(arguments.root, tracked_files(arguments.root))
    for finding in findings:
        print(finding)
    print(f"{len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
