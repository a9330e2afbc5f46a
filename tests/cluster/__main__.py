"""A cluster of three database servers: its nodes are killed while runs go on, then the suite runs.

`galera` is MariaDB with Galera.  `group-replication` is MySQL with group replication in
single-primary mode.  At the end each node's log is audited, and must be that of the others.
"""

from __future__ import annotations

import argparse
import logging
import sys

from tests.cluster import galera, group

CLUSTERS = {"galera": galera.run, "group-replication": group.run}


def main() -> int:
    """Run the one that is named."""
    parser = argparse.ArgumentParser(
        prog="./dev cluster", description=__doc__, epilog="other arguments are pytest's"
    )
    parser.add_argument("kind", choices=CLUSTERS)
    parser.add_argument("--seed", type=int, default=1, help="of the siege (1)")
    parser.add_argument("--kills", type=int, default=20, help="in the siege (20)")
    options, more = parser.parse_known_args()
    logging.getLogger("replay").setLevel(logging.ERROR)
    return CLUSTERS[options.kind](options.seed, options.kills, more)


if __name__ == "__main__":
    sys.exit(main())
