"""fakepve, a PVE server that nobody here wrote, with a catalogue of what PVE refuses; told what to do on its standard
input, a list in JSON for each line, and ends with it. Runs in a process of its own: nothing of it is a part of ours.
"""

import asyncio
import hashlib
import json
import ssl
import sys
import tempfile
from pathlib import Path
from typing import Any

from fakepve import FakePve
from fakepve.certs import make_cert

HOST = "127.0.0.1"


async def serve() -> None:
    pve = FakePve(host=HOST, port=0)
    pve.time_scale = 0
    with tempfile.TemporaryDirectory() as folder:
        certificate, key, _der = make_cert(folder, hosts=(HOST,))
        await pve.start(certificate, key)
        pem = Path(certificate).read_text(encoding="ascii")
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    answer({"url": pve.url, "fingerprint": fingerprint, "password": pve.password})
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        answer(obey(pve, *json.loads(line)))


def obey(pve: Any, what: str, *values: Any) -> Any:
    match what:
        case "errors":
            return pve.errors_for(*values)
        case "fail":
            method, path, error, times = values
            pve.fail(method, path, error=error, times=times)
        case "heal":
            pve.failures.clear()
        case "vmids":
            return [vm.vmid for vm in pve.vms]
        case _:
            raise ValueError(what)
    return None


def answer(data: Any) -> None:
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve())
