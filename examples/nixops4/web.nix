# The machine, as for every other way to deploy it: its hardware and its system in one place.
{
  deployment.proxmox = {
    profile = "default"; # see `nixops-proxmox profile`
    disks = [ { storage = "local-lvm"; size = "16G"; } ];
    install.iso = "local:iso/nixops-proxmox-installer.iso";
    memory = 2048;
    network = [ { bridge = "vmbr0"; } ];
  };

  services.nginx.enable = true;
  networking.firewall.allowedTCPPorts = [ 80 ];
  system.stateVersion = "25.11";
}
