"""Files onto a storage: upload in multipart form, and download by the node."""

import asyncio
import hashlib
import struct
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nixops_proxmox.lab.call import Call, Routes, needs
from nixops_proxmox.lab.refusals import Refused, die
from nixops_proxmox.lab.schema.check import check
from nixops_proxmox.lab.schema.types import boolean, matching, named, one_of, text
from nixops_proxmox.lab.storage import Storage, check_file_name, normalise_file_name
from nixops_proxmox.lab.tasks import Log

routes = Routes()
CHECKSUMS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")
CHUNK = 1024**2


def content_types(call: Call) -> Any:
    return one_of("iso", "vztmpl", *(["import"] if call.cluster.release.since(8, 3) else []), optional=False)


def upload_table(call: Call) -> dict[str, Any]:
    return {
        "content": content_types(call),
        "filename": text(255, optional=False),
        "checksum": text(),
        "checksum-algorithm": one_of(*CHECKSUMS),
        "tmpfilename": text(),
    }


@routes.post(
    "/nodes/{node}/storage/{storage}/upload",
    {},
    needs("/storage/{storage}", "Datastore.AllocateTemplate"),
    reads_body=True,
)
async def upload(call: Call) -> Any:
    """The privilege has been checked before a byte of the body is read; what is refused then is never read at all."""
    if not call.request.headers.get("Content-Type", "").startswith("multipart/form-data"):
        raise Refused(501, "for data too large", plain=True)
    folder = call.cluster.directory / "uploads"
    folder.mkdir(parents=True, exist_ok=True)
    token = hashlib.md5(f"{call.cluster.clock.time()}{id(call)}".encode(), usedforsecurity=False).hexdigest()
    temporary = folder / f"pveupload-{token}"
    try:
        try:
            fields = await _receive(call, temporary)
        except ValueError as error:
            raise Refused(501, "upload failed: the body is not complete", plain=True) from error
        check({name: value for name, value in fields.items() if name != "size"}, upload_table(call))
        storage = _target(call, fields["content"])
        name = normalise_file_name(fields["filename"])
        check_file_name(fields["content"], name)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    await call.cluster.clock.sleep(call.cluster.latency.upload * fields["size"] / CHUNK)
    return call.cluster.tasks.start(
        call.node, "imgcopy", "", call.auth, _import(call, storage, fields, name, temporary)
    )


def _target(call: Call, content: str) -> Storage:
    storage = call.cluster.stores.get_usable(call.params["storage"], call.node)
    if content not in storage.content:
        die(f"storage '{storage.name}' does not support '{content}' content")
    return storage


async def _receive(call: Call, temporary: Path) -> dict[str, Any]:
    """Fields first, the file last, as PVE's parser wants them."""
    fields: dict[str, Any] = {"size": 0}
    async for part in await call.request.multipart():
        if part.filename is None:
            fields[part.name] = (await part.read()).decode()
            continue
        fields["filename"] = (
            part.headers.get("Content-Disposition", "").partition('filename="')[2].partition('"')[0] or part.filename
        )
        with temporary.open("wb") as file:
            while chunk := await part.read_chunk(CHUNK):
                file.write(chunk)
                fields["size"] += len(chunk)
    return fields


def _import(
    call: Call, storage: Storage, fields: dict[str, Any], name: str, temporary: Path
) -> Callable[[Log], Awaitable[None]]:
    async def work(log: Log) -> None:
        shown = f"/var/tmp/{temporary.name}"  # noqa: S108  # what PVE prints; nothing is put there
        log.say(f"starting file import from: {shown}")
        try:
            if "checksum" in fields:
                await _verify(temporary, fields, log)
            format, virtual = probe(temporary, fields["content"], name, shown, log)
            volume = f"{fields['content']}/{name}"
            _, target = call.cluster.stores.place(storage, call.node, volume)
            log.say(f"target node: {call.node}\ntarget file: {target}\nfile size is: {fields['size']}")
            log.say(f"command: cp -- {shown} {target}")
            stored = call.cluster.stores.record(
                storage, call.node, volume, size=fields["size"], format=format, content=fields["content"]
            )
            stored.extra["virtual"] = virtual
            temporary.replace(stored.path)
            log.say("finished file import successfully")
        finally:
            temporary.unlink(missing_ok=True)

    return work


