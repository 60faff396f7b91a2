"""Options of the original plugin that are not one option of ours under another name."""

from nixops_proxmox.spec.tree import Mistakes, Node, below, nearest, show


def rewrite_machine(node: Node, mistakes: Mistakes) -> Node:
    """The machine's attribute set without them, with what they meant, and with the firmware that an EFI disk needs."""
    fields = dict(node.value) if isinstance(node.value, dict) else {}
    for name, rewrite in (("uefi", _uefi), ("usePrivateIPAddress", _private), ("verifySSL", _tls), ("useSSH", _ssh)):
        if name in fields:
            rewrite(fields.pop(name), fields, node.path, mistakes)
    if "efi" in fields and "bios" not in fields:
        fields["bios"] = Node(fields["efi"].path, "ovmf")
    return Node(node.path, fields)


def _uefi(node: Node, fields: dict[str, Node], path: str, mistakes: Mistakes) -> None:
    if not isinstance(node.value, dict):
        mistakes.add(node.path, f"expected an attribute set with enable and volume, got {show(node.plain())}")
        return
    for name, child in node.value.items():
        if name not in ("enable", "volume"):
            mistakes.add(child.path, f"there is no such option{nearest(name, ('enable', 'volume'))}")
    enable, volume = node.value.get("enable"), node.value.get("volume")
    if not _flag(enable, mistakes):
        return
    if volume is None:
        mistakes.add(below(node.path, "volume"), "must be set: the storage of the EFI disk")
        return
    if "efi" not in fields:
        mistakes.warn(node.path, "is now called efi, and volume efi.storage")
        fields["efi"] = Node(below(path, "efi"), {"storage": volume})
        return
    there = fields["efi"].plain()
    if not isinstance(there, dict) or there.get("storage") != volume.plain():
        mistakes.add(node.path, f"is the old name of {fields['efi'].path}, and they differ: set only one")


def _private(node: Node, fields: dict[str, Node], path: str, mistakes: Mistakes) -> None:
    """It said which address is used for management. False was the default."""
    private = _flag(node, mistakes)
    endpoint = fields.get("endpoint") or Node(below(path, "endpoint"), {})
    if not isinstance(endpoint.value, dict) or "reaches" in endpoint.value:
        return
    words = ("private",) if private else ("public", "private")
    reaches = Node(node.path, tuple(Node(node.path, word) for word in words))
    mistakes.warn(node.path, "is now called endpoint.reaches")
    fields["endpoint"] = Node(endpoint.path, {**endpoint.value, "reaches": reaches})


def _tls(node: Node, _fields: dict[str, Node], _path: str, mistakes: Mistakes) -> None:
    if not _flag(node, mistakes):
        mistakes.warn(
            node.path,
            "has no effect: certificates are always verified; a self-signed one goes into the profile, as ca_file or "
            "as fingerprint",
        )


def _ssh(node: Node, _fields: dict[str, Node], _path: str, mistakes: Mistakes) -> None:
    if _flag(node, mistakes):
        mistakes.warn(node.path, "has no effect: the API is spoken to over HTTPS, with what the profile says")


def _flag(node: Node | None, mistakes: Mistakes) -> bool:
    if node is not None and not isinstance(node.value, bool):
        mistakes.add(node.path, f"expected true or false, got {show(node.plain())}")
    return node is not None and node.value is True
