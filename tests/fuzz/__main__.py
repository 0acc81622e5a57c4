"""`make fuzz`: as many cases as asked for, shared out among the kinds, and what became of them."""

import argparse
import sys

from tests.fuzz.kinds import KINDS
from tests.fuzz.work import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--cases", type=int, default=24_000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("kinds", nargs="*", choices=[[], *KINDS], default=[])
    asked = parser.parse_args()
    names = asked.kinds or list(KINDS)
    each, num_faults = -(-asked.cases // len(names)), 0
    print(f"{'kind':<16} {'cases':>7} {'taken':>7} {'refused':>8} {'longest':>9}")
    for name in names:
        try:
            counts = run(name, range(asked.first_seed, asked.first_seed + each))
        except AssertionError as error:
            num_faults += 1
            print(f"{name:<16} {error}", flush=True)
            continue
        longest = f"{1000 * counts.longest_s:.0f} ms"
        print(f"{name:<16} {each:>7,} {counts.num_taken:>7,} {counts.num_refused:>8,} {longest:>9}", flush=True)
    return int(num_faults > 0)


if __name__ == "__main__":
    sys.exit(main())
