"""SCALING.md: what many cores and a fast card would do, from the parts that were measured and assumptions that are
named."""

# Assumptions; each stands in the text with its number.
GBIT = 100
WIRE_OVERHEAD = 20  # preamble and gap
DRIVER_NS = 50  # receive and transmit of a native XDP driver, both together, in batches
PMD_NS = 30  # one frame through a DPDK poll-mode driver, either way
SENDTO_SHARE = 0.36  # of a proxied HTTPS request; bench/FINDINGS.md has the profile
FRAMES_PER_REQUEST = 4  # request and reply, on both sides
CORES = (1, 4, 8, 16)
SLOWDOWN = 0.85  # what a core keeps when all others work too: shared cache and memory
HEADERS = 54 + 29  # Ethernet to TCP, and a TLS record


def line_rate(bytes_):
    return GBIT * 1e9 / 8 / (bytes_ + WIRE_OVERHEAD)


def found(results, name):
    return next((row["value"] for row in results["rows"] if row["id"] == name), None)


def share(core, number):
    return core * number * (1.0 if number == 1 else SLOWDOWN)


def row_of(name, per_core, limit):
    return f"| {name} | " + " | ".join(f"{min(share(per_core, n), limit) / 1e6:.3g}" for n in CORES) + \
        f" | {limit / 1e6:.3g} |"


def packets(results):
    lines = ["| millions a second | " + " | ".join(f"{n} cores" for n in CORES) + " | line rate |",
             "| --- " * (len(CORES) + 2) + "|"]
    for name, what in (("l4.ack_hit", "known flow, 64 bytes"), ("l4.flows_64k", "65,536 flows, 64 bytes"),
                       ("l4.flows_1m", "1,048,576 flows, 64 bytes"), ("l4.syn", "SYNs, each a new flow, 64 bytes"),
                       ("l4.nat_there", "full NAT, 64 bytes")):
        ns = found(results, name)
        lines.append(row_of(what, 1e9 / (ns + DRIVER_NS), line_rate(64)) if ns else f"| {what} | not measured |")
    return lines


def requests(results):
    lines = ["| thousands a second | " + " | ".join(f"{n} cores" for n in CORES) + " | line rate, replies of 1 KB |",
             "| --- " * (len(CORES) + 2) + "|"]
    for name, what in (("l7.https_proxied", "HTTPS, proxied"), ("l7.http_proxied", "HTTP, proxied"),
                       ("l7.https_direct", "HTTPS, fixed answer")):
        capacity = found(results, name)
        if not capacity:
            lines.append(f"| {what} | not measured |")
            continue
        own_s = (1 - SENDTO_SHARE) / (2 * capacity)  # of a whole core; capacity is of half of one
        per_core = 1 / (own_s + FRAMES_PER_REQUEST * PMD_NS * 1e-9)
        limit = line_rate(1024 + HEADERS)
        lines.append(f"| {what} | " + " | ".join(f"{min(share(per_core, n), limit) / 1e3:.4g}" for n in CORES)
                     + f" | {limit / 1e3:.4g} |")
    return lines


def text(results):
    return "\n".join([
        "# Scaling, on paper", "",
        f"Computed by `{results['command']}` from [RESULTS.md](RESULTS.md) of {results['date']}; do not edit. Nothing "
        f"here was measured: this machine has {results['machine'].split(', ')[1]}, no such card, and no driver for one. "
        "It says what the measured parts would add up to if these assumptions held:", "",
        f"1. A card of {GBIT} Gbit/s whose receive queues spread flows evenly over cores, one queue a core.",
        f"2. A native XDP driver takes {DRIVER_NS} ns to receive and send a packet in batches. A veth takes five to ten "
        "times that (`l4.live_*`), so nothing that was measured live here carries over; the program's own time, from "
        "the kernel's test-run with its caches warm, does.",
        "3. Headers of packets are in the cache when the program sees them (DDIO). Where they are not, each packet "
        "pays one more wait for memory, 60 to 100 ns.",
        f"4. A frame costs {PMD_NS} ns in a poll-mode driver of DPDK, each way. That replaces AF_XDP's sendto, which is "
        f"{100 * SENDTO_SHARE:.0f} % of a proxied HTTPS request here ([FINDINGS.md](FINDINGS.md)).",
        f"5. A core keeps {100 * SLOWDOWN:.0f} % of its pace when all others work too. Tables of flows are per CPU or "
        "nearly never written by two, and workers share nothing on the path of a request, so what is left is cache and "
        "memory. Two cores of this machine are too few to say more.",
        "6. Clients and backends are elsewhere and never the limit.", "",
        "## Packets", "", *packets(results), "",
        f"Line rate at 64 bytes is {line_rate(64) / 1e6:.1f} million packets a second; at 1500 bytes it is "
        f"{line_rate(1518) / 1e6:.2f} million, which one core carries in every row.", "",
        "## Requests", "", *requests(results), ""])