async def _verify(path: Path, fields: dict[str, Any], log: Log) -> None:
    def digest() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, fields.get("checksum-algorithm", "sha256")).hexdigest()

    actual = await asyncio.to_thread(digest)
    if actual.lower() != fields["checksum"].lower():
        log.say("calculating checksum...")
        die(f"checksum mismatch: got '{actual}' != expect '{fields['checksum']}'")
    log.say("calculating checksum...OK, checksum verified")


def probe(path: Path, content: str, name: str, shown: str, log: Log) -> tuple[str, int]:
    """The format a file is kept in, and the size of the disk inside it."""
    size = path.stat().st_size
    suffix = name.rpartition(".")[2].lower()
    if content == "iso":
        return "iso", size
    if content != "import":
        return name.partition(".")[2], size
    if suffix != "qcow2":
        return suffix, size
    with path.open("rb") as file:
        head = file.read(32)
    if head[:4] != b"QFI\xfb":
        log.say(f"command '/usr/bin/qemu-img info '--output=json' {shown} -f qcow2' failed: exit code 1")
        die(f"qemu-img: Could not open '{shown}': Image is not in qcow2 format")
    return "qcow2", struct.unpack(">Q", head[24:32])[0]


# Download by the node.


def may_download(call: Call) -> None:
    call.require(f"/storage/{call.params['storage']}", "Datastore.AllocateTemplate")
    if call.cluster.release.since(8) and call.allows(f"/nodes/{call.node}", "Sys.AccessNetwork"):
        return
    call.require("/", "Sys.Audit", "Sys.Modify")


DOWNLOAD = {
    "content": one_of("iso", "vztmpl", "import", optional=False),
    "filename": text(255, optional=False),
    "url": matching(r"https?://.*", optional=False),
    "checksum": text(requires="checksum-algorithm"),
    "checksum-algorithm": one_of(*CHECKSUMS, requires="checksum"),
    "verify-certificates": boolean(),
    "compression": named("string", since=(8, 0)),
}


@routes.post("/nodes/{node}/storage/{storage}/download-url", DOWNLOAD, may_download)
async def download(call: Call) -> Any:
    storage = _target(call, call.params["content"])
    name = normalise_file_name(call.params["filename"])
    check_file_name(call.params["content"], name)
    return call.cluster.tasks.start(
        call.node, "download", quote(name, safe="._-"), call.auth, _download(call, storage, name)
    )


def _download(call: Call, storage: Storage, name: str) -> Callable[[Log], Awaitable[None]]:
    async def work(log: Log) -> None:
        stores, url, content = call.cluster.stores, call.params["url"], call.params["content"]
        volume = f"{content}/{name}"
        _, target = stores.place(storage, call.node, volume)
        log.say(f"downloading {url} to {target}")
        there = stores.find(f"{storage.name}:{volume}", call.node)
        if there is not None and "checksum" not in call.params:
            die(f"refusing to override existing file '{target}'")
        if there is not None:
            await _verify(there.path, call.params, log)
            log.say("OK, got correct file already, no need to download")
            return
        temporary = call.cluster.directory / "uploads" / f"download-{id(call)}"
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            await asyncio.to_thread(_fetch, url, temporary, call, log)
            if "checksum" in call.params:
                await _verify(temporary, call.params, log)
            format, virtual = probe(temporary, content, name, target, log)
            stored = stores.record(
                storage, call.node, volume, size=temporary.stat().st_size, format=format, content=content
            )
            stored.extra["virtual"] = virtual
            temporary.replace(stored.path)
            log.say(f"download of '{url}' to '{target}' finished")
        finally:
            temporary.unlink(missing_ok=True)

    return work


def _fetch(url: str, target: Path, call: Call, log: Log) -> None:
    import datetime

    stamp = datetime.datetime.fromtimestamp(call.cluster.clock.time(), datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
    log.say(f"--{stamp}--  {url}")
    host = url.partition("://")[2].partition("/")[0]
    try:
        with urllib.request.urlopen(url, timeout=30) as answer, target.open("wb") as file:  # noqa: S310  # http and https only: the schema says so
            while chunk := answer.read(CHUNK):
                file.write(chunk)
    except urllib.error.HTTPError as error:
        die(f"download failed: {stamp} ERROR {error.code}: {error.reason}.")
    except urllib.error.URLError as error:
        reason = getattr(error.reason, "strerror", None) or str(error.reason)
        die(f"download failed: Connecting to {host}... failed: {reason}.")
