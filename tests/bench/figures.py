# SPDX-License-Identifier: MIT
"""What the HTTP bench reports: one row a figure, made from the raw results, some with the router's aim and bound.

Raw results are results[what][peer] = one dict a round, as http_load printed it; None for a load that failed.
"""
import statistics
from collections import namedtuple

DIRECT = "direct"
ROUTER, PEER = "megalith", "haproxy"
RATIO, BOUND = "ratio", "bound"  # the router over HAProxy; or the router's own worst round

# added: less the direct way's figure of the same round. aim, must: None where nothing is asked for.
Figure = namedtuple("Figure", "label unit digits what value added kind aim must", defaults=(False, None, None, None))


def key(name, scale=1.0):
    """http_load says -1 where there was nothing to measure."""
    return lambda result: None if result[name] == -1 else result[name] * scale


def cpu_per_10k(unit):
    return lambda result: 1e4 * result["cpu_s"] / max(result[unit], 1)


def request_figures(bodies):
    aims = {"1 KB": (1.0, 1.25), "100 KB": (0.6, 0.75)}
    loads = [(body, connections) for body in bodies for connections in (1, 64)]
    for body, connections in loads:
        yield Figure(f"CPU per 10k requests, {body}, {connections} conn.", "s", 3, f"requests {body} {connections}",
                     cpu_per_10k("count"), False, RATIO, *aims[body])
    for body, connections in loads:
        yield Figure(f"requests/s, {body}, {connections} conn.", "", 0, f"requests {body} {connections}",
                     lambda result: result["count"] / result["seconds"])
    for body in bodies:
        yield Figure(f"added p50, {body}, 1 conn., one CPU", "µs", 1, f"latency {body}", key("p50_us"), True,
                     RATIO, 1.0, 1.25)
        yield Figure(f"added p99, {body}, 1 conn., one CPU", "µs", 1, f"latency {body}", key("p99_us"), True)


def stream_figures(counts, many):
    for count in [*counts, many]:
        yield Figure(f"CPU per 10k tokens, {count} streams", "s", 3, f"tokens {count}", cpu_per_10k("tokens"), False,
                     RATIO, 0.95, 1.1)
    for name, words in (("delay", "token delay"), ("ttft", "TTFT")):
        for count in counts:
            yield Figure(f"added {words} p50, {count} streams, one CPU", "µs", 1, f"delay {count}", key(f"{name}_p50_us"),
                         True, RATIO, 1.0, 1.25)
            yield Figure(f"added {words} p99, {count} streams, one CPU", "µs", 1, f"delay {count}", key(f"{name}_p99_us"),
                         True)
        for part in ("p50", "p99"):
            yield Figure(f"{words} {part}, {many} streams", "µs", 1, f"tokens {many}", key(f"{name}_{part}_us"))


def other_figures(many):
    yield Figure(f"memory per idle stream, of {many}", "KiB", 2, "idle", key("kib"), False, BOUND, 4.6, 9)
    yield Figure("memory at start, RSS", "MiB", 2, "start", key("mib"), False, BOUND, 6, 15)
    for what, when in (("leave amid", "amid the stream"), ("leave before", "before the first token")):
        yield Figure(f"client leaves {when}, node knows: p50", "ms", 2, what, key("p50_us", 1e-3), False, BOUND, 1, 1)
        yield Figure(f"client leaves {when}, node knows: max", "ms", 2, what, key("max_us", 1e-3))
        yield Figure(f"client leaves {when}: missed", "", 0, what, key("missed"), False, BOUND, 0, 0)


def values_of(figure, results, peer):
    """One a round; None where there is none."""
    values = plain_values(figure, results, peer)
    if not figure.added:
        return values
    pairs = zip(values, plain_values(figure, results, DIRECT))
    return [None if value is None or direct is None else value - direct for value, direct in pairs]


def plain_values(figure, results, peer):
    rounds = results.get(figure.what, {}).get(peer, [])
    return [None if result is None else figure.value(result) for result in rounds]


def cell(figure, results, peer):
    values = [value for value in values_of(figure, results, peer) if value is not None]
    if not values:
        return "-"
    return spread(values, figure.digits)


def spread(values, digits):
    middle, low, high = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return middle if low == high else f"{middle} ({low}..{high})"


def measured(figure, results):
    """The router's worst round; or its ratio to the other in each round, as they were measured side by side."""
    ours = values_of(figure, results, ROUTER)
    if figure.kind == BOUND:
        return [max(ours)] if ours and None not in ours else []
    pairs = zip(ours, values_of(figure, results, PEER))
    return [max(one, 0) / other for one, other in pairs if one is not None and other is not None and other > 0]


def judged(figure, results):
    """label, aim, must, measured, verdict; None where nothing is asked for."""
    if figure.kind is None:
        return None
    unit = " × HAProxy" if figure.kind == RATIO else f" {figure.unit}".rstrip()
    head = (figure.label, f"{figure.aim:g}{unit}", f"{figure.must:g}{unit}")
    values = measured(figure, results)
    if not values:
        return (*head, "-", "not measured")
    value = round(statistics.median(values), 2)
    verdict = "ok" if value <= figure.aim else "below aim" if value <= figure.must else "BELOW MUST"
    return (*head, spread(values, 2), verdict)


def notes(results):
    """What makes a figure worth less."""
    for what, peers in results.items():
        for name, rounds in peers.items():
            if None in rounds:
                yield f"{what}, {name}: failed in {rounds.count(None)} of {len(rounds)} rounds"
            rounds = [result for result in rounds if result is not None]
            errors = sum(result.get(kind, 0) for result in rounds for kind in ("errors", "lost", "malformed"))
            if errors:
                yield f"{what}, {name}: {errors} errors"
            for result in rounds:
                if result.get("tokens", 0) < 0.9 * result.get("expected", 0):
                    yield f"{what}, {name}: only {result['tokens']} of {result['expected']:.0f} tokens came"


def table(head, rows, markdown):
    if markdown:
        lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    return "\n".join("  ".join([line[0].ljust(widths[0])] + [text.rjust(width) for text, width in zip(line[1:], widths[1:])])
                     for line in [head, *rows])
