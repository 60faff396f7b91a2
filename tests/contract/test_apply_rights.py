"""`doctor --apply`: an administrator's password makes what the profile's account lacks, and no more."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from nixops_proxmox.errors import ConfigError, NotAuthenticated, PermissionDenied, StateError
from nixops_proxmox.operations.doctor import Wanted
from nixops_proxmox.operations.granting import MADE, Granter, Lacks
from nixops_proxmox.pve.api.client import PveClient
from nixops_proxmox.pve.api.connection import connect
from nixops_proxmox.pve.cluster.doctor import examine
from nixops_proxmox.pve.cluster.permissions import Need
from nixops_proxmox.pve.wire.profiles import Profile, as_administrator, lacks_secret, named_in, parse_profile
from nixops_proxmox.spec import MachineSpec
from tests.contract.client_bench import Bench, bare, start_bench
from tests.contract.test_client_doctor import problems

WHO = "nixops@pve!deploy"


@pytest.fixture(params=["7.4", "8.4", "9.1"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with start_bench(request.param) as made:
        yield made


def table(bench: Bench, **values: str) -> dict[str, str]:
    return {"endpoint": bench.lab.url, "fingerprint": bench.lab.fingerprint, "token_id": WHO} | values


def administrator(bench: Bench, username: str = "root@pam", password: str = "") -> Profile:
    return as_administrator("lab", table(bench), username, password or bench.lab.root_password)


@contextmanager
def granter_of(profile: Profile) -> Iterator[Granter]:
    with closing(connect(profile)) as client:
        yield Granter(client)


def apply(bench: Bench, *specs: MachineSpec, who: str = WHO, secret: str = "") -> tuple[Lacks, list[str]]:
    """What was lacking, and the new secrets."""
    kept: list[str] = []
    with granter_of(administrator(bench)) as granter:
        lacks = granter.find_lacks(who, wanted(specs), lacks_secret=not secret)
        granter.supply(lacks, kept.append)
    return lacks, kept


def wanted(specs: tuple[MachineSpec, ...]) -> Wanted:
    return Wanted(list(specs), [lambda _release: [Need(("/pool/front",), ("Pool.Allocate",), "make the pool front")]])


def root(bench: Bench) -> PveClient:
    return bench.another(username="root@pam", password=bench.lab.root_password).client


def test_from_nothing_to_a_token_that_has_all_that_is_needed(bench: Bench) -> None:
    spec = bare(startup="order=1")
    lacks, [secret] = apply(bench, spec)
    assert lacks.user and lacks.token and "grant NixOpsProxmox on /vms to nixops@pve!deploy" in list(lacks.told())
    profile = parse_profile("lab", table(bench, token_secret=secret))
    client = bench.another(token=f"{WHO}={secret}").client
    assert problems(examine(client, profile, [spec], wanted(()).rights)) == []
    with pytest.raises(PermissionDenied):
        client._ask("POST", "/access/users", {"userid": "more@pve"})
    with pytest.raises(PermissionDenied):
        client.create_pool("other", "")
    again, kept = apply(bench, spec, secret=secret)
    assert not again and kept == []


def test_only_what_is_missing_is_granted_and_nothing_is_taken_away(bench: Bench) -> None:
    _, [secret] = apply(bench)
    roles = {one["roleid"]: one["privs"] for one in root(bench)._ask("GET", "/access/roles")}
    root(bench)._ask(
        "PUT", "/access/roles/{role}", {"privs": "Sys.Console", "append": 1}, role="NixOpsProxmox-Pool.Allocate"
    )
    more, kept = apply(bench, bare(startup="order=1"), secret=secret)
    assert kept == [] and "NixOpsProxmox-Pool.Allocate" in roles
    assert "NixOpsProxmox-Pool.Allocate" not in more.grants.roles and "/" in more.grants.acl
    now = {one["roleid"]: one["privs"] for one in root(bench)._ask("GET", "/access/roles")}
    assert "Sys.Console" in now["NixOpsProxmox-Pool.Allocate"]


def test_a_token_whose_secret_was_lost_is_made_anew_if_it_is_ours(bench: Bench) -> None:
    spec = bare(name="web")

    class Killed(Exception):
        pass

    def killed(secret: str) -> None:
        raise Killed

    with granter_of(administrator(bench)) as granter, pytest.raises(Killed):
        granter.supply(granter.find_lacks(WHO, wanted((spec,)), lacks_secret=True), killed)
    lacks, [secret] = apply(bench, spec)
    assert lacks.again and not lacks.user
    profile = parse_profile("lab", table(bench, token_secret=secret))
    assert problems(examine(bench.another(token=f"{WHO}={secret}").client, profile, [spec])) == []


@pytest.mark.parametrize("bench", ["9.1"], indirect=True)
def test_what_is_not_ours_is_refused_with_what_to_do(bench: Bench) -> None:
    ask = root(bench)._ask
    ask("POST", "/access/users", {"userid": "nixops@pve"})
    ask("POST", "/access/users/{user}/token/{token}", {}, user="nixops@pve", token="deploy")
    with pytest.raises(StateError, match="the profile does not have its secret"):
        apply(bench)
    with pytest.raises(ConfigError, match="the profile has a secret for it"):
        apply(bench, who="nixops@pve!other", secret="x")
    with pytest.raises(ConfigError, match="only users of the realm pve are made here"):
        apply(bench, who="jane.doe@corp@ldap!deploy")
    with pytest.raises(ConfigError, match="who logs in by password is not made here"):
        apply(bench, who="clerk@pve")
    assert [user["userid"] for user in ask("GET", "/access/users") if user.get("comment") == MADE] == []


@pytest.mark.parametrize("bench", ["9.1"], indirect=True)
def test_a_pool_that_a_deploy_makes_is_not_missed(bench: Bench) -> None:
    spec, profile = bare(pool="front"), administrator(bench)
    told = [problems(examine(root(bench), profile, [spec], pools=pools)) for pools in ((), {"front"})]
    assert [any("there is no pool front" in one for one in found) for found in told] == [True, False]


@pytest.mark.parametrize("bench", ["9.1"], indirect=True)
def test_a_wrong_password_and_a_user_without_the_right_change_nothing(bench: Bench) -> None:
    with granter_of(administrator(bench, password="wrong-password")) as granter, pytest.raises(NotAuthenticated):
        granter.find_lacks(WHO, wanted(()), lacks_secret=True)
    root(bench)._ask("POST", "/access/users", {"userid": "clerk@pve", "password": "password-1"})
    with granter_of(administrator(bench, "clerk@pve", "password-1")) as granter, pytest.raises(PermissionDenied):
        granter.supply(granter.find_lacks(WHO, wanted(()), lacks_secret=True), print)
    assert not root(bench)._ask("GET", "/access/users/{user}/token", user="clerk@pve")


@pytest.mark.parametrize(
    ("values", "who", "lacks"),
    [
        ({"token_id": "a@pve!b"}, "a@pve!b", True),
        ({"token_id": "a@pve!b", "token_secret": "x"}, "a@pve!b", False),
        ({"token_id": "a@pve!b", "token_command": "pass"}, "a@pve!b", False),
        ({"token": "a@pve!b=c"}, "a@pve!b", False),
        ({"api_token": "PVEAPIToken=a@pve!b=c"}, "a@pve!b", False),
        ({"username": "a@pve", "token_name": "b"}, "a@pve!b", True),
        ({"username": "a@pve", "password": "x"}, "a@pve", False),
        ({"user": "jane.doe@corp@ldap"}, "jane.doe@corp@ldap", False),
        ({"token_command": "pass"}, "", False),
        ({}, "", False),
    ],
)
def test_whose_rights_a_profile_is_about(values: dict[str, str], who: str, lacks: bool) -> None:
    assert (named_in(values), lacks_secret(values)) == (who, lacks)


def test_the_administrators_credentials_take_the_place_of_all_others(tmp_path: Path) -> None:
    written = {
        "url": "https://pve.example.org",
        "token_id": WHO,
        "token_command": "pass",
        "otp": "123456",
        "vmids": "200-300",
    }
    made = as_administrator("home", written, "root@pam", "secret")
    assert (made.username, made.password, made.token_id, made.token_command, made.otp) == (
        "root@pam",
        "secret",
        "",
        (),
        "",
    )
    assert made.vmids == (200, 300) and made.servers[0].url == "https://pve.example.org:8006"
