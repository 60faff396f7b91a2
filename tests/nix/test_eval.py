"""eval.nix: networks of plain attribute sets, as the command line asks for them."""

import json
from pathlib import Path
from typing import Any

import pytest

from nixops_proxmox.nixeval.evaluate import parse_evaluation
from nixops_proxmox.spec import parse_network
from nixops_proxmox.spec.serials import derived_serial, disk_path, serials_of
from tests.nix.conftest import ROOT, Evaluate
from tests.nixes import SMALL_NIXOS

pytestmark = pytest.mark.nix

SYSTEM = 'derivation { name = "web"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" ": >$out" ]; }'


EVAL_CONFIG = """
{ modules, specialArgs, system }:
let
  own = builtins.head (builtins.head modules).imports;
  made = if builtins.isFunction own then own specialArgs else own;
in {
  config.deployment = {
    targetEnv = "proxmox";
    proxmox = { disks = [ ]; network = [ ]; } // made.deployment.proxmox;
  };
  config.system.build.toplevel = %s;
}
"""


class Networks:
    """Network files in a folder, and eval.nix on them."""

    def __init__(self, folder: Path, evaluate: Evaluate) -> None:
        self.folder = folder
        self.evaluate = evaluate

    def write(self, text: str, name: str = "network.nix") -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def info(self, text: str, **arguments: str) -> Any:
        given = {"networkExpr": str(self.write(text)), **arguments}
        return self.evaluate(ROOT / "nix" / "eval.nix", given, attribute="info")

    def flake(self, name: str, **arguments: str) -> Any:
        given = {"flakeUri": f'"path:{self.folder}"', "flakeName": f'"{name}"' if name else "null", **arguments}
        return self.evaluate(ROOT / "nix" / "eval.nix", given, attribute="info")


@pytest.fixture
def networks(tmp_path: Path, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch) -> Networks:
    monkeypatch.delenv("NIX_PATH", raising=False)
    return Networks(tmp_path, evaluate)


def test_plain_machines_are_data_and_a_derivation(networks: Networks) -> None:
    info = networks.info(
        f'{{ network.description = "one"; web = {{ deployment.proxmox.memory = 512; toplevel = {SYSTEM}; }}; }}'
    )
    assert info["network"] == {"description": "one"}
    web = info["machines"]["web"]
    assert web["deployment"] == {"proxmox": {"memory": 512}}
    assert web["toplevel"]["drvPath"].endswith("-web.drv")
    assert web["toplevel"]["outputPath"].endswith("-web")


def test_a_machine_may_do_without_a_system(networks: Networks) -> None:
    assert networks.info("{ web.deployment.proxmox = { }; }")["machines"]["web"]["toplevel"] is None


@pytest.mark.parametrize(
    ("image", "inside"),
    [
        (SYSTEM, ""),
        (f'"${{{SYSTEM}}}"', ""),
        (f'"${{{SYSTEM}}}/nixos.qcow2"', "/nixos.qcow2"),
        (f"{{ inherit ({SYSTEM}) outPath drvPath; passthru = x: x; }}", ""),
    ],
)
def test_an_image_that_nix_builds_is_told_with_what_builds_it(networks: Networks, image: str, inside: str) -> None:
    web = networks.info(f"{{ web.deployment.proxmox.install.image = {image}; }}")["machines"]["web"]
    assert web["image"]["drvPath"].endswith("-web.drv")
    assert web["deployment"]["proxmox"]["install"]["image"] == web["image"]["outputPath"] + inside


@pytest.mark.parametrize(("template", "inside"), [(SYSTEM, ""), (f'"${{{SYSTEM}}}/nixos.tar.xz"', "/nixos.tar.xz")])
def test_a_template_that_nix_builds_is_told_as_an_image_is(networks: Networks, template: str, inside: str) -> None:
    said = f'{{ kind = "container"; container.template = {template}; }}'
    web = networks.info(f"{{ web.deployment.proxmox = {said}; }}")["machines"]["web"]
    assert web["image"]["drvPath"].endswith("-web.drv")
    assert web["deployment"]["proxmox"]["container"]["template"] == web["image"]["outputPath"] + inside


@pytest.mark.parametrize("image", ["./nixos.qcow2", '"local:import/nixos.qcow2"', '"./nixos.qcow2"'])
def test_nothing_builds_an_image_that_is_a_file_or_a_volume(networks: Networks, image: str) -> None:
    web = networks.info(f"{{ web.deployment.proxmox.install.image = {image}; }}")["machines"]["web"]
    assert "image" not in web


