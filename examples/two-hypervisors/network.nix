# Two hypervisors that know nothing of each other. What all others depend on is on `mgmt`, which is changed with care; what
# comes and goes is on `tenant`. Machines on `mgmt` have fixed MACs, so that DHCP and DNS are right before they exist.
#
# In profiles.toml, beside each one's address and token:
#
#     [mgmt]
#     confirm = true                                  # nothing changes there by the way
#     windows = ["Sat 22:00-04:00 Europe/Berlin"]     # and only then
#
# To try it: nixops-proxmox lab --name mgmt up --nodes 1 --beside tenant
let
  machine = profile: network: {
    deployment.proxmox = {
      inherit profile;
      disks = [ { storage = "local-lvm"; size = "2G"; } ];
      install = { iso = "local:iso/lab-installer.iso"; method = "configuration"; };
      memory = 256;
      network = [ ({ bridge = "vmbr0"; } // network) ];
    };
  };
  site = role: number: { mac = "02:4d:01:${role}:00:${number}"; }; # site 01, by role and number
in
{
  network.description = "a hypervisor for management, and one for tenants";

  metrics = machine "mgmt" (site "10" "01");
  jump = machine "mgmt" (site "20" "01");

  iot = machine "tenant" { };
  sandbox = machine "tenant" { };
}
