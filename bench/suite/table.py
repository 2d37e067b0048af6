"""Results for people: a table on the terminal, and the same for Markdown."""


WIDE = 100  # a factor between the ends of a spread, beyond which it is not worth printing


def short(value):
    if value is None:
        return "-"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def verdict(row):
    if row["failed"]:
        return "FAILED"
    if row["verdict"] == "missed":
        percent = 100 * row["missed_by"]
        return f"MISSED by {percent:.0f} %" if percent >= 1 else f"MISSED by {percent:.1g} %"
    if row["target"] and row["verdict"] is None:
        return "not comparable"
    return row["verdict"] or "-"


def spread_text(row):
    if row["rounds"] < 2:
        return "once"
    low, high = row["spread"]
    return "wide" if row["ratio"] and high > WIDE * low else f"{short(low)}..{short(high)}"


def cells(row):
    """Everything about a row but its name."""
    if row["value"] is None or row["failed"]:
        return ["-", "-", "-", "-", row["target"] or "-", verdict(row)]
    spread = spread_text(row)
    reference = f"{row['reference']} {short(row['reference_value'])}" if row["reference"] else "-"
    ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
    return [f"{short(row['value'])} {row['unit']}", reference, ratio, spread, row["target"] or "-", verdict(row)]


TITLES = ["ROW", "WEIR", "REFERENCE", "RATIO", "SPREAD", "TARGET", "VERDICT"]
WIDTHS = [28, 21, 20, 7, 15, 10, 0]


def line(texts):
    return " ".join(f"{text:<{width}}" for text, width in zip(texts, WIDTHS)).rstrip()


def text(rows):
    lines = [line(TITLES)]
    group = said = None
    for row in rows:
        if row["id"].split(".")[0] != group:
            group = row["id"].split(".")[0]
            lines.append("")
        lines.append(line([row["id"], *cells(row)]))
        if row["failed"] and row["failed"] != said:
            lines.append(f"    {row['failed']}")
        said = row["failed"]
    return "\n".join(lines)


def summary(rows):
    count = {word: sum(row["verdict"] == word for row in rows) for word in ("met", "missed", "client-bound")}
    failed = sum(bool(row["failed"]) for row in rows)
    return (f"{len(rows)} rows: {count['met']} targets met, {count['missed']} missed, "
            f"{count['client-bound']} bound by the client, {failed} not measured")


def markdown(rows):
    lines = ["| " + " | ".join(["row", "what"] + [title.lower() for title in TITLES[1:]]) + " |",
             "| --- " * (len(TITLES) + 1) + "|"]
    for row in rows:
        lines.append("| " + " | ".join([f"`{row['id']}`", row["what"], *cells(row)]) + " |")
    return "\n".join(lines)
