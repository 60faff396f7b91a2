"""Machines whose new system breaks what it is told to break."""

BEGIN = """\
let
  from = name: default: let value = builtins.getEnv name; in if value == "" then default else value;
  builder = import DEMO/builder.nix;
  broken = from "BREAK" "";
  base = import DEMO/system.nix {
    name = "web";
    hosts = { };
    service = { port = if broken == "ILL" then 81 else 80; handler = "echo version ${from "VERSION" "1"}"; };
  };
"""


def _begin(ill: str) -> str:
    """`ill`: the word with which the service answers at another port than it is asked at."""
    return BEGIN.replace("ILL", ill)


# BREAK: what the system's activation breaks. As on NixOS, each system puts right what it declares: sshd's configuration
# and the links.
BREAKING = (
    _begin(ill="service")
    + """\
  breaks = {
    sshd = "echo NoSuchOption yes >>/etc/ssh/sshd_config; kill -9 $(pidof sshd)";
    network = ''for link in /sys/class/net/e*; do ip link set "''${link##*/}" down; done'';
    connection = "kill -9 $(pidof sshd)";
    supervisor = "kill -9 $(cat /run/nixops-proxmox/probation/pid)";
    both = "kill -9 $(cat /run/nixops-proxmox/probation/pid) $(cat /run/nixops-proxmox/probation/keeper)";
    machine = "reboot; sleep 60";
    status = "exit 3";
  };
in
{
  web = {
    deployment.proxmox = {
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      install.iso = "local:iso/lab-installer.iso";
      memory = 512;
      network = [ { bridge = "vmbr0"; } ];
      deploy = {
        probation = builtins.fromJSON (from "PROBATION" "10");
        snapshot = from "SNAPSHOT" "" != "";
        health.http = [ { port = 80; } ];
        health.units = [ "web.service" ];
        health.command = "true";
      };
    };
    toplevel = builder "web-${broken}" { } ''
      cp -a ${base} $out
      chmod -R u+w $out
      sed -i "s|${base}|$out|g" $out/activate $out/bin/switch-to-configuration
      cat >>$out/activate <<'EOF'
      [ ! -e /etc/ssh/sshd_config ] || sed -i /NoSuchOption/d /etc/ssh/sshd_config
      for link in /sys/class/net/e*; do ip link set "''${link##*/}" up; done
      [ "$(readlink -f /run/current-system)" != "$(dirname "$0")" ] || exit 0
      ${breaks.${broken} or ""}
      EOF
    '';
  };
}
"""
)

# The same for a system that has another kernel, so that only a boot takes it up. BREAK: what its boot does.
KERNELS = (
    _begin(ill="ill")
    + """\
  kernel = builder "linux-6.12.${from "VERSION" "1"}" { } ''mkdir $out; head -c 1000 /dev/zero >$out/bzImage'';
  breaks = { panic = "reboot; sleep 60"; hang = "sleep 3600"; };
in
{
  web = {
    deployment.proxmox = {
      disks = [ { storage = "local-lvm"; size = "1G"; } ];
      install.iso = "local:iso/lab-installer.iso";
      memory = 512;
      network = [ { bridge = "vmbr0"; } ];
      deploy = { probation = builtins.fromJSON (from "PROBATION" "3"); health.http = [ { port = 80; } ]; };
      MORE
    };
    toplevel = builder "web-${from "VERSION" "1"}-${broken}" { } ''
      cp -a ${base} $out
      chmod -R u+w $out
      sed -i "s|${base}|$out|g" $out/activate $out/bin/switch-to-configuration
      ln -s ${kernel}/bzImage $out/kernel
      cat >>$out/activate <<'EOF'
      ${breaks.${broken} or ""}
      EOF
    '';
  };
}
"""
)
