# Makes a derivation of a shell script: `builder "name" { VARIABLE = "value"; } "script that writes $out"`.
#
# A sandboxed build sees the store and nothing of this machine, not even /bin/sh. So the shell and its tools are one static
# busybox, which Nix copies into the store. Configurations that use nixpkgs do not need this: their tools are in the store.
let
  named = builtins.getEnv "DEMO_BUSYBOX";
  # Debian's package `busybox` needs libraries, which no sandbox has; its package `busybox-static` needs none.
  isStatic = !builtins.pathExists "/var/lib/dpkg/info/busybox.list";
  places = if named != "" then [ named ] else if isStatic then [ "/usr/bin/busybox" "/bin/busybox" ] else [ ];
  found = builtins.filter builtins.pathExists places;
  missing = throw (
    "the demo's systems are built by a static busybox, and there is none on this machine: install it "
    + "(Debian: apt-get install busybox-static), or name its file in the environment: DEMO_BUSYBOX=/path/to/busybox"
  );
  file = if found == [ ] then missing else builtins.head found;

  # A folder with this one file: busybox looks at the name by which it is called.
  shell = builtins.path {
    name = "busybox";
    path = dirOf file;
    filter = path: _: baseNameOf path == baseNameOf file;
  };
  busybox = "${shell}/${baseNameOf file}";
  prepare = ''
    export PATH=$NIX_BUILD_TOP/.tools
    ${busybox} mkdir -p $PATH
    ${busybox} --install -s $PATH
  '';
in
# Scripts end with `:`, because Nix 2.8 kills a builder whose last command closes its output early.
name: environment: text: derivation ({
  inherit name;
  system = builtins.currentSystem;
  builder = busybox;
  args = [ "sh" "-euc" "${prepare}${text}\n:" ];
  allowSubstitutes = false; # no binary cache has it: do not ask
  preferLocalBuild = true;
} // environment)
