"""The agent's channel: answers belong to their questions, also after a time-out; nobody there is a time-out."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.lab.machines.base import AgentError, AgentTimeout
from nixops_proxmox.lab.machines.qemu.agent import AgentChannel

Answer = Callable[[dict[str, Any]], list[dict[str, Any]]]


@contextlib.asynccontextmanager
async def start_agent(folder: Path, answer: Answer, greeting: bytes = b"") -> AsyncIterator[AgentChannel]:
    """A qemu-ga of our own: answers guest-sync, and everything else with what `answer` says."""
    connections: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        writer.write(greeting)
        while line := await reader.readline():
            asked = json.loads(line.lstrip(b"\xff"))
            replies = [{"return": asked["arguments"]["id"]}] if asked["execute"] == "guest-sync" else answer(asked)
            for reply in replies:
                writer.write(json.dumps(reply).encode() + b"\n")

    server = await asyncio.start_unix_server(serve, folder / "qga.sock")
    channel = AgentChannel(folder / "qga.sock")
    try:
        yield channel
    finally:
        channel.drop()
        server.close()
        for writer in connections:
            writer.close()


def test_a_command_gets_its_answer(tmp_path: Path) -> None:
    async def go() -> Any:
        async with start_agent(tmp_path, lambda asked: [{"return": asked["arguments"]}]) as channel:
            return [await channel.call("guest-exec", {"path": "/bin/true"}, 2), await channel.call("guest-ping", {}, 2)]

    assert asyncio.run(go()) == [{"path": "/bin/true"}, {}]


def test_old_answers_and_rubbish_before_the_sync_are_skipped(tmp_path: Path) -> None:
    async def go() -> Any:
        old = b'half an answer"}\n{"return": {"pid": 7}}\n[]\n'
        async with start_agent(tmp_path, lambda _: [{"return": "mine"}], greeting=old) as channel:
            return await channel.call("guest-ping", {}, 2)

    assert asyncio.run(go()) == "mine"


def test_the_agents_error_keeps_class_and_words(tmp_path: Path) -> None:
    async def go() -> None:
        error = {"error": {"class": "CommandNotFound", "desc": "The command guest-x has not been found"}}
        async with start_agent(tmp_path, lambda _: [error]) as channel:
            await channel.call("guest-x", {}, 2)

    with pytest.raises(AgentError, match="guest-x has not been found") as caught:
        asyncio.run(go())
    assert caught.value.error_class == "CommandNotFound"


def test_after_a_timeout_the_next_answer_is_its_own(tmp_path: Path) -> None:
    def answer(asked: dict[str, Any]) -> list[dict[str, Any]]:
        return [] if asked["execute"] == "slow" else [{"return": asked["execute"]}]

    async def go() -> Any:
        async with start_agent(tmp_path, answer) as channel:
            with pytest.raises(AgentTimeout, match=r"slow: no answer within 0\.1 s"):
                await channel.call("slow", {}, 0.1)
            return await channel.call("quick", {}, 2)

    assert asyncio.run(go()) == "quick"


def test_who_gives_up_waiting_for_their_turn_does_not_disturb_the_call_in_progress(tmp_path: Path) -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def go() -> Any:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            sync = json.loads((await reader.readline()).lstrip(b"\xff"))
            writer.write(json.dumps({"return": sync["arguments"]["id"]}).encode() + b"\n")
            await reader.readline()
            asked.set()
            await release.wait()
            writer.write(b'{"return": "first"}\n')
            await writer.drain()
            writer.close()

        server = await asyncio.start_unix_server(serve, tmp_path / "qga.sock")
        channel = AgentChannel(tmp_path / "qga.sock")
        first = asyncio.create_task(channel.call("first", {}, 5))
        await asked.wait()
        with pytest.raises(AgentTimeout):
            await channel.call("second", {}, 0.05)
        release.set()
        try:
            return await first
        finally:
            channel.drop()
            server.close()

    assert asyncio.run(go()) == "first"


def test_no_socket_is_a_timeout_at_once(tmp_path: Path) -> None:
    with pytest.raises(AgentTimeout, match="guest-ping: the channel is closed"):
        asyncio.run(AgentChannel(tmp_path / "qga.sock").call("guest-ping", {}, 5))


def test_a_path_longer_than_a_socket_address_can_be_is_fine(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()

    async def go() -> Any:
        # The server binds relative to the folder, as QEMU does from its working directory.
        with contextlib.chdir(folder):
            server = await asyncio.start_unix_server(serve, "qga.sock")
        channel = AgentChannel(folder / "qga.sock")
        try:
            return await channel.call("guest-ping", {}, 2)
        finally:
            channel.drop()
            server.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = json.loads((await reader.readline()).lstrip(b"\xff"))
        writer.write(json.dumps({"return": asked["arguments"]["id"]}).encode() + b"\n")
        await reader.readline()
        writer.write(b'{"return": "there"}\n')
        await writer.drain()
        writer.close()

    assert asyncio.run(go()) == "there"


def test_a_send_tells_whether_somebody_listens(tmp_path: Path) -> None:
    async def go() -> list[bool]:
        async with start_agent(tmp_path, lambda _: []) as channel:
            heard = await channel.send("guest-shutdown", {"mode": "powerdown"}, 1)
        return [heard, await AgentChannel(tmp_path / "nobody.sock").send("guest-shutdown", {}, 1)]

    assert asyncio.run(go()) == [True, False]
