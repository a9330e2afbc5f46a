"""A thousand histories of a cluster on SQLite, some on each server, and what a failure prints."""

from __future__ import annotations

import re
import zlib
from collections import Counter, deque
from typing import Any

import pytest

from replay.activity import ActivityConsumer
from replay.log import Log, Move
from replay.run import Run
from replay.server.proto.values_pb2 import Failure
from replay.signal import Matcher
from replay.workflow import WorkflowConsumer
from tests.simulation.backend import opened
from tests.simulation.faults import AT_CALLS
from tests.simulation.plan import Action, Plan
from tests.simulation.plans import (
    ENDINGS_FROM,
    GATHERS_FROM,
    PRUNES_FROM,
    SHARES_FROM,
    draw,
    from_token,
    readable,
    token,
)
from tests.simulation.program import DONE, FOREVER, Cancelling, Facts, Op, Program, predict
from tests.simulation.run import many, once, quiet, sweep
from tests.simulation.world import HAPPENINGS, simulate

HISTORIES = 100
SEEDS = [0, 100, pytest.param(200, marks=pytest.mark.slow)]
SEEDS += [PRUNES_FROM + ENDINGS_FROM, ENDINGS_FROM]

#: These find what a transaction is for; the others are for a longer test, and without a server.
SOON = ("committed", "undone", "killed within")

PROGRAM = Program(
    ("n", "r1"),
    (
        (Op("call", ("a",)), Op("gather", ("a", "b")), Op("sleep", ms=400)),
        (Op("signal", ms=0, signal=1), Op("signal", ms=FOREVER, signal=0), Op("output", ("o",))),
    ),
)
BUSY = (Action("begin"), *[Action("round")] * 6, Action("signal", n=10), Action("time", n=400))


@pytest.mark.parametrize("seed", SEEDS)
def test_sqlite(seed: int) -> None:
    """G1, L1, L2, L5, L6, L7, R1 to R8, R10, R11, A1, A2, A4, A5, S1 to S5, O1, O2, H2: whatever
    happens to a cluster, its runs leave what plain Python predicts, and nothing is done twice."""
    total: Counter[str] = Counter()
    with opened("sqlite://") as backend:
        many(backend, "sqlite://", seed, HISTORIES, total)
    assert total["histories"] == HISTORIES
    assert {each for each in HAPPENINGS if each.startswith("at a call")} <= {*total}


def test_starts_that_gather() -> None:
    """L10, R1: whatever happens to a group, each start in it has an answer, and it is right."""
    total: Counter[str] = Counter()
    with opened("sqlite://") as backend:
        many(backend, "sqlite://", GATHERS_FROM, HISTORIES, total)
    assert total["histories"] == HISTORIES
    assert total["starts gathered"] > HISTORIES // 2


@pytest.mark.parametrize("seed", [SHARES_FROM, SHARES_FROM + PRUNES_FROM + ENDINGS_FROM])
def test_workers_that_share(seed: int) -> None:
    """H2, H3, L7: whoever joins, leaves, hangs or dies, each shard has one owner, in the end the

    workers have equal shares, and their runs leave what plain Python predicts.
    """
    total: Counter[str] = Counter()
    with opened("sqlite://") as backend:
        many(backend, "sqlite://", seed, HISTORIES // 2, total)
    assert total["histories, shared shards"] == HISTORIES // 2
    assert {"worker joins", "worker leaves", "shared shards changed"} <= {*total}


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *((kind, mode) for kind in SOON for mode in ("embedded", "served")),
        *(pytest.param(k, "embedded", marks=pytest.mark.slow) for k in AT_CALLS if k not in SOON),
    ],
)
def test_an_outage_at_each_call(mode: str, kind: str) -> None:
    """G1, L6, L7, R1, R2, A1, S1, S2: something happens at each statement and call in turn."""
    total: Counter[str] = Counter()
    with opened("sqlite://") as backend:
        sweep(backend, "sqlite://", mode, kind, total)
    assert total["histories"] >= 30


@pytest.mark.one_server
def test_url(url: str) -> None:
    """The same promises, where locks, ids and transactions that stay open are a server's."""
    with opened(url) as backend:
        many(backend, url, 1000, 10, Counter())
        many(backend, url, PRUNES_FROM + ENDINGS_FROM + 1000, 5, Counter())
        many(backend, url, SHARES_FROM + 1000, 3, Counter())


