# A system in the shape of NixOS's, made by a shell script: `activate`, `bin/switch-to-configuration`, and a service.
# Stands in for `(import <nixpkgs/nixos> { }).system` where there is no nixpkgs.
{ name, service, hosts ? { } }:
let
  make = title: import ./builder.nix "${name}-${title}" { };

  # What a service says is in the service's own store path: it is restarted if that has changed, and only then.
  run = make "service" ''
    mkdir -p $out/bin
    cp ${builtins.toFile "${name}-handler" "#!/bin/sh\n${service.handler}"} $out/bin/handler
    printf '#!/bin/sh\nexec serve-http %s %s\n' ${toString service.port} $out/bin/handler > $out/bin/${name}
    chmod 0555 $out/bin/*
  '';

  hostsFile = builtins.toFile "hosts" (
    "127.0.0.1 localhost\n::1 localhost\n"
    + builtins.concatStringsSep "" (
      map (host: "${hosts.${host}.ipv6} ${host}\n${hosts.${host}.ipv4} ${host}\n") (builtins.attrNames hosts)
    )
  );
in
make "system" ''
  mkdir -p $out/bin $out/etc $out/services
  ln -s ${hostsFile} $out/etc/hosts
  ln -s ${run}/bin/${name} $out/services/${name}
  echo demo > $out/nixos-version
  echo ${builtins.currentSystem} > $out/system
  sed "s|@system@|$out|" ${./activate.sh} > $out/activate
  sed "s|@system@|$out|" ${./switch-to-configuration.sh} > $out/bin/switch-to-configuration
  chmod 0555 $out/activate $out/bin/switch-to-configuration
''
