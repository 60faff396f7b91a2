# An encrypted machine that opens its disk by itself, and the machine that lets it: `keeper` serves tang. One deploy makes
# both, the keeper first. Its key is learned over SSH, whose host key is proven, and pinned from then on.
#
# Who takes `vault` away, its disk or a backup of it, cannot read it. Who takes both away can: so the keeper is on another
# node, and best on another hypervisor. Its own keys are not in the description: back up /var/lib/private/tang, or keep the
# recovery key of each machine that it opens.
let
  machine = more: {
    disks = [ { storage = "local-lvm"; size = "4G"; } ];
    install.iso = "local:iso/nixops-proxmox-installer.iso";
    memory = 1024;
  } // more;
in
{
  network.description = "an encrypted machine, and the keeper of its key";

  keeper = {
    deployment.proxmox = machine {
      node = "pve2";
      network = [ { bridge = "vmbr0"; ipv4 = { address = "192.0.2.5/24"; gateway = "192.0.2.1"; }; } ];
    };
    services.tang = {
      enable = true;
      ipAddressAllow = [ "192.0.2.0/24" ]; # its own address is in it, too: it is asked from there
    };
    networking.firewall.allowedTCPPorts = [ 7654 ];
    system.stateVersion = "24.11";
  };

  vault = {
    deployment.proxmox = machine {
      node = "pve1";
      network = [ { bridge = "vmbr0"; ipv4 = { address = "192.0.2.6/24"; gateway = "192.0.2.1"; }; } ];
      encryption = {
        unlock.tang = [ { machine = "keeper"; } ];
        unlock.tool = true; # beside it: `nixops-proxmox unlock vault`, when the keeper is down
        recovery.sink.folder = "/home/me/luks";
        recovery.header = true;
      };
    };
    system.stateVersion = "24.11";
  };
}