def test_defaults_lie_under_every_machine(networks: Networks) -> None:
    common = "defaults.deployment.proxmox = { memory = 512; cpu.cores = 1; };"
    info = networks.info(f"{{ {common} a = {{ }}; b.deployment.proxmox.cpu.cores = 2; }}")
    found = {name: machine["deployment"]["proxmox"] for name, machine in info["machines"].items()}
    assert found == {"a": {"memory": 512, "cpu": {"cores": 1}}, "b": {"memory": 512, "cpu": {"cores": 2}}}


def test_a_network_may_be_a_function_of_what_it_wants(networks: Networks) -> None:
    machine = "{ memory = size; ssh.authorizedKeys = clientKeys; }"
    text = f"{{ clientKeys, size ? 1, ... }}: {{ web.deployment.proxmox = {machine}; }}"
    info = networks.info(text, clientKeys='[ "k" ]', args="{ size = 7; }")
    assert info["machines"]["web"]["deployment"]["proxmox"] == {"memory": 7, "ssh": {"authorizedKeys": ["k"]}}


def test_an_argument_that_is_missing_is_named(networks: Networks) -> None:
    with pytest.raises(AssertionError, match="wants the argument 'region'"):
        networks.info("{ region }: { }")


def test_required_files_are_part_of_the_network_each_once(networks: Networks) -> None:
    networks.write("{ require = [ ./network.nix ]; app.deployment.proxmox.memory = 2; }", "more.nix")
    info = networks.info("{ require = [ ./more.nix ]; web.deployment.proxmox.memory = 1; }")
    assert {name: m["deployment"]["proxmox"]["memory"] for name, m in info["machines"].items()} == {"app": 2, "web": 1}


