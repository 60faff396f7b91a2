# Two tenants on one hypervisor. Each has a VLAN of its own, and its machines see each other, and no machine of the other
# tenant. What one tenant opens, the other does not reach either. The administrators reach all of them.
#
#     nixops-proxmox plan -f examples/two-tenants/network.nix
let
  machine = tenant: {
    deployment.proxmox = {
      disks = [ { storage = "local-lvm"; size = "2G"; } ];
      install = { iso = "local:iso/lab-installer.iso"; method = "configuration"; };
      memory = 256;
      network = [ { network = tenant; } ];
    };
  };
  admins = [ "10.78.20.1" "10.78.30.1" "fd77:78::/32" ]; # where you sit; here: the lab's own addresses
in
{
  network.description = "two tenants that cannot see each other";

  resources.tenants = {
    red = {
      bridge = "vmbr0";
      vlan = 20;
      vnet = "red";
      subnet = "10.78.20.0/24";
      inherit admins;
      open = [ { macro = "HTTP"; } ];
    };
    blue = {
      bridge = "vmbr0";
      vlan = 30;
      vnet = "blue";
      subnet = "10.78.30.0/24";
      inherit admins;
    };
  };

  red-web = machine "red";
  red-db = machine "red";
  blue-web = machine "blue";
}
