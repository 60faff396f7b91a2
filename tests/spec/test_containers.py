"""What a description of a container may not say."""

import pytest

from nixops_proxmox.errors import SpecError
from nixops_proxmox.spec import MachineSpec, parse_network

CONTAINER = {"kind": "container", "network": [{"bridge": "vmbr0"}]}
ROOT = {"storage": "local-lvm", "size": "8G"}


def parse(template: str) -> MachineSpec:
    described = {**CONTAINER, "container": {"template": template, "root": ROOT}}
    (machine,) = parse_network("shop", {"machines": {"web": {"deployment": {"proxmox": described}}}}).machines
    return machine


@pytest.mark.parametrize("template", ["local:vztmpl/nginx_latest.tar", "./nginx_latest.TAR"])
def test_an_oci_image_is_refused_with_the_reason(template: str) -> None:
    with pytest.raises(SpecError, match="it is an OCI image: it has no SSH server") as refused:
        parse(template)
    assert "deployment.proxmox.container.template" in str(refused.value)
    assert ".tar.xz" in refused.value.hint


@pytest.mark.parametrize("template", ["local:vztmpl/nixos.tar.xz", "./nixos.tar.gz", "./result"])
def test_a_template_of_nixos_is_taken(template: str) -> None:
    assert parse(template).container is not None
