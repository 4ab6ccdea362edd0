"""Compares the instruction counts of a run with those of counts.toml, or writes that file.

usage: counts.py [--update] RUSTC < RUN     RUSTC: what `rustc -vV` prints; RUN: the lines of JSON of gungraun

Exit code 0: no count is above its bound. A lower count is no failure, and is reported.
"""

import json
import pathlib
import sys
import tomllib

COUNTS = pathlib.Path(__file__).with_name("counts.toml")
UPDATE = "benches/instructions/run.sh --update"
# How much a count may differ from the recorded one, in percent. Runs of one build differ by less than one.
BOUND_PERCENT = 10
# Another compiler generates other code.
BOUND_OF_ANOTHER_COMPILER_PERCENT = 15

HEAD = f"""\
# The instructions of each bench: of 100 operations, see main.rs. Written by `{UPDATE}`.

# A count holds for a compiler.
rustc = '''
"""


def counted(run):
    """The count of each bench, by its name."""
    counts = {}
    for line in filter(str.strip, run):
        bench = json.loads(line)
        (profile,) = bench["profiles"]
        counts[bench["function_name"]] = profile["data"]["total"]["metrics"]["Ir"]["values"]["new"]
    return counts


def write(rustc, counts):
    lines = "".join(f"{name} = {count}\n" for name, count in sorted(counts.items()))
    COUNTS.write_text(f"{HEAD}{rustc}\n'''\n\n[instructions]\n{lines}")
    print(f"{len(counts)} counts are written to {COUNTS.name}")


def compare(recorded, rustc, counts):
    """Prints a table; returns whether no count is above its bound."""
    bound = BOUND_PERCENT
    if recorded["rustc"].strip() != rustc:
        bound = BOUND_OF_ANOTHER_COMPILER_PERCENT
        print(f"WARNING: the recorded counts are those of another compiler, so the bound is {bound} %; record those of this one with {UPDATE}")
        print(f"  recorded: {described(recorded['rustc'])}\n  now:      {described(rustc)}")
    known = recorded["instructions"]
    passed = True
    print(f"{'bench':<20} {'recorded':>12} {'now':>12} {'change':>9}")
    for name in sorted(known | counts):
        before, now = known.get(name), counts.get(name)
        if before is None or now is None:
            verdict = f"FAILED: not in {COUNTS.name}; {UPDATE}" if before is None else f"FAILED: did not run; {UPDATE}"
            print(f"{name:<20} {before or '-':>12} {now or '-':>12} {'':>9}  {verdict}")
            passed = False
            continue
        change = (now - before) / before * 100
        verdict = ""
        if change > bound:
            verdict = f"FAILED: more than {bound} % above"
            passed = False
        elif change < -bound:
            verdict = f"improved: update the file with {UPDATE}"
        print(f"{name:<20} {before:>12} {now:>12} {change:>+7.2f} %  {verdict}".rstrip())
    return passed


def described(rustc):
    """The release and the host."""
    lines = rustc.strip().splitlines()
    host = next((line.removeprefix("host: ") for line in lines if line.startswith("host: ")), "unknown host")
    return f"{lines[0]}, {host}" if lines else "unknown"


def main():
    *options, rustc = sys.argv[1:]
    rustc = rustc.strip()
    counts = counted(sys.stdin)
    if not counts:
        sys.exit("no bench has run")
    if options == ["--update"]:
        write(rustc, counts)
    elif not compare(tomllib.loads(COUNTS.read_text()), rustc, counts):
        sys.exit(f"if the change is meant, record the counts with {UPDATE}")


if __name__ == "__main__":
    main()
