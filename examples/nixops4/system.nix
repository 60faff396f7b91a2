# A system for trying it in the lab, where there is no nixpkgs: what it serves is its version.
{ version ? "1" }:
import ../demo/system.nix {
  name = "web";
  hosts = { };
  service = { port = 80; handler = "echo version ${version}"; };
}
