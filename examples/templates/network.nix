# Machines from a template that Packer or `qm` made, as handbooks of machine controllers say it:
#
#     qm create 9000 -name base
#     qm importdisk 9000 image.qcow2 local-lvm
#     qm set 9000 -scsihw virtio-scsi-pci -scsi0 local-lvm:vm-9000-disk-0 -ide2 local-lvm:cloudinit
#     qm set 9000 -boot c -bootdisk scsi0 -serial0 socket -vga serial0 -net0 virtio,bridge=vmbr0 -agent 1
#     qm template 9000
#
# Others configure them (`toplevel = null`): we make them reachable, with a host key that is known. The first is a linked clone,
# and the second has a disk of its own. Where storages are not shared, each node may have a template of that name.
let
  clone = address: install: {
    toplevel = null;
    deployment.proxmox = {
      agent = false; # cloud-init tells the machine who it is, so it needs no guest agent
      disks = [ { storage = "local-lvm"; size = "512M"; } ];
      memory = 512;
      network = [ { bridge = "vmbr0"; ipv4 = { inherit address; gateway = "10.77.0.1"; }; } ];
      install = { from = "template"; template = "base"; identity = "cloud-init"; } // install;
    };
  };
in
{
  network.description = "two machines from a template";

  runner = clone "10.77.0.61/24" { };
  cache = clone "10.77.0.62/24" { fullClone = true; };
}
