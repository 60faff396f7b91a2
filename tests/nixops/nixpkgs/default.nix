# Stands in for nixpkgs where none is at hand: its real `lib` (as <nixpkgs-lib>), and as much of the rest as NixOps's own
# modules need to build a small system with a shell script.
{ system ? builtins.currentSystem, ... }:

let
  lib = import <nixpkgs-lib>;

  runCommand = name: environment: import ../../../examples/demo/builder.nix name ({ inherit system; } // environment);
in
{
  inherit lib runCommand system;
  path = ./.;
  writeText = name: text: runCommand name { inherit text; } ''printf '%s' "$text" > $out'';
  writeScript = name: text: runCommand name { inherit text; } ''printf '%s' "$text" > $out; chmod 0555 $out'';
  runtimeShell = "/bin/sh";
  postgresql_16 = runCommand "postgresql" { } "mkdir $out";
  inotify-tools = runCommand "inotify-tools" { } "mkdir $out";
  tpm2-tools = runCommand "tpm2-tools" { } "mkdir $out";
}
