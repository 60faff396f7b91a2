# Machines in a network where every MAC must be registered. Somebody has registered a few, and keeps them in a list that
# the developers share. A deploy takes an entry for each machine, writes that down in the list, and says how to commit it.
let
  machine = {
    deployment.proxmox = {
      disks = [ { storage = "local-lvm"; size = "2G"; } ];
      install = { iso = "local:iso/lab-installer.iso"; method = "configuration"; };
      memory = 256;
      network = [ { bridge = "vmbr0"; pool = "campus"; } ];
    };
  };
in
{
  network.description = "machines with registered MACs";

  # The path stays a path: the list is not copied into the Nix store.
  resources.macPools.campus.file = ./machines.yml;

  pvm003 = machine; # takes the entry that carries its name
  ci = machine; # takes the first free one
}
