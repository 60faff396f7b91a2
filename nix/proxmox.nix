# The NixOS module: `deployment.proxmox.*`, and what it configures in the guest. It does nothing to machines of other
# backends; where `deployment.targetEnv` does not exist (a flake without NixOps), importing it is what says "proxmox".
{ config, lib, options, ... }:

let
  inherit (lib) mkDefault mkIf mkMerge setAttrByPath;

  declarations = import ./options.nix { inherit lib; };
  inherit (declarations) renamed replaced secrets;

  cfg = config.deployment.proxmox;

  isOurs = if options.deployment ? targetEnv then config.deployment.targetEnv == "proxmox" else true;

  # NixOps's own word for who logs in.
  user = if options.deployment ? targetUser then config.deployment.targetUser else null;

  used = names: builtins.filter (name: cfg.${name} != null) (builtins.attrNames names);

  moved = name: mkIf (cfg.${name} != null) (setAttrByPath renamed.${name}.to cfg.${name});

  uefi = if cfg.uefi == null then { enable = false; volume = null; } else cfg.uefi;
in
{
  imports = [ ./guest.nix ];

  options.deployment.proxmox = declarations.options // declarations.renamedOptions // replaced // secrets;

  config = mkMerge [
    {
      deployment.proxmox = mkMerge (map moved (builtins.attrNames renamed) ++ [
        { efi = mkIf (uefi.enable == true) { storage = uefi.volume; }; }
        { bios = mkIf (cfg.efi != null) (mkDefault "ovmf"); }
        { ssh.user = mkIf (user != null && user != "root") (mkDefault user); }
        {
          endpoint.reaches = mkIf (cfg.usePrivateIPAddress != null)
            (mkDefault (if cfg.usePrivateIPAddress then [ "private" ] else [ "public" "private" ]));
        }
      ]);
    }

    (mkIf isOurs {
      warnings =
        map (name: "deployment.proxmox.${name} is now called deployment.proxmox.${builtins.concatStringsSep "." renamed.${name}.to}")
          (used renamed)
        ++ lib.optional (cfg.uefi != null) "deployment.proxmox.uefi is now called deployment.proxmox.efi"
        ++ lib.optional (cfg.usePrivateIPAddress != null) "deployment.proxmox.usePrivateIPAddress is now called deployment.proxmox.endpoint.reaches"
        ++ lib.optional (cfg.verifySSL == false) "deployment.proxmox.verifySSL has no effect: certificates are always verified; a self-signed one goes into the profile"
        ++ lib.optional (cfg.useSSH == true) "deployment.proxmox.useSSH has no effect: the API is spoken to over HTTPS";

      assertions = map
        (name: {
          assertion = cfg.${name} == null;
          message = "deployment.proxmox.${name} is a secret, and whatever is set in Nix ends up in the store, which everybody can read: it goes into the profile file";
        })
        (builtins.attrNames secrets);

      # Weaker than a user's word, stronger than nixos-generate-config's.
      nixpkgs = lib.mkIf (cfg.arch != null) (
        if options.nixpkgs ? hostPlatform then { hostPlatform = lib.mkOverride 900 "${cfg.arch}-linux"; }
        else { system = lib.mkOverride 900 "${cfg.arch}-linux"; }
      );
    })
  ];
}
