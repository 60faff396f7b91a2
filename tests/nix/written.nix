# What people read and copy (examples, the template, the documents' networks and flakes), evaluated as they would: each
# machine with what NixOS refuses, whether it says system.stateVersion, and the description that our own code reads.
{ nixpkgs, file }:

let
  rig = import ./rig.nix { inherit nixpkgs; };
  inherit (rig) lib;
  evalConfig = import (nixpkgs + "/nixos/lib/eval-config.nix");

  inputs = {
    nixpkgs = { outPath = nixpkgs; lib = lib // { nixosSystem = given: evalConfig ({ system = null; } // given); }; };
    nixops-proxmox = {
      nixosModules.default = ../../nix/proxmox.nix;
      lib.hardwareOf = nixos: import ../../nix/export.nix nixos.config.deployment.proxmox;
      modules.nixops4Provider.default = { };
    };
    nixops4.lib.mkRoot = root: root;
  };

  written = import file;
  outputs = written.outputs (inputs // { self = outputs; });

  network = given: (import ../../nix/eval.nix ({ inherit nixpkgs; system = "x86_64-linux"; } // given)).nodes;
  systems =
    if !(builtins.isAttrs written && written ? outputs) then network { networkExpr = file; }
    else if outputs ? nixosConfigurations then outputs.nixosConfigurations
    else network { networkExpr = ./flake-network.nix; args = { flake = file; inherit inputs; }; };

  told = system: {
    failed = map (one: one.message) (builtins.filter (one: !one.assertion) system.config.assertions);
    evaluates = system.config.system.build.toplevel.drvPath != "";
    saysStateVersion = system.options.system.stateVersion.highestPrio < (lib.mkOptionDefault null).priority;
    proxmox = import ../../nix/export.nix system.config.deployment.proxmox;
  };
in
builtins.mapAttrs (_: told) systems
