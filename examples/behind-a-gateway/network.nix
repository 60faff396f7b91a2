# Where every address on the campus needs paperwork, one machine has an address, and the others stand behind it: on a
# bridge that no cable leads to. The gateway routes for them, is their name server, and lets people in by SSH and HTTP.
#
# One deploy makes all of it: the gateway first, then what is behind it. Behind a second gateway is a network that has IPv6
# alone. The addresses are the lab's. Real machines need a real installer and a NixOS in NIX_PATH:
#
#     nixops-proxmox deploy -f examples/behind-a-gateway/network.nix
let
  machine = more: { ... }: {
    deployment.proxmox = {
      disks = [ { storage = "local-lvm"; size = "2G"; } ];
      install.iso = "local:iso/lab-installer.iso"; # the lab puts it there
      memory = 512;
    } // more;
    system.stateVersion = "24.11";
  };

  behind = gate: network: machine {
    network = [ network ];
    endpoint.through = gate; # the way to it, and what a deploy makes ready first
  };
in
{
  network.description = "machines behind a gateway";

  gate = { ... }: {
    imports = [
      (machine {
        network = [
          { bridge = "vmbr0"; }
          { bridge = "vmbr1"; ipv4 = "10.77.1.1/24"; ipv6 = "none"; }
        ];
      })
    ];
    services.nixops-proxmox.gateway = {
      enable = true;
      dhcp.domain = "inside.example.org";
      web."www.example.org".to = "web";
      web."builds.example.org" = { to = [ "ci-1" "ci-2" ]; port = 8080; };
    };
  };

  web = behind "gate" { bridge = "vmbr1"; ipv4 = { address = "10.77.1.10/24"; gateway = "10.77.1.1"; }; };
  ci-1 = behind "gate" { bridge = "vmbr1"; ipv4 = { address = "10.77.1.11/24"; gateway = "10.77.1.1"; }; };
  ci-2 = behind "gate" { bridge = "vmbr1"; ipv4 = { address = "10.77.1.12/24"; gateway = "10.77.1.1"; }; };

  # The second gateway stands behind the first.
  cellar = { ... }: {
    imports = [
      (machine {
        network = [
          { bridge = "vmbr1"; ipv4 = { address = "10.77.1.20/24"; gateway = "10.77.1.1"; }; }
          { bridge = "vmbr4"; ipv4 = "none"; ipv6 = "fd77:77:4::1/64"; }
        ];
        endpoint.through = "gate";
      })
    ];
    services.nixops-proxmox.gateway = {
      enable = true;
      ipv6.mode = "nat66";
    };
  };

  vault = behind "cellar" { bridge = "vmbr4"; ipv4 = "none"; ipv6 = { address = "fd77:77:4::10/64"; gateway = "fd77:77:4::1"; }; dns = [ "fd77:77:4::1" ]; };
}
