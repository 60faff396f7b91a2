# One machine for NixOps 4: its hardware, then the system on it. `hardware`: what `deployment.proxmox` is in NixOS;
# `system`: the store path of the built system.
{ hardware, system }:
{ members, providers, ... }:
{
  # What NixOps 4 remembers, in the database of the command line (NIXOPS_PROXMOX_STATE).
  members.state = {
    type = providers.proxmox.state;
    inputs.name = "shop";
  };

  # The VM, until its installer is reached by SSH.
  members.web = {
    type = providers.proxmox.vm;
    state = members.state;
    inputs = {
      name = "web";
      proxmox = hardware;
    };
  };

  # The system: installed first, activated when it is another one.
  members.web-system = {
    type = providers.proxmox.nixos;
    state = members.state;
    inputs = {
      inherit system;
      name = "web";
      vm = members.web.outputs.uuid;
    };
  };
}
