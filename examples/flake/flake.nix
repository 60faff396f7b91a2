{
  description = "Machines on Proxmox VE, as a flake";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-24.11";

  # nixops-proxmox deploy --flake .
  outputs = { nixpkgs, ... }: {
    nixopsConfigurations.default = {
      inherit nixpkgs;
      network.description = "one machine, to begin with";

      hello = {
        deployment.proxmox = {
          disks = [ { storage = "local-lvm"; size = "8G"; } ];
          memory = 1024;
          network = [ { bridge = "vmbr0"; } ];
          install.iso = "local:iso/nixos-installer.iso";
        };
        system.stateVersion = "24.11";
      };
    };
  };
}