def test_busy(url: str) -> None:
    """R2, R6, S3: two histories in one database: the second finds nothing of the first."""
    plan = Plan((PROGRAM,), BUSY)
    with opened(url) as backend:
        first, second = (once(backend, plan, url) for _ in range(2))
    assert first.audit.by_key.keys() == second.audit.by_key.keys()


def test_failure_tells_how_to_repeat_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """L6: a cursor stored without the events that follow from it is found, and said readably."""
    commit = Log.commit

    def without_events(log: Log, events: list[object], move: Move | None = None) -> list[bool]:
        keep = [] if move is not None and move.consumer.startswith("activity") else events
        commit(log, keep, move)  # type: ignore[arg-type]
        return [True] * len(events)

    monkeypatch.setattr(Log, "commit", without_events)
    with opened("sqlite://") as backend, pytest.raises(AssertionError, match="L6: ") as caught:
        many(backend, "sqlite://", 0, 50, Counter())
    whole, history, command = caught.value.__notes__
    assert re.search(r"./dev simulate --seed \d+ --histories 1$", whole)
    assert "run n/" in history
    assert len(history.splitlines()) < 8  # it has been made small
    plan = from_token(command.split()[-1])
    assert readable(plan) in history
    with opened("sqlite://") as backend, pytest.raises(AssertionError, match="L6: "):
        once(backend, plan, "sqlite://")


