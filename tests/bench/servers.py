"""SSH servers on loopback until standard input is closed: prints the first one's public host key and all ports."""

import asyncio
import sys

import asyncssh


async def serve(count: int) -> None:
    keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(count)]
    acceptors = [
        await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[key],
            kex_algs=["curve25519-sha256", "curve25519-sha256@libssh.org"],
        )
        for key in keys
    ]
    public = " ".join(keys[0].export_public_key().decode().split()[:2])
    sys.stdout.write("\t".join([public, *(str(acceptor.get_port()) for acceptor in acceptors)]) + "\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
