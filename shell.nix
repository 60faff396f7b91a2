# The developers' shell, for those without flakes: nix-shell
{ pkgs ? import <nixpkgs> { } }:

import ./nix/shell.nix { inherit pkgs; }