#: Histories that failed once, as words.
FAILED = {
    # The claim of a name by lease commits, but its outcome is unknown: nobody could claim it again.
    "unknown claim": (
        "eNplTb0OgjAQLooanZzU0U0mEhcHN1cJkVdoECxJoaYcccUBp9s8E5_SxRewBePiLffd93Nf7T7erBuc"
        "QVJC6ZdZXkkOmSr8i9LySOhGkhd0Jw8Xf5azVifNc8JR9EV3Qqcg7Ok13Uj0sXc4t1k35lIajVNDAQsY"
        "0NWgxpjs9gTD4S62P1v3QKuqOFLgBAwZWa-YGTbllQQbH-NEqhKWPIVE_3QXsjwxcvjcisWXFHPb1p1A"
        "4XS1r1-btt3_APo8X9o="
    ),
    # A run ends by the response of other shards, while its request is still parked by the old ones.
    "parked beyond the end": (
        "eNpljz0OwjAMhVMosDIhDoDUTpVYQGJjpUJwhUBDE5GmVRKE2GCAyVuNxCk5A21A_Agvtp-_Z8tH_zr2"
        "iAvoWWasiYzIdpJakaton2uZIPhLSRWWGEL_Dyl0nmqaIXSWr6pE8BRCQw_xgrwJjUXhvP6aSlnNKJ4x"
        "JjGxeKqqcwXVOeQE2tN1vfNJG8uKmvOAYI3yXgitFUuFcm7ef4sbSbcHh35E34qMVdr8Nvkidb5TCcbe"
        "t72jmeFUJ78L-ODnCA8-rcV5N5gd7yP3QfQA8MB0kA=="
    ),
    # Two attempts are due within a millisecond, and time went on to the first only.
    "due in between": (
        "eNprYJn6kQECekRLUotLivWKM3NLcxJLMvPz9ApyEvOm9LAEgKjJUzR6JDBVFOWnFyXmTulhD4CyJk_p"
        "YQRqYioymtI2JYO5h8m_AKyXLT2xJCO1CCibOCWDp22KN4M3Q8mUximtQNgGpjMYetgck0HGgjWwpuUk"
        "ZleC1DH1MEwBKc0QA4ompaZn5oFElTIk4IJF-"
        "aV5KSBBAYhgO5Dt-4K5hzU3syIVKMHkxcDgwOBrUNrF-iCm9AHYYj0AAKFehA=="
    ),
    # The server falls in the middle of a step, which goes on with the next one.
    "two servers in a step": (
        "eNplj7tOAzEQRb1vCQESCKSkANpNsxIdJbRYSFH-YElMvML7kO1FlFAkIDQNylDwh3wG4zwX4cL2XN9z"
        "Z_wSfn16bLng1ApjTWaKslW5Leoqa1ReIYRDdywwhd5_h66nOi8RkuH6tkDwCPL1Jc5xMJjT_ooyAq9E"
        "mZAyWwtyH_xR1_OGqWQQ34xd8LJd9JC3yiJn3Ie4yVsjDFoH91IIjRWNezoEthFln2qKaKtJXYmtNboX"
        "06Jy3j15vrGeUen9LQ-"
        "2JSGtNtTZ40cdUTw3Qrmc4x3Y5wFPIH4slBIT3MUF_KJD6ppmcuTJSnSfuvsJIDZCPxHH_VvGrmn4j-"
        "jqe_bOnCf7BdOrkqw="
    ),
    # The signals that let all runs end had the name of one that was sent.
    "last signals": (
        "eNprYJn6kAECekRLUotLivWKM3NLcxJLMvPz9ApyEvOm9LAEgKjJUzR6JDBVFOWnFyXmTulhD4CyJk_p"
        "YQRqYioynNI2JYO5h8m_AKyXrTgzPS8xZ4qm7x1Wb8aSKY1TMrg0Mrg1u1gZnnCHMEGE2qa0AnEjkMxg"
        "6GFzTAbZAdKdwe3N6K3awzAFrE8MwpfPEIfo8Wb0anhnxtDDkZqblJqSkpoyxZvJi4HBgcGboYv1tgTv"
        "SQaQOj0AXJlVrw=="
    ),
    # A process dies while it reads a large message of a history.
    "killed in a replay": (
        "eNp9Uc9OFDEY7-"
        "zuLLoohshGQI0mmjh72YSLV_ACZnuQEE7cumyZb9zudDPtHLjBgSEh3436KD4IiY_g2YsPIG0jO1OIzq"
        "XT7_c3X8863762if-wr7nSaqiyWSmYzmQ-nAuWG-zsu-PaJLj-kFHItGAzg0v7f_-"
        "uDUZW1DrYMpWBNra-zL02FqxIuRmMbv5sE0q0OTfQS7ArSz0vtRUxc2FoE0mZBl54BNYwGpvLBX5puZX"
        "jxdDFVuGiEquB5Xv2sALPAldYwUjeDzoGKRW3IbBWhYjK0pwJM7iKyc_lwxaNHKI9FivB-"
        "dwM6H_T4P1Fo_SDkRsk0Id-nVtZXuXPBAh2Px27PfsNdpS2gTSiPSTGq3dtjRNWCu3UbeyW-UTm_A4Da"
        "rmPsSek0m_Ziba7XKgKablO9Qo-"
        "11aCTU_dMFoM4cB6fGhwxjzNcsd5XnOOLGejvlLngDGwPFWm9iH0ZdOW0NXw-rRpSOiLOnSp4ApY4fuS"
        "ULQZttgMi78LS_XwyTQTgk_Cbfi4NzV1L0i314i-_mfVvbqEe4XR2a-"
        "PBB_x2ZhPJtw2jkaE7NjaV_H36e8f_oWHt8mgOlQ="
    ),
    # An owner renews its lease just when another process takes the name for expired.
    "renewed in time": (
        "eNpljTsKwkAQhie6MVZqI4itTWxSWFppawh4hdWsJpAX2U2vghYynSN4Hy9j6w3c9YGCW8zj45t_N-zc"
        "seD5sKuEVNKTcVolXMV55hUJzwjZ3LQTudj7N8p8XfKU0Jm_pxOhpfdaOaIDDfe6bGlPbgTYmC7NzTOJ"
        "SSUK8i2_iUBKK1HLRbvMqywkH3wWdT6QqTgV2gwu4y-"
        "0F2IdZ8bs_8AVrxJlQm1sFLySQn6io7amzkvVBgS3OjZFuhBhKPSH1gxgAoE7ONq7e3gFo3kPPCdmDA="
        "="
    ),
    # A dead client told its server that it hangs up.
    "words of the dead": (
        "eNprYJn6gQECekRLUotLivWKM3NLcxJLMvPz9ApyEvOm9LAEgKjJUzR6JDBVFOWnFyXmTulhD4CyJk_p"
        "YQTymYoMp7RN0WwFEo1TWqdoZDD0sDkmg_SATWItyi_NS5nizeAt38MwpQSoJoMPKJqWWJpTMsWb2Zu9"
        "h60gsbQ4tRghl1RaVFwC0sGVIQATZMnOzMkBiTH3cGYk5qTp5hek5oG1lEzxFVD3fcHcw5qbWZEKtIkR"
        "yPHVUPZ6ZTutBKRADwBy8V6j"
    ),
    # A server that stood still in a call noticed within it that a client was gone.
    "noticed while it stands still": (
        "eNplkcFLwzAYxdOu3ZgggiiIHhQVNg8ORdhVvS6Iu3ozbmkTlqaladHd5sEeJAdh0b_Ov8GjZ790Y-"
        "2wPaR5eb_3PZqZ93nlovLRuxlVmeopHuWCZDyWvUQQabQ3tMvcdPXef0cahymJjG4Nl19zox2A3PTSFI"
        "Y1tHuflGxT8VASYc7uPhyMMvNq3uAtYGW-diLDWmDf6GpvRISADAKnGC2cVveVoDQB_NtfiMUSL0yXId"
        "28HdlC5ShvTElgsINdjUzJHwOfxrkc28gOO12JT3mqMivuVGIrpYISRW1CzeupDObjBt6q8YEgk6nl3X"
        "ooDbm09MlKZH3wHK7NUIykZZ-GbjMigvM4obKqG5BcQDMXI7054ULQ8dEzzxhfWdgFdGlXEzprddk1nD"
        "raZ0SGytRbbFcem7Bf3zr4YLG1_2Qw--kj7Uf8hUJPZ4DQDdzHu__4-_BV3kDvD2ImzPc="
    ),
    # An iteration that ended in the same step was forgotten, and a cancel ended it once more.
    "terminated at its end": (
        "eNpljD0OwjAMRlMovxNCQmKGhS6VuAGsREhcIbSGRmpTlKYjEgzA4g1zQhYGDsBIUmDCi63P730H__Zk"
        "n8GBgcIUYSGzMhVG5ircpUIR-iu3rjTB4T-h860WGWFr9b0c51mrpqd0piAILva5ETItNRDWQcVk6Egn"
        "Shg255FrqZzGGrZSEWe8haxCkp5NdV5ag3t8lPR_YTMSKoKUeI13sWNAZ1IJA5V0sQ3LRx3bkK0hjsG5"
        "C8ZmbDkZL4rXfe-g8A3S_1zE"
    ),
    # The same, and the cancel was not passed on.
    "cancelled at its end": (
        "eNprYJmqz8gABj2iJanFJcV6xZm5pTmJJZn5eXoFOYl5U3pYAkDU5CkaPRKYKory04sSc6f0sAdAWSB1"
        "jEABpiKjKW1TNDXbpvSwFaUWl-aUAMXy86aUTGmcksGqkcEGVGEIVqHZDtSelpiZU1qUOiWDG0lBEFhB"
        "65QMrh7m1LwUsN72KRoZDD1sjskg-8G2sRbllwIlvRm9lXsYIObLAEWTUtMz86Z4M3jzZshBBTMUgYrY"
        "4dwetuTEvOTUnCneTN6iENESoDFeDe_MGHo4UnOTUlNSUkEGezEwODD4aih3sS7i3_6GAaRQDwAbT3IZ"
    ),
    # A run is terminated while it restarts, and its next iteration is cancelled before that.
    "terminated after a cancel": (
        "eNplkLFOwzAQhu00SYEJBqRuXZBIlyAYmGFtVNFXcJNTHclxItvZy0CnGxAcr8kz4DitKsAefP7uv_-3"
        "vIu_PjgLC68dWGdzWze9Eq5udd4poQnj9XB8Uoaz_wrTbo1oCKfrQzXouJ-KzD3tSU4weukCjEuhFCEX"
        "9EYFK5ijV1_JiwwTqwA6Wqze-Yg9lFen695vTA3YXjlv3GoKoiSTqY958N2FN5oho1GdSYbpczk8MCQn"
        "G9jWOoTKeRi98dC0va7-wFi2amQ4Mf0hx_O0FLoERUXkO-cOTFNr4eDYl9kvG3k36E6uUwMKhIXBmI_Y"
        "0erydrn7fmR4Bs0Gqgp8Ll8y9sSOn5P_ACr2lM0="
    ),
    # A worker is killed while a prune has all cursors stored; nobody had looked at its last step.
    "killed during a prune": (
        "eNpljD1OAzEQRu1kQxCiCAiklEg0C8UWKaihjRUpV3Di2awVr73yTx-KUFk0DPfiJJwBe0FbhGlm9OZ9"
        "36H4XFDST7z14LyrnGyD4l4aXXWKa4zFOq8PLOP8v2HNzvIW43T9d2WPptTILvANH47pVXOpgoXEjEaP"
        "r3jEsiHx7GWbO_rExJqgBTLCbiLpnWaW6AZ2Umc6a64HWPOgfIbjeLmXSoG447UHO8QK56HLQjGkmjmj"
        "jMYLZZw_sSedDRqQjVZf018_ldPl4fuJxHNoNyAEiEwIeSar8n75-H6lslb9AGlzcrU="
    ),
    # The table of runs reads the end of a failed run again, and not the failure in front of it.
    "a failed run ends again": (
        "eNplj0tOwzAQhp00Dwkq6KKVYNF1u6ooSF2Xba2IXsEJbh0pL_khYEURomy8QGK4DYfgAJyBM2CniKSQ"
        "KLLzz_f_M7Px3qYuqh89kFRIMRFprjIi07KYVBkpQHtLe7zCWJ_8J3i55iQHHS5_bpZzjMvlU9gC62j3"
        "qqrFIGFlKShoJzYfMUWMMJLwAE_m1eGKpJnipo7Aisw3OTmwcAtjdjBmh6zLuo3HSLoj-Z2JWhl7W_Y4"
        "SSiwIRvqQKTrgmTwDNGnj51fIiFZBqzb-KQdIeBUqEyC7tDiuh7C9kY6uEzssvUWfkzXaVH7WL_OOzci"
        "L5Vx7InsAju43zCekLSySK9BZgYZtWIqrgoK2I0-wjaE8FELihUX0gYNG2aO3XbrP7824XivGr04TaJZ"
        "-ybdjX-6UyVEvdFi8zVD2s_TW2pqzgKhOYrO1OLx_n1gock34HTMDw=="
    ),
}


