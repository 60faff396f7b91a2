{
  description = "Machines on Proxmox VE";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    nixops-proxmox.url = "github:RaitoBezarius/nixops-proxmox";
    nixops-proxmox.inputs.nixpkgs.follows = "nixpkgs";
  };

  # nixops-proxmox deploy
  outputs = { nixpkgs, ... }: {
    nixopsConfigurations.default = {
      inherit nixpkgs;
      network.description = "Machines on Proxmox VE";

      # What all machines have in common.
      defaults = {
        system.stateVersion = "25.11";
        deployment.targetEnv = "proxmox";
        deployment.proxmox = {
          profile = "default"; # see `nixops-proxmox profile`
          install.iso = "local:iso/nixops-proxmox-installer.iso";
          network.net0.bridge = "vmbr0";
          memory = 2048;
          cpu.cores = 2;
        };
      };

      web = { pkgs, ... }: {
        deployment.proxmox.disks.scsi0 = { storage = "local-lvm"; size = "16G"; };
        services.nginx.enable = true;
        networking.firewall.allowedTCPPorts = [ 80 ];
        environment.systemPackages = [ pkgs.htop ];
      };
    };
  };
}
