"""The simulated guests' SSH server by itself."""

import asyncio
import socket
from unittest.mock import Mock

from nixops_proxmox.lab.machines.simulated.body import GuestBody
from nixops_proxmox.lab.machines.simulated.sshd import SshServer, make_host_key
from tests.pace import patience


def test_it_closes_at_once_though_somebody_is_connected() -> None:
    """From Python 3.12 on, an asyncio server's end is waited for until its last connection ends."""

    async def play() -> None:
        server = SshServer(Mock(spec=GuestBody))  # nobody logs in
        await server.prepare(make_host_key("web").private)
        listener = socket.create_server(("127.0.0.1", 0))
        await server.listen(listener)
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        assert await reader.readline() == b"SSH-2.0-OpenSSH_9.9\r\n"
        await asyncio.wait_for(server.close(), patience(5))
        writer.close()

    asyncio.run(play())