@pytest.mark.parametrize("name", FAILED)
def test_a_history_that_failed_once(name: str) -> None:
    """L7, R4: it comes to its end."""
    with opened("sqlite://") as backend:
        once(backend, from_token(FAILED[name]), "sqlite://")


def test_a_seed_draws_the_same_plan_for_ever() -> None:
    """A seed that found something once is worth something later."""
    words = [readable(draw(seed)) for seed in range(50)]
    assert zlib.crc32("".join(words).encode()) == 596809934


def test_plan_as_a_word() -> None:
    """A plan survives its way to the command line and back."""
    plan = Plan((PROGRAM,), BUSY, max_cached=0)
    assert from_token(token(plan)) == plan


def shown(program: Program, facts: Facts) -> list[str]:
    """What the oracle says of a run."""
    lines = predict(program, facts).lines
    return [f"{line.type} {line.key.removeprefix('n/w/r1/')} {line.message}" for line in lines]


def test_plain_python_of_endings() -> None:
    """E1, E3, E8: a call that failed and was caught, the first of two, a patch, a result."""
    ops = (
        Op("try", ("f",)),
        Op("first", ("signal for ever", "a"), signal=1),
        *[Op("patch", ("x",))] * 2,
    )
    program = Program(("n", "r1"), (ops,), end="result")
    key = "n/w/r1/0"
    facts = Facts(
        ids={key: 1, f"{key}/f/0": 3, f"{key}/a/0": 6, f"{key}/p/0": 9, f"{key}/p/1": 11},
        failed={f"{key}/f/0": ("Bug", "a bad day", 3)},
        patched={f"{key}/replay_patch/x"},
    )
    assert shown(program, facts) == [
        "RUN_CREATED 0 1",
        "ACTIVITY_REQUEST 0/f/0 1",
        "ACTIVITY_RESPONSE 0/f/0 ('Bug', 'a bad day', 3)",
        "ACTIVITY_REQUEST 0/replay_signal/1:0 for ever",
        "ACTIVITY_REQUEST 0/a/0 34",
        "ACTIVITY_RESPONSE 0/a/0 239",
        "RUN_OUTPUT 0/replay_patch/x True",
        "ACTIVITY_REQUEST 0/p/0 293",
        "ACTIVITY_RESPONSE 0/p/0 304",
        "ACTIVITY_REQUEST 0/p/1 304",
        "ACTIVITY_RESPONSE 0/p/1 315",
        "RUN_OUTPUT 0/replay_result/0 315",
        "RUN_COMPLETED 0 None",
    ]


