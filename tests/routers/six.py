"""A DHCPv6 client that asks once for an address (RFC 8415): `python -m tests.routers.six INTERFACE MAC SECONDS`.

Its DUID is of the link-layer type, so that a server knows the MAC. Prints the address that it is given, or nothing.
"""

import ipaddress
import secrets
import socket
import struct
import sys
import time
from collections.abc import Iterator

CLIENT, SERVERS = 546, ("ff02::1:2", 547)
SOLICIT, ADVERTISE, REQUEST, REPLY = 1, 2, 3, 7
CLIENT_ID, SERVER_ID, IA_NA, IA_ADDRESS, ELAPSED = 1, 2, 3, 5, 8
ASK_AGAIN = 0.5  # seconds


def option(code: int, data: bytes) -> bytes:
    return struct.pack("!HH", code, len(data)) + data


def options(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        code, length = struct.unpack_from("!HH", data)
        yield code, data[4 : 4 + length]
        data = data[4 + length :]


def duid(mac: str) -> bytes:
    return struct.pack("!HH", 3, 1) + bytes.fromhex(mac.replace(":", ""))


def message(kind: int, transaction: bytes, mac: str, more: bytes) -> bytes:
    return bytes([kind]) + transaction + option(CLIENT_ID, duid(mac)) + option(ELAPSED, b"\0\0") + more


def address_in(association: bytes) -> str:
    """The one of an IA_NA: behind its number and its two times."""
    found = [data for code, data in options(association[12:]) if code == IA_ADDRESS]
    return str(ipaddress.IPv6Address(found[0][:16])) if found else ""


def exchange(wire: socket.socket, index: int, question: bytes, wanted: int, deadline: float) -> dict[int, bytes]:
    """The options of the answer; none: nobody answered in time."""
    while time.monotonic() < deadline:
        wire.sendto(question, (*SERVERS, 0, index))
        try:
            answer = wire.recv(1500)
        except TimeoutError:
            continue
        if answer[0] == wanted and answer[1:4] == question[1:4]:
            return dict(options(answer[4:]))
    return {}


def ask(interface: str, mac: str, seconds: float) -> str:
    deadline, index = time.monotonic() + seconds, socket.if_nametoindex(interface)
    association = option(IA_NA, struct.pack("!III", 1, 0, 0))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as wire:
        wire.settimeout(ASK_AGAIN)
        wire.bind(("::", CLIENT, 0, index))
        first = message(SOLICIT, secrets.token_bytes(3), mac, association)
        offered = exchange(wire, index, first, ADVERTISE, deadline)
        if not address_in(offered.get(IA_NA, b"")):
            return ""
        more = option(SERVER_ID, offered[SERVER_ID]) + option(IA_NA, offered[IA_NA])
        second = message(REQUEST, secrets.token_bytes(3), mac, more)
        return address_in(exchange(wire, index, second, REPLY, deadline).get(IA_NA, b""))


if __name__ == "__main__":
    sys.stdout.write(ask(sys.argv[1], sys.argv[2], float(sys.argv[3])))
