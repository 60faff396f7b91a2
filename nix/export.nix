# From the module's `config.deployment.proxmox` to what Python's specification reads: without what is not set, without the
# old names (their values stand under the new ones), and without what is only for the guest.
proxmox:

let
  inherit (builtins) attrNames filter isAttrs isList listToAttrs map mapAttrs removeAttrs;

  old = {
    machine = [
      "nbCpus" "nbCores" "cpuType" "cpuLimit" "cpuUnits" "startOnBoot" "protectVM" "hotplugFeatures" "installISO" "partitions"
      "uefi" "usePrivateIPAddress" "verifySSL" "useSSH"
    ];
    disk = [ "volume" "enableSSDEmulation" "enableDiscard" ];
    nic = [ "ip" ];
    ip = [ "prefixLength" ];
  };

  set = value: listToAttrs (map (name: { inherit name; value = value.${name}; }) (filter (name: value.${name} != null) (attrNames value)));

  each = change: entries: if isList entries then map change entries else mapAttrs (_: change) entries;

  disk = entry: set (removeAttrs entry old.disk);
  ip = value: if isAttrs value then set (removeAttrs value old.ip) else value;
  nic = entry: set (removeAttrs entry old.nic // { ipv4 = ip entry.ipv4; ipv6 = ip entry.ipv6; });

  deeply = value:
    if isAttrs value then mapAttrs (_: deeply) (set value) else if isList value then map deeply value else value;

  container = entry: set entry // { mounts = each set entry.mounts; };

  section = name: value:
    if name == "encryption" then deeply value
    else if name == "install" && value.cloudInit != null then set value // { cloudInit = set value.cloudInit; }
    else if name == "container" then container value
    else if isAttrs value && name != "disks" && name != "network" then set value else value;
in
mapAttrs section (set (removeAttrs proxmox (old.machine ++ [ "guest" ]))) // {
  disks = each disk proxmox.disks;
  network = each nic proxmox.network;
}