def test_a_path_stays_a_string_and_out_of_the_store(networks: Networks) -> None:
    networks.write("secret", "key")
    info = networks.info("{ web.deployment.proxmox.ssh.identityFile = ./key; }")
    assert info["machines"]["web"]["deployment"]["proxmox"]["ssh"]["identityFile"] == str(networks.folder / "key")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{ web.deployment.proxmox.memory = x: x; }", "web.deployment.proxmox.memory is a function"),
        ("{ web = { deployment.proxmox = { }; toplevel = 3; }; }", "web.toplevel is not a derivation"),
        ("{ web = { ... }: { }; }", "machine 'web' .* is a NixOS module, and there is no nixpkgs"),
        ("3", "is not an attribute set of machines"),
        ('{ type = "derivation"; name = "hello"; }', "network.nix is a package, and no network of machines"),
        ('{ hello = { type = "derivation"; }; }', "'hello' in .* is a package, and no machine"),
        ("{ web = 3; }", "'web' in .* is no module, and no machine"),
        ("{ web.services.nginx.enable = true; }", "machine 'web' sets services, so it is a NixOS module"),
    ],
)
def test_what_cannot_be_is_named(networks: Networks, text: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        networks.info(text)


def test_a_system_is_told_what_its_machine_has_taken_from_a_list(networks: Networks, real_lib: Path) -> None:
    nic = '{ bridge = "vmbr0"; pool = "campus"; ipv4 = { method = "static"; prefix = 24; }; }'
    disk = '{ storage = "local"; size = 8; }'
    text = f"""{{
      network.nixpkgs = {SMALL_NIXOS};
      web = {{ ... }}: {{ deployment.proxmox = {{ disks = [ {disk} ]; network = [ {nic} ]; }}; }};
    }}"""
    taken = {"web": {"net0": {"mac": "02:00:00:00:00:01", "ipv4": "10.9.0.2", "host": "pvm2.example.com"}}}

    def system(text: str, **more: str) -> str:
        given = {"networkExpr": str(networks.write(text)), **more}
        search = [f"nixpkgs-lib={real_lib}"]
        info = networks.evaluate(ROOT / "nix" / "eval.nix", given, attribute="info", search=search)
        path: str = info["machines"]["web"]["toplevel"]["drvPath"]
        return Path(path).name.partition("-")[2]

    def told(words: object) -> str:
        return f"''{json.dumps(words)}''"

    assert system(text) == "nixos-system-web.drv"
    assert system(text, taken=told(taken)) == "nixos-system-pvm2.drv"
    own = text.replace("deployment.proxmox =", 'networking.hostName = "mine"; deployment.proxmox =')
    assert system(own, taken=told(taken)) == "nixos-system-mine.drv"


def test_a_system_knows_its_disks_before_they_are_made_and_as_they_were_recorded(
    networks: Networks, real_lib: Path
) -> None:
    disk = '{ storage = "local"; size = 8; }'
    text = f"""{{
      network.nixpkgs = {SMALL_NIXOS};
      defaults = {{ config, ... }}: {{
        deployment.proxmox = {{ disks = [ {disk} ]; network = [ {{ bridge = "vmbr0"; }} ]; }};
        deployment.proxmox.description = toString config.deployment.proxmox.guest.devices.scsi0;
      }};
      new = {{ }}; old = {{ }}; theirs = {{ }};
    }}"""
    given = {
        "networkExpr": str(networks.write(text)),
        "deploymentName": '"shop"',
        "serials": '\'\'{"old": "8c7f6d1e-0000-4000-8000-000000000001", "theirs": ""}\'\'',
    }
    search = [f"nixpkgs-lib={real_lib}"]
    info = networks.evaluate(ROOT / "nix" / "eval.nix", given, attribute="info", search=search)
    found = {name: one["deployment"]["proxmox"]["description"] for name, one in info["machines"].items()}
    bases = {"new": serials_of("shop", "new"), "old": "8c7f6d1e-0000-4000-8000-000000000001"}
    expected = {name: disk_path("scsi0", derived_serial(base, "scsi0")) for name, base in bases.items()}
    assert found == expected | {"theirs": ""}


TAKEN = '{"web": {"net0": {"ipv4": "10.9.0.2"}}}'


@pytest.mark.parametrize(
    ("wanted", "told", "expected"),
    [
        ("{ taken, ... }", TAKEN, "web-10.9.0.2"),
        ("{ taken }", "{}", "web-none"),
        ("known", TAKEN, "web-10.9.0.2"),
        ("{ taken, other ? 1 }", TAKEN, "web-10.9.0.2"),
    ],
)
def test_a_plain_system_may_be_a_function_of_what_its_machine_has_taken(
    networks: Networks, wanted: str, told: str, expected: str
) -> None:
    taken = "known.taken" if wanted == "known" else "taken"
    name = f'"web-${{{taken}.net0.ipv4 or "none"}}"'
    made = f'derivation {{ name = {name}; system = "x86_64-linux"; builder = "/bin/sh"; }}'
    info = networks.info(f"{{ web.toplevel = {wanted}: {made}; }}", taken=f"''{told}''")
    path = info["machines"]["web"]["toplevel"]["drvPath"]
    assert Path(path).name.partition("-")[2] == f"{expected}.drv"


def test_a_plain_system_is_told_what_it_may_ask_for(networks: Networks) -> None:
    with pytest.raises(AssertionError, match=r"web\.toplevel is a function that wants 'pkgs': it gets .*name, taken"):
        networks.info("{ web.toplevel = { pkgs }: pkgs; }")


def test_modules_are_evaluated_where_there_is_nixpkgs(networks: Networks) -> None:
    """A nixpkgs of one file shows how the modules are put together."""
    nixpkgs = networks.folder / "nixpkgs" / "nixos" / "lib"
    nixpkgs.mkdir(parents=True)
    (nixpkgs / "eval-config.nix").write_text(EVAL_CONFIG % SYSTEM)
    info = networks.info(
        "{ network.nixpkgs = ./nixpkgs; web = { name, nodes, ... }: { deployment.proxmox.description = name; }; }"
    )
    web = info["machines"]["web"]
    assert web["deployment"] == {
        "targetEnv": "proxmox",
        "proxmox": {"disks": [], "network": [], "description": "web"},
    }
    assert web["toplevel"]["drvPath"].endswith(".drv")


def test_keys_are_told_as_written_and_have_a_unit_each(networks: Networks, real_lib: Path) -> None:
    text = f"""
    {{
      network.nixpkgs = {SMALL_NIXOS};
      web = {{ config, ... }}: {{
        deployment.proxmox.disks = [ {{ storage = "local"; size = 8; }} ];
        deployment.proxmox.network = [ {{ bridge = "vmbr0"; }} ];
        deployment.proxmox.install.iso = "local:iso/installer.iso";
        deployment.keys.token = {{ keyFile = ./token; user = "app"; }};
        environment.etc.told.text = config.deployment.keys.token.path;
      }};
    }}
    """
    path = networks.write(text)
    search = [f"nixpkgs-lib={real_lib}"]
    info = networks.evaluate(ROOT / "nix" / "eval.nix", {"networkExpr": str(path)}, attribute="info", search=search)
    (key,) = parse_network("shop", info).sent_keys["web"]
    assert (key.path, key.user, key.key_file) == ("/run/keys/token", "app", str(networks.folder / "token"))
    told = {
        what: networks.evaluate(
            ROOT / "nix" / "eval.nix", {"networkExpr": str(path)}, attribute=f"nodes.web.config.{what}", search=search
        )
        for what in ("environment.etc.told.text", "systemd.services.token-key.preStart", "system.activationScripts")
    }
    assert told["environment.etc.told.text"] == key.path
    assert "until [ -e /run/keys/token ]" in told["systemd.services.token-key.preStart"]
    assert "chown app:root /run/keys/token" in str(told["system.activationScripts"])


FLAKE = """
{
  outputs = { self }:
    let
      system = name: {
        options.deployment.proxmox = { };
        config.deployment = { targetEnv = "proxmox"; proxmox = { disks = [ ]; network = [ ]; description = name; }; };
        config.system.build.toplevel = throw "a system without our key";
        extendModules = { modules }: {
          config.deployment = { targetEnv = "proxmox"; proxmox = {
            disks = [ ]; network = [ ];
            description = let ssh.user = "root"; in
              toString (
                builtins.head modules { config.deployment.proxmox = { inherit ssh; }; }
              ).users.users.root.openssh.authorizedKeys.keys;
          }; };
          config.system.build.toplevel = %s;
        };
      };
    in
    {
      nixopsConfigurations.lab.one = { deployment.proxmox.memory = 1; toplevel = null; };
      nixosConfigurations = { web = system "web"; app = system "app"; other = { options = { }; config = { }; }; };
    };
}
"""


@pytest.mark.parametrize(("name", "machines"), [("", {"web", "app"}), ("web", {"web"})], ids=["all", "machine"])
def test_a_flake_gives_a_network_or_its_systems(networks: Networks, name: str, machines: set[str]) -> None:
    networks.write(FLAKE % SYSTEM, "flake.nix")
    info = networks.flake(name)
    assert set(info["machines"]) == machines


def test_a_flakes_finished_systems_let_our_key_in(networks: Networks) -> None:
    networks.write(FLAKE % SYSTEM, "flake.nix")
    web = networks.flake("web", clientKeys='[ "ssh-ed25519 AAAA ours" ]')["machines"]["web"]
    assert web["deployment"]["proxmox"]["description"] == "ssh-ed25519 AAAA ours"
    assert web["toplevel"]["drvPath"].endswith("-web.drv")


@pytest.mark.parametrize("name", ["nixopsConfigurations.lab", "lab"])
def test_a_flakes_network_may_be_named_in_full(networks: Networks, name: str) -> None:
    networks.write(FLAKE % SYSTEM, "flake.nix")
    assert set(networks.flake(name)["machines"]) == {"one"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("db", "the flake has no 'db': nixopsConfigurations has lab; nixosConfigurations has app, other, web"),
        ("other", r"nixosConfigurations\.other does not import our module: add .*nixosModules\.default"),
    ],
)
def test_what_a_flake_does_not_have_is_named(networks: Networks, name: str, said: str) -> None:
    networks.write(FLAKE % SYSTEM, "flake.nix")
    with pytest.raises(AssertionError, match=said):
        networks.flake(name)