CALLS = ((Op("call", ("a",)), Op("call", ("b",))), ())


@pytest.mark.parametrize(
    ("cancelled", "at", "ends"),
    [
        ("", 4, ["RUN_OUTPUT 0/replay_failure/0 ('cancelled', 'why', 0)", "RUN_COMPLETED 0 None"]),
        ("end", 4, ["RUN_OUTPUT 0/replay_result/0 8", "RUN_COMPLETED 0 None"]),
        (
            "on",
            4,
            [
                "RUN_OUTPUT 0/replay_cancel/0 True",
                "RUN_COMPLETED 0 None",
                "RUN_CREATED 1 21",
                "RUN_OUTPUT 1/replay_result/0 21",
                "RUN_COMPLETED 1 None",
            ],
        ),
        (  # it came when the iteration had its last response already
            "",
            6,
            [
                "RUN_COMPLETED 0 None",
                "RUN_CREATED 1 11",
                "RUN_OUTPUT 1/replay_result/0 11",
                "RUN_COMPLETED 1 None",
            ],
        ),
    ],
)
def test_plain_python_cancelled(cancelled: str, at: int, ends: list[str]) -> None:
    """E7: a cancel comes out of the wait that it falls in, or of none."""
    program = Program(("n", "r1"), CALLS, end="result", cancelled=cancelled)
    ids = {"n/w/r1/0": 1, "n/w/r1/0/a/0": 3, "n/w/r1/0/b/0": 5}
    facts = Facts(ids=ids, cancels={"n/w/r1/0": [Cancelling(at, "why", terminate=False)]})
    lines = shown(program, facts)
    assert lines[:4] == [
        "RUN_CREATED 0 1",
        "ACTIVITY_REQUEST 0/a/0 1",
        "ACTIVITY_RESPONSE 0/a/0 8",
        "ACTIVITY_REQUEST 0/b/0 8",
    ]
    assert [line for line in lines[4:] if line != "ACTIVITY_RESPONSE 0/b/0 11"] == ends


