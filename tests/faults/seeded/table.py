"""Makes the tables of docs/seeded-runs.md from the figures that seeded runs have written.

python3 tests/faults/seeded/table.py FIGURES.tsv
"""

import collections
import statistics
import sys

RUN = ["calls", "acknowledged", "refused", "not done", "unknown", "events", "on the bus twice", "ended", "findings", "lost"]


def main() -> None:
    runs, faults = collections.defaultdict(list), collections.defaultdict(list)
    for line in open(sys.argv[1], encoding="utf-8"):
        kind, topology, seed, *rest = line.rstrip("\n").split("\t")
        if kind == "run":
            runs[topology].append((int(seed), [int(count) for count in rest] + [0] * (len(RUN) - len(rest))))
        else:
            fault, *figures = rest
            backend = topology.replace("_three_nodes", "").replace("_one_node", "").replace("_three_pinned_nodes", ", pinned")
            faults[fault, backend].append([float(figure) for figure in figures])

    print("| topology | seeds | runs | " + " | ".join(RUN) + " |")
    print("| --- " * (len(RUN) + 3) + "|")
    for topology, of_topology in sorted(runs.items()):
        seeds = sorted(seed for seed, _ in of_topology)
        totals = [sum(counts) for counts in zip(*(counts for _, counts in of_topology))]
        cells = [topology.replace("_", " "), ", ".join(map(str, seeds)), len(of_topology), *totals]
        print("| " + " | ".join(map(str, cells)) + " |")

    print()
    print("| fault | backend | times | it lasted, s | no node took a write for, s | every node took writes again after, s | unknown outcomes |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for (fault, backend), figures in sorted(faults.items()):
        lasted, everywhere, after, unknown = zip(*figures)
        spread = lambda values: f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"
        print(f"| {fault} | {backend.replace('_', ' ')} | {len(figures)} | {spread(lasted)} | {spread(everywhere)} | {spread(after)} | {sum(unknown):.0f} |")


main()
