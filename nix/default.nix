# The plugin as NixOps 2 reads it. It wants a plain attribute set with exactly these three.
{
  # Imported into every machine of a deployment, whatever its backend: see the guard in the module.
  options = [
    ./proxmox.nix
    ./gateway.nix
    ({ config, lib, name, uuid, ... }: {
      deployment.proxmox.guest.serialsFrom = lib.mkDefault "${uuid}/${name}";
      deployment.proxmox.guest.volumes = lib.mapAttrs (_: lib.mkDefault)
        (import ./volume-paths.nix { identity = uuid; names = config.deployment.proxmox.volumes; });
    })
  ];

  # Merged into what NixOps knows of each machine.
  config_exporters = { optionalAttrs, ... }: [
    (config: optionalAttrs (config.deployment.targetEnv == "proxmox") {
      proxmox = import ./export.nix config.deployment.proxmox;
    })
  ];

  resources = { evalResources, resourcesByType, zipAttrs, ... }:
    let
      kinds = builtins.attrNames (builtins.fromJSON (builtins.readFile ./kinds.json));
      described = module: option: evalResources module (zipAttrs (resourcesByType.${option} or [ ]));
    in
    { volumes = described ./volume.nix "volumes"; }
    // builtins.listToAttrs (map (option: { name = option; value = described (import ./thing.nix option) option; }) kinds);
}
