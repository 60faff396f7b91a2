# The tool as a package; `withLab` adds what the lab needs.
{ lib, python3Packages, openssh, nix, withLab ? true }:

python3Packages.buildPythonApplication {
  pname = "nixops-proxmox";
  version = "0.2.0";
  pyproject = true;

  src = lib.cleanSourceWith {
    src = ../.;
    filter = path: type:
      let name = baseNameOf path; in
      lib.cleanSourceFilter path type && !(lib.elem name [ "tests" "docs" "__pycache__" ]) && !(lib.hasSuffix ".egg-info" name);
  };

  build-system = [ python3Packages.setuptools ];

  dependencies = with python3Packages; [
    proxmoxer requests requests-toolbelt urllib3 websocket-client paramiko pynacl cryptography pydantic sqlalchemy rich pluggy
    typeguard typing-extensions platformdirs pyotp tomlkit ruamel-yaml jsonpatch jsonpointer shtab psycopg
  ] ++ lib.optionals withLab [ aiohttp asyncssh qemu-qmp ];

  # Nix of the system is preferred, for it must fit the daemon.
  makeWrapperArgs = [ "--suffix PATH : ${lib.makeBinPath [ openssh nix ]}" ];

  # scripts/test runs them; they want namespaces and a Nix of their own.
  doCheck = false;
  pythonImportsCheck = [ "nixops_proxmox" "nixops_proxmox.cli" ];

  meta = {
    description = "Describe NixOS machines in Nix, get them installed and reachable on Proxmox VE";
    license = lib.licenses.lgpl3Plus;
    mainProgram = "nixops-proxmox";
    platforms = lib.platforms.linux;
  };
}
