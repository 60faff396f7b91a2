{
  description = "A machine on Proxmox VE, by NixOps 4";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    nixops4.url = "github:nixops4/nixops4";
    nixops-proxmox.url = "github:RaitoBezarius/nixops-proxmox";
    nixops-proxmox.inputs.nixpkgs.follows = "nixpkgs";
  };

  # nixops4 apply
  outputs = { self, nixpkgs, nixops4, nixops-proxmox }: {
    nixosConfigurations.web = nixpkgs.lib.nixosSystem {
      system = "x86_64-linux";
      modules = [ nixops-proxmox.nixosModules.default ./web.nix ];
    };

    nixops4 = nixops4.lib.mkRoot {
      modules = [
        { providers.proxmox = nixops-proxmox.modules.nixops4Provider.default; }
        (import ./deployment.nix {
          hardware = nixops-proxmox.lib.hardwareOf self.nixosConfigurations.web;
          system = "${self.nixosConfigurations.web.config.system.build.toplevel}";
        })
      ];
    };
  };
}
