"""Workers and servers killed with -9 at moments that a seed says."""

from pathlib import Path

from tests.crash.front import FrontServer
from tests.crash.siege import Siege
from tests.servers import Server, started
from tests.support import with_options


def test_l6_r2_s2_workers_are_killed_on_sqlite(tmp_path: Path) -> None:
    """A1, L1, L2, L6, L7, R2, R3, S1, S2, O1: 60 kills, and the log of a day without any."""
    Siege(f"sqlite:///{tmp_path / 'replay.db'}", tmp_path / "executed", 1).hold(kills=60)


def test_h3_l6_r2_workers_that_share_shards_are_killed(url: str, tmp_path: Path) -> None:
    """A1, H3, L1, L2, L6, L7, R2, R3: one to three workers that join, leave and are killed.

    With a lease of an hour, the shards of one that was killed wait for nothing but its lock.
    """
    siege = Siege(url, tmp_path / "executed", 7, shards=4)
    siege.hold(kills=30)
    assert siege.moves >= 10


def test_l6_r2_s2_p16_workers_and_their_server_are_killed(
    own_server: Server, tmp_path: Path
) -> None:
    """A1, L1, L2, L6, L7, P16, R2, R3, S1, S2, O1: 60 kills, some of them of the server, which is

    frozen at times too, and the log of a day without any.
    """
    siege = Siege(own_server.url, tmp_path / "executed", 3, own_server)
    siege.hold(kills=60)
    assert siege.kills["server"] >= 10
    assert siege.lost == 0


def test_g1_l6_r2_s2_workers_and_our_own_server_are_killed(url: str, tmp_path: Path) -> None:
    """A1, G1, L1, L2, L6, L7, P16, R2, R3, S1, S2, O1: the same through a server, killed as well.

    With a lease of an hour nobody waits for it: locks and connections tell who is dead.
    """
    with started(lambda: FrontServer(with_options(url, lease=3600))) as front:
        siege = Siege(front.url, tmp_path / "executed", 5, front, database=url)
        siege.hold(kills=40)
        assert siege.kills["server"] >= 5
        assert siege.lost == 0
