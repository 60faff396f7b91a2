{
  description = "Describe NixOS machines in Nix, get them installed and reachable on Proxmox VE";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      each = make: nixpkgs.lib.genAttrs systems (system: make system nixpkgs.legacyPackages.${system});

      installer = system: fileSystems: (nixpkgs.lib.nixosSystem {
        inherit system;
        modules = [ ./nix/installer-iso.nix { installer = { inherit fileSystems; }; } ];
      }).config.system.build.isoImage;
    in
    {
      packages = each (system: pkgs: rec {
        nixops-proxmox = pkgs.callPackage ./nix/package.nix { };
        installer-iso = installer system [ ];
        installer-iso-zfs = installer system [ "zfs" ];
        container-template = (nixpkgs.lib.nixosSystem {
          inherit system;
          modules = [ ./nix/container-template.nix ];
        }).config.system.build.tarball;
        default = nixops-proxmox;
      });

      # For `nixops.withPlugins (_: [ nixops-proxmox.nixopsPlugin.${system} ])`: the same code as a Python module.
      nixopsPlugin = each (system: pkgs: pkgs.python3Packages.toPythonModule self.packages.${system}.nixops-proxmox);

      nixosModules = rec {
        proxmox = ./nix/proxmox.nix;
        gateway = ./nix/gateway.nix; # services.nixops-proxmox.gateway, beside the module `proxmox`
        keys = ./nix/keys.nix; # deployment.keys, beside the module `proxmox`, where NixOps does not declare them itself
        installer = ./nix/installer-iso.nix;
        container-template = ./nix/container-template.nix;
        default = proxmox;
      };

      # For NixOps 4: `providers.proxmox = nixops-proxmox.modules.nixops4Provider.default;`
      modules.nixops4Provider = rec {
        proxmox = import ./nix/provider.nix { inherit self; };
        default = proxmox;
      };

      # A NixOS configuration's `deployment.proxmox`, for the `proxmox` of NixOps 4's `vm`.
      lib.hardwareOf = nixos: import ./nix/export.nix nixos.config.deployment.proxmox;

      overlays.default = final: _prev: {
        nixops-proxmox = final.callPackage ./nix/package.nix { };
      };

      apps = each (system: pkgs: rec {
        nixops-proxmox = {
          type = "app";
          program = "${self.packages.${system}.nixops-proxmox}/bin/nixops-proxmox";
          meta.description = "The tool";
        };
        lab = {
          type = "app";
          program = "${pkgs.writeShellScript "nixops-proxmox-lab" ''exec ${nixops-proxmox.program} lab "$@"''}";
          meta.description = "A Proxmox VE cluster in a box";
        };
        default = nixops-proxmox;
      });

      devShells = each (_: pkgs: { default = import ./nix/shell.nix { inherit pkgs; }; });

      # What scripts/check and scripts/test run, as far as a build's sandbox allows (no network, no namespaces).
      checks = each (system: pkgs:
        let
          tools = pkgs.python3.withPackages (packages: with packages; [
            mypy pytest pytest-timeout pytest-xdist hypothesis jsonschema types-requests types-paramiko
          ] ++ self.packages.${system}.nixops-proxmox.dependencies);
          run = name: inputs: script: pkgs.runCommand "nixops-proxmox-${name}" { nativeBuildInputs = inputs; } ''
            cp -r ${self} source && chmod -R u+w source && cd source
            export HOME=$TMPDIR
            ${script}
            touch $out
          '';
        in
        {
          package = self.packages.${system}.nixops-proxmox;
          format = run "format" [ pkgs.ruff ] "ruff format --check --no-cache .";
          lint = run "lint" [ pkgs.ruff ] "ruff check --no-cache .";
          types = run "types" [ tools ] "mypy";
          tests = run "tests" [ tools pkgs.nix pkgs.openssh ] ''
            export NIXOPS_PROXMOX_NIXPKGS=${nixpkgs} NIX_CONFIG="substituters ="
            python -m pytest -n 2 --dist loadgroup -m "not netns and not qemu and not nixops" tests
          '';
        });

      templates.default = {
        path = ./nix/template;
        description = "A starter network with one machine";
      };
    };
}
