"""Pictures for a slide, by gnuplot: SVG."""

import shutil
import subprocess

from programs import LabError
from rows import WEIR

SIZE = "880,480"
# One colour for each contender in all pictures.
COLOURS = {WEIR: "#0b6e4f", "nginx": "#7a9e9f", "haproxy": "#b8d8d8", "iptables": "#b8d8d8", "nft": "#7a9e9f",
           "kernel": "#7a9e9f"}
STYLE = f"""set terminal svg size {SIZE} font 'sans-serif,14' background rgb 'white'
set border 3
set tics nomirror
set grid y lc rgb '#dddddd'
set key outside top center horizontal
"""


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def contenders(row):
    """Who did how well in a row."""
    values = {WEIR: row["value"]} | row["others"]
    if row["reference"]:
        values[row["reference"]] = row["reference_value"]
    return values


def gnuplot(script):
    """The picture."""
    done = subprocess.run(["gnuplot"], input=script, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0 or "</svg>" not in done.stdout:
        raise LabError(f"gnuplot could not draw: {done.stderr[-300:]}")
    return done.stdout


def curves(title, unit, rows):
    """Cost against the number of services; both axes by powers of ten."""
    kinds = [kind for kind in (WEIR, "nft", "iptables") if all(kind in contenders(row) for row in rows)]
    data = [f"$data{n} << END\n" + "\n".join(f"{row['id'].rsplit('_', 1)[1]} {contenders(row)[kind]}" for row in rows)
            + "\nEND" for n, kind in enumerate(kinds)]
    lines = [f"$data{n} with linespoints lw 3 pt 7 ps 0.7 lc rgb '{COLOURS[kind]}' title {quoted(kind)}"
             for n, kind in enumerate(kinds)]
    return gnuplot(STYLE + "\n".join(data) + f"\nset title {quoted(title)}\nset ylabel {quoted(unit)}\n"
            "set xlabel 'services'\nset logscale xy\nset format y '%.0s%c'\nplot " + ", ".join(lines) + "\n")


def bars(title, unit, rows, kinds):
    """Contenders side by side; each row has its own scale where units differ, so rows are of one unit."""
    body = "\n".join(" ".join([quoted(row["id"].split(".")[1]).replace("'", '"'),
                               *(str(contenders(row).get(kind) or 0) for kind in kinds)]) for row in rows)
    lines = [f"$data using {n + 2}:xtic(1) lc rgb '{COLOURS[kind]}' title {quoted(kind)}"
             for n, kind in enumerate(kinds)]
    return gnuplot(STYLE + f"$data << END\n{body}\nEND\nset title {quoted(title)}\nset ylabel {quoted(unit)}\n"
            "set style data histogram\nset style histogram clustered gap 1\nset style fill solid\nset boxwidth 0.9\n"
            "set yrange [0:*]\nset format y '%.0s%c'\nset xtics rotate by -20 noenhanced\n"
            f"plot {', '.join(lines)}\n")


def ratios(title, rows):
    """A bar for each row, and a mark where its target is."""
    body = "\n".join(f'"{row["id"].split(".")[1]}" {row["ratio"]} '
                     f'{row["target"][3:-1] if (row["target"] or "").endswith("x") else "NaN"}' for row in rows)
    return gnuplot(STYLE + f"$data << END\n{body}\nEND\nset title {quoted(title)}\nset ylabel 'ratio'\n"
            "set style fill solid\nset boxwidth 0.6\nset yrange [0:*]\nset rmargin 6\n"
            "set xtics rotate by -45 noenhanced\n"
            f"plot $data using 2:xtic(1) with boxes lc rgb '{COLOURS[WEIR]}' title 'measured', "
            "$data using 0:3 with points pt 9 ps 1.2 lc rgb '#c1121f' title 'target'\n")


def need():
    if shutil.which("gnuplot") is None:
        raise LabError("gnuplot is not installed, which draws the plots of --report; run tools/setup")


def draw(rows):
    """({file: picture}, {group: [(file, what it shows)]}); only of rows that were measured."""
    rows = [row for row in rows if row["value"] is not None]
    drawings, made = {}, {}

    def add(group, file, what, act, found, *arguments):
        if found:
            drawings[file] = act(what, *arguments)
            made.setdefault(group, []).append((file, what))

    def of(*prefixes):
        return [row for row in rows if row["id"].startswith(prefixes)]
    tested = [row for row in of("l4.") if row["reference"] == "floor" and row["unit"] == "ns"]
    add("l4", "l4.svg", "A packet in the balancer, over parse and one hash lookup", ratios, tested, tested)
    for key, what, unit in (("connects", "New connections a second", "1/s"),
                            ("ns", "Processor time of a packet", "ns"),
                            ("change", "One change, until it takes effect", "ms"),
                            ("load", "Loading all services", "ms")):
        found = of(f"services.{key}_")
        add("services", f"services_{key}.svg", what, curves, len(found) > 1, unit, found)
    stack = [row for row in of("tcp.rr64", "tcp.crr") if row["reference"] == "kernel"]
    add("tcp", "tcp.svg", "TCP beside the kernel's, one core a side", bars, stack, "1/s", stack, (WEIR, "kernel"))
    proxied = [row for row in of("l7.") if row["unit"] in ("requests/s", "messages/s") and row["id"].count("_") < 2
               and not row["id"].startswith(("l7.body", "l7.connections"))]
    add("l7", "l7.svg", "Half a core of a proxy", bars, proxied, "requests/s", proxied, (WEIR, "nginx", "haproxy"))
    return drawings, made
