"""SCALING.md: what many cores and a fast card would do, from the parts that were measured and assumptions that are
named."""

# Assumptions; each stands in the text with its number.
GBIT = 100
WIRE_OVERHEAD = 24  # preamble, gap and frame check
DRIVER_NS = 50  # receive and transmit of a native XDP driver, both together, in batches
PMD_NS = 30  # one frame through a DPDK poll-mode driver, either way
# What AF_XDP's sendto is of a request here; bench/FINDINGS.md has the profiles.
SENDTO = {"l7.https_proxied": 0.36, "l7.http_proxied": 0.50}
FRAMES_PER_REQUEST = 6  # request and reply on both sides, and an ACK on each
REPLY_BYTES = 54 + 150 + 256  # headers of Ethernet to TCP, a head, a body: what was measured
CORES = (1, 4, 8, 16)
SLOWDOWN = 0.85  # what a core keeps when all others work too: shared cache and memory
FULL_BYTES = 1514
# Row: what it is, and the bytes of a frame as it leaves, the longest of its ways.
PACKETS = {"l4.ack_hit": ("known flow, IP in IP", 80), "l4.flows_64k": ("65,536 flows, IP in IP", 80),
           "l4.flows_1m": ("1,048,576 flows, IP in IP", 80), "l4.syn": ("SYNs, each a new flow, IP in IP", 80),
           "l4.nat_there": ("full NAT", 60)}
REQUESTS = {"l7.https_proxied": "HTTPS, proxied", "l7.http_proxied": "HTTP, proxied"}


def line_rate(bytes_):
    return GBIT * 1e9 / 8 / (bytes_ + WIRE_OVERHEAD)


def found(results, name):
    return next((row["value"] for row in results["rows"] if row["id"] == name), None)


def of_cores(per_core, number):
    return per_core * number * (1.0 if number == 1 else SLOWDOWN)


def packets_per_core(ns):
    return 1e9 / (ns + DRIVER_NS)


def requests_per_core(capacity, sendto):
    """`capacity` is of half a core; sendto's share goes, drivers come."""
    own_s = (1 - sendto) / (2 * capacity)
    return 1 / (own_s + FRAMES_PER_REQUEST * PMD_NS * 1e-9)


def line(what, per_core, limit, unit):
    rates = [f"{min(of_cores(per_core, number), limit) / unit:.3g}" for number in CORES]
    return f"| {what} | " + " | ".join(rates) + f" | {limit / unit:.3g} |"


def head(what):
    return [f"| {what} | " + " | ".join(f"{number} cores" for number in CORES) + " | line rate |",
            "| --- " * (len(CORES) + 2) + "|"]


def packets(results):
    lines = head("millions of packets a second, as short as they can be")
    for name, (what, bytes_) in PACKETS.items():
        ns = found(results, name)
        lines.append(line(what, packets_per_core(ns), line_rate(bytes_), 1e6) if ns
                     else f"| {what} | not measured |")
    return lines


def full_frames(results):
    """Whether one core fills the card with full frames, row by row."""
    limit = line_rate(FULL_BYTES)
    words = []
    for name, (what, _) in PACKETS.items():
        ns = found(results, name)
        if ns:
            words.append(f"{what}: {100 * min(packets_per_core(ns) / limit, 1):.0f} %")
    return (f"With full frames line rate is {limit / 1e6:.2f} million a second. One core carries of that: "
            f"{'; '.join(words) or 'not measured'}.")


def requests(results):
    lines = head("thousands of requests a second")
    for name, what in REQUESTS.items():
        capacity = found(results, name)
        lines.append(line(what, requests_per_core(capacity, SENDTO[name]), line_rate(REPLY_BYTES), 1e3) if capacity
                     else f"| {what} | not measured |")
    return lines


def text(results):
    shares = ", ".join(f"{100 * share:.0f} % of {REQUESTS[name]}" for name, share in SENDTO.items())
    return "\n".join([
        "# Scaling, on paper", "",
        f"Computed by `{results['command']}` from [RESULTS.md](RESULTS.md) of {results['date']}; do not edit. Nothing "
        f"here was measured: this machine has {results['machine'].split(', ')[1]}, no such card, and no driver for one. "
        "It says what the measured parts would add up to if these assumptions held:", "",
        f"1. A card of {GBIT} Gbit/s whose receive queues spread flows evenly over cores, one queue a core.",
        f"2. A native XDP driver takes {DRIVER_NS} ns to receive and send a packet in batches. A veth takes five to ten "
        "times that (`l4.live_*`), so nothing that was measured live here carries over; the program's own time, from "
        "the kernel's test-run, does.",
        "3. Headers of packets are in the cache when the program sees them (DDIO). Where they are not, each packet "
        "pays one more wait for memory, 60 to 100 ns.",
        f"4. A frame costs {PMD_NS} ns in a poll-mode driver of DPDK, each way, and a request has {FRAMES_PER_REQUEST} "
        f"of them. That replaces AF_XDP's sendto, which is {shares} here ([FINDINGS.md](FINDINGS.md)).",
        f"5. A core keeps {100 * SLOWDOWN:.0f} % of its pace when all others work too. Tables of flows are per CPU or "
        "seldom written by two, and workers share nothing on the path of a request, so what is left is cache and "
        "memory. Two cores of this machine are too few to say more.",
        "6. Clients and backends are elsewhere and never the limit.", "",
        "## Packets", "", *packets(results), "", full_frames(results), "",
        f"## Requests, replies of {REPLY_BYTES} bytes on the wire", "", *requests(results), ""])
