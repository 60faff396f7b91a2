# A system in the shape of NixOS's, of Debian's programs and shell scripts: services, commands, users, and their
# environment. Like system.nix, with more in it. `parts`: folders of programs; `folders`: where in a part they are, beside
# the usual places; `library`: what all scripts of the machine read first.
{ name, title, hosts, parts, services, commands ? { }, environment ? { }, users ? { }, folders ? [ ], library }:
let
  inherit (builtins) attrNames concatStringsSep map toFile;
  make = what: import ./builder.nix "${name}-${what}" { };

  paths = below: concatStringsSep ":" (map (part: "${part}/${below}") parts);
  variables = {
    PATH = concatStringsSep ":" (map paths ([ "usr/bin" "usr/sbin" ] ++ folders)) + ":$PATH";
    LD_LIBRARY_PATH = paths "usr/lib/x86_64-linux-gnu";
    PARTS = concatStringsSep " " (map (part: "${part}") parts);
    LC_ALL = "C";
  } // environment;

  prelude = toFile "${name}-environment" (
    concatStringsSep "" (map (key: "export ${key}=\"${variables.${key}}\"\n") (attrNames variables))
    + builtins.readFile library
  );
  script = called: file: toFile called "#!/bin/sh\nexport LIBRARY=${prelude}\n. $LIBRARY\n. ${file}\n";

  hostsFile = toFile "hosts" (
    "127.0.0.1 localhost\n::1 localhost\n"
    + concatStringsSep "" (
      map (host: "${hosts.${host}.ipv6} ${host}\n${hosts.${host}.ipv4} ${host}\n") (attrNames hosts)
    )
  );
  addUsers = concatStringsSep "" (map
    (user:
      let id = toString users.${user}; in ''
        grep -q '^${user}:' /etc/passwd || echo '${user}:x:${id}:${id}::/var/lib/${user}:/bin/sh' >>/etc/passwd
        grep -q '^${user}:' /etc/group || echo '${user}:x:${id}:' >>/etc/group
      '')
    (attrNames users));
  activate = toFile "${name}-activate" ''
    #!/bin/sh
    set -eu
    cp ${hostsFile} /etc/.hosts.new
    chmod 0644 /etc/.hosts.new
    mv /etc/.hosts.new /etc/hosts
    ${addUsers}
    sed -i 's/^\(keys:[^:]*:[^:]*\):.*/\1:${concatStringsSep "," (attrNames users)}/' /etc/group # they may read theirs
  '';
  install = folder: files: concatStringsSep "" (map
    (called: "cp ${script called files.${called}} $out/${folder}/${called}\n")
    (attrNames files));

  # A service is restarted if its own store path has changed, and only then: each is one.
  service = called: file: make called ''
    mkdir -p $out/bin
    cp ${script called file} $out/bin/${called}
    chmod 0555 $out/bin/${called}
  '';
in
make "system" ''
  mkdir -p $out/bin $out/etc $out/services $out/sw/bin
  ln -s ${hostsFile} $out/etc/hosts
  ${concatStringsSep "" (map (called: "ln -s ${service called services.${called}}/bin/${called} $out/services/${called}\n") (attrNames services))}
  ${install "sw/bin" commands}
  echo ${title} > $out/nixos-version
  echo ${builtins.currentSystem} > $out/system
  cp ${activate} $out/activate
  sed "s|@system@|$out|" ${./switch-to-configuration.sh} > $out/bin/switch-to-configuration
  chmod 0555 $out/activate $out/bin/switch-to-configuration
  for file in $out/sw/bin/*; do [ ! -e $file ] || chmod 0555 $file; done
''