def test_a_flake_of_several_networks_asks_which(networks: Networks) -> None:
    networks.write("{ outputs = _: { nixopsConfigurations = { eu = { }; us = { }; }; }; }", "flake.nix")
    with pytest.raises(AssertionError, match=r"which network.* nixopsConfigurations has eu, us"):
        networks.flake("")


def test_a_machine_of_another_backend_is_not_evaluated(networks: Networks) -> None:
    info = networks.info(
        """{ a = { deployment = { targetEnv = "libvirtd"; proxmox = throw "not to be read"; };
             toplevel = throw "not to be built"; }; b.deployment.proxmox.memory = 1; }"""
    )
    assert info["machines"]["a"] == {"deployment": {"proxmox": {}, "targetEnv": "libvirtd"}, "toplevel": None}


def test_what_machines_are_made_of_is_read_before_any_system(networks: Networks) -> None:
    text = (
        '{ a = { deployment.proxmox = { }; toplevel = throw "system"; }; b.deployment.proxmox.memory = throw "spec"; }'
    )
    with pytest.raises(AssertionError, match="error: spec"):
        networks.info(text)


def test_a_blank_in_the_networks_path_does_no_harm(networks: Networks) -> None:
    folder = networks.folder / "my shop"
    folder.mkdir()
    (folder / "more.nix").write_text("{ b.deployment.proxmox = { }; }")
    (folder / "network.nix").write_text("{ require = [ ./more.nix ]; a.deployment.proxmox = { }; }")
    given = {"networkExpr": f'"{folder}/network.nix"'}
    assert set(networks.evaluate(ROOT / "nix" / "eval.nix", given, attribute="info")["machines"]) == {"a", "b"}


def test_what_it_says_is_what_python_reads(networks: Networks) -> None:
    hardware = 'disks.scsi0 = { storage = "local-lvm"; size = "8G"; }; network = [ { bridge = "vmbr0"; } ];'
    info = networks.info(f"{{ web = {{ toplevel = {SYSTEM}; deployment.proxmox = {{ {hardware} }}; }}; }}")
    evaluated = parse_evaluation(json.dumps(info))
    assert set(evaluated.toplevels) == {"web"}
    assert [machine.name for machine in parse_network("demo", evaluated.data).machines] == ["web"]
