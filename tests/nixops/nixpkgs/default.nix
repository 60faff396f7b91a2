# Stands in for nixpkgs where none is at hand: its real `lib` (as <nixpkgs-lib>), and as much of the rest as NixOps's own
# modules need to build a small system with /bin/sh.
{ system ? builtins.currentSystem, ... }:

let
  lib = import <nixpkgs-lib>;

  # Builders end with `:`, because Nix 2.8 kills a builder whose last command closes its output early.
  runCommand = name: environment: text: derivation ({
    inherit name system;
    builder = "/bin/sh";
    args = [ "-euc" "${text}\n:" ];
    PATH = "/run/current-system/sw/bin:/usr/bin:/bin";
    allowSubstitutes = false;
    preferLocalBuild = true;
  } // environment);
in
{
  inherit lib runCommand system;
  path = ./.;
  writeText = name: text: runCommand name { inherit text; } ''printf '%s' "$text" > $out'';
  inotify-tools = runCommand "inotify-tools" { } "mkdir $out";
}