def _patched_anew(run: Run, name: str) -> bool:
    history = run._history
    known = history is not None and ("replay_patch", name) in history.outputs
    fresh = not known and (history is None or not history.requests)
    if fresh and name not in run._patches:
        run._patches[name] = True
        run._mark("replay_patch", True, name)
    return known or fresh


def _two_results(run: Run, result: Any, end: BaseException | None) -> None:
    if end is not None:
        run._mark("replay_failure", Failure(kind="sad", text=str(end)))
    run._mark("replay_result", result)


@pytest.mark.parametrize(
    ("where", "name", "broken"),
    [
        (WorkflowConsumer, "_pass_on", lambda *_: None),
        (Matcher, "_free_late", lambda *_: None),
        (ActivityConsumer, "due_when_claimed", lambda *_: True),
        (Run, "patched", _patched_anew),
        (Run, "_conclude", _two_results),
    ],
    ids=["cancel lost", "signal lost", "attempts burnt", "patched anew", "two results"],
)
def test_a_broken_library_is_found(
    where: type, name: str, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E1, E3, E7, E8, E9: what each of these promises costs is not spent for nothing."""
    monkeypatch.setattr(where, name, broken)
    plans = map(draw, range(600_970, 601_370))
    with opened("sqlite://") as backend, quiet(), pytest.raises(AssertionError):
        deque((simulate(backend, plan) for plan in plans), maxlen=0)


def test_plain_python() -> None:
    """The oracle by hand: a restart, an await that timed out, and one that took a signal."""
    facts = Facts(signals={"n/w/r1/1/replay_signal/1:0": DONE, "n/w/r1/1/replay_signal/0:0": 5})
    assert shown(PROGRAM, facts) == [
        "RUN_CREATED 0 1",
        "ACTIVITY_REQUEST 0/a/0 1",
        "ACTIVITY_RESPONSE 0/a/0 8",
        "ACTIVITY_REQUEST 0/a/1 8",
        "ACTIVITY_REQUEST 0/b/0 8",
        "ACTIVITY_RESPONSE 0/a/1 57",
        "ACTIVITY_RESPONSE 0/b/0 11",
        "ACTIVITY_REQUEST 0/replay_sleep/0 0:00:00.400000",
        "ACTIVITY_RESPONSE 0/replay_sleep/0 done",
        "RUN_COMPLETED 0 None",
        "RUN_CREATED 1 79",
        "ACTIVITY_REQUEST 1/replay_signal/1:0 0:00:00",
        "ACTIVITY_RESPONSE 1/replay_signal/1:0 done",
        "ACTIVITY_REQUEST 1/replay_signal/0:0 115 days, 17:46:40",
        "ACTIVITY_RESPONSE 1/replay_signal/0:0 5",
        "RUN_OUTPUT 1/o/0 5080",
        "RUN_COMPLETED 1 None",
    ]
