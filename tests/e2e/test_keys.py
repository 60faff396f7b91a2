"""`deployment.keys`: in the machine's memory before its system is activated, and nowhere else."""

import json
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.test_secrets import Sampler

if TYPE_CHECKING:
    from tests.e2e.bed import Bed

pytestmark = [pytest.mark.netns, pytest.mark.nix, pytest.mark.slow]

NETWORK = """\
let
  base = import DEMO/system.nix {
    name = "web";
    hosts = { };
    service = { port = 80; handler = "cat /run/keys/token"; };
  };
in
{
  web = {
    deployment.proxmox = {
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      install.iso = "local:iso/lab-installer.iso";
      memory = 512;
      network = [ { bridge = "vmbr0"; } ];
    };
    deployment.keys = {
      token = { text = "TEXT"; permissions = "0640"; };
      file = { keyFile = "FILE"; user = "app"; group = "app"; };
    } // (if builtins.getEnv "WITHOUT" == "" then { printed.keyCommand = [ "sh" "-c" "cat FILE FILE" ]; } else { });
    deployment.files = {
      "/var/lib/app/secret.bin" = { file = "FILE"; uid = 1001; gid = 1001; permissions = "0400"; };
      "/etc/motd".text = "PLACED";
    };
    # What NixOS makes of `users.users.app`.
    toplevel = import DEMO/builder.nix "web" { } ''
      cp -a ${base} $out
      chmod -R u+w $out
      sed -i "s|${base}|$out|g" $out/activate $out/bin/switch-to-configuration
      cat >>$out/activate <<'EOF'
      grep -q '^app:' /etc/passwd || echo 'app:x:1001:1001::/:/bin/sh' >>/etc/passwd
      grep -q '^app:' /etc/group || echo 'app:x:1001:' >>/etc/group
      EOF
    '';
  };
}
"""
LOOK = "cd /run/keys && stat -c '%n %a %U:%G' * && cat token file printed | sha256sum"


def undescribed(bed: "Bed", verb: str) -> "subprocess.CompletedProcess[str]":
    """The verb by somebody who has the state alone."""
    words = [word for word in bed.inside(verb, "--deployment", "keys") if word not in ("-f", str(bed.network))]
    return subprocess.run(words, env=bed.environment, cwd=bed.home, capture_output=True, text=True, check=True)


def test_keys_are_there_from_the_first_deploy_and_again_after_a_boot(bed: "Bed", tmp_path: Path) -> None:
    from tests.e2e.bed import DEMO

    secrets = {name: f"{name}-{uuid.uuid4().hex}" for name in ("text", "file", "placed")}
    (tmp_path / "file").write_text(secrets["file"])
    network = NETWORK.replace("DEMO", str(DEMO)).replace("TEXT", secrets["text"]).replace("PLACED", secrets["placed"])
    own = bed.with_network("keys", network.replace("FILE", str(tmp_path / "file")))
    told = []
    with Sampler() as sampler:
        told.append(own.run("deploy", "-vv"))
        there = own.ssh("web", LOOK)
        assert there.splitlines()[:3] == ["file 600 app:app", "printed 600 root:root", "token 640 root:root"]
        placed = own.ssh("web", "cd /; set var/lib/app/secret.bin etc/motd; stat -c '%a %u:%g' $@; cat $@")
        assert placed.splitlines() == ["400 1001:1001", "600 0:0", secrets["file"] + secrets["placed"]]
        node = own.ssh("web", "stat -c %i /run/keys/*")
        told.append(own.run("keys", "send", "-vv"))
        assert own.ssh("web", "stat -c %i /run/keys/*") == node, "a key that is the same is not written again"

        told.append(own.run("reboot", "-vv"))
        assert own.ssh("web", LOOK) == there, "who has the network sends them again"
        rebooted = undescribed(own, "reboot")
        told.append(rebooted)
        assert "a boot has taken away its keys: " in rebooted.stderr and "nixops-proxmox keys send" in rebooted.stderr
        told.append(own.run("keys", "send", "web", "-vv"))
        assert own.ssh("web", LOOK) == there

        told.append(own.run("deploy", "-vv", WITHOUT="printed"))
        assert own.ssh("web", "ls /run/keys").split() == ["file", "token"]
        (tmp_path / "file").unlink()
        missing = own.run("deploy", check=False)
        told.append(missing)
    assert missing.returncode == 2
    assert "web.deployment.keys.file.keyFile" in missing.stderr and "No such file" in missing.stderr

    argv = b"\n".join(sampler.seen)
    state = b"".join(path.read_bytes() for path in (own.home / "state").rglob("state.sqlite*"))
    logs = "".join(f"{one.stdout}{one.stderr}" for one in told).encode()
    cluster = json.dumps(own.control("GET", "state")).encode()
    for place, seen in {"argv": argv, "state": state, "logs": logs, "cluster": cluster}.items():
        assert not [name for name, secret in secrets.items() if secret.encode() in seen], place
