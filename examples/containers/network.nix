# Two containers, made from one template: `nix build .#container-template` makes it, and the first deploy uploads it.
{
  network.description = "containers";

  defaults = {
    deployment.proxmox = {
      kind = "container";
      memory = 512;
      network = [{ bridge = "vmbr0"; }];
      container = {
        template = "./result/tarball/nixops-proxmox-container-x86_64-linux.tar.xz";
        root = { storage = "local-lvm"; size = "8G"; };
      };
    };
    system.stateVersion = "24.11";
  };

  web = { };

  db = {
    # Its data has a volume of its own, which grows by itself.
    deployment.proxmox.container.mounts = [{ path = "/var/lib/postgresql"; storage = "local-lvm"; size = "20G"; }];
    services.postgresql.enable = true;
  };
}
