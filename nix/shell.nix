# What scripts/check and scripts/test use; they make their Python environment themselves.
{ pkgs }:

pkgs.mkShell {
  packages = with pkgs; [ python3 python3Packages.virtualenv nix openssh shellcheck git postgresql qemu xorriso iproute2 dnsmasq ];
}
