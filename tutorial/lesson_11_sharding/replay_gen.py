# Made by "typedreplay namespace.py" from that file: change it, not this one.
# fmt: off
# isort: skip_file
# flake8: noqa
# ruff: noqa
"""The namespace sharding."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator

import replay
from replay import typed

import tutorial.lesson_11_sharding.photos_pb2 as _photos_pb2

_NAMESPACE = 'sharding'


class PhotoFlow(typed.Flow, typing.Protocol):
    """The methods of the workflow photo. Has a photo developed."""

    def restart(self, message: _photos_pb2.Photo) -> typing.NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""

    def develop(self, message: _photos_pb2.Photo) -> _photos_pb2.Picture:
        """Execute the activity develop. Develops a photo."""

    def call_develop(self, message: _photos_pb2.Photo) -> typed.Call[_photos_pb2.Picture]:
        """A call of develop for `gather`, which executes it."""


class _PhotoFlow(typed.RunFlow):
    def restart(self, message: _photos_pb2.Photo) -> typing.NoReturn:
        self._ctx.restart(message)

    def develop(self, message: _photos_pb2.Photo) -> _photos_pb2.Picture:
        return self._exec(self.call_develop(message))

    def call_develop(self, message: _photos_pb2.Photo) -> typed.Call[_photos_pb2.Picture]:
        return typed.Call("develop", message)


def run_photo(client: replay.Client, run: str, message: _photos_pb2.Photo) -> bool:
    """Start a run of photo. False means that its id is used already."""
    return client.run_workflow(_NAMESPACE, "photo", run, message)


def stream_photo(
    client: replay.Client, run: str = "", **options: typing.Unpack[typed.StreamOptions]
) -> Iterator[replay.Event]:
    """The events of photo, or of one run. The options are those of `replay.Client.stream`."""
    return client.stream(_NAMESPACE, "photo", run, **options)


def handle_photo_run(event: replay.Event, fn: Callable[[str, _photos_pb2.Photo], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of photo."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "photo"), "", fn)


def register_photo(
    client: replay.Client,
    fn: Callable[[PhotoFlow, _photos_pb2.Photo], None],
    **options: typing.Unpack[typed.WorkflowOptions],
) -> replay.Consumer:
    """Run photo by `fn`. The options are those of `replay.register_workflow`."""
    typed.check_workflow(fn, "photo", _photos_pb2.Photo)

    def workflow(ctx: replay.RunContext, message: _photos_pb2.Photo) -> None:
        fn(_PhotoFlow(ctx), message)

    return replay.register_workflow(client, _NAMESPACE, workflow, name="photo", **options)


def register_develop(
    client: replay.Client, backends: _photos_pb2.Place, **options: typing.Unpack[typed.ActivityOptions]
) -> replay.Consumer:
    """Execute develop. The options are those of `replay.register_activity`."""
    # Imported here, since only a process that executes it needs this module.
    from tutorial.lesson_11_sharding.namespace import develop as function

    return replay.register_activity(
        client, _NAMESPACE, function, backends, name="develop", **options
    )


def start_replay_loops(
    client: replay.Client,
    backends: _photos_pb2.Place,
    *,
    photo: Callable[[PhotoFlow, _photos_pb2.Photo], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities under their names in the definition."""
    return [
        register_photo(client, photo, start=start),
        register_develop(client, backends, start=start),
    ]
