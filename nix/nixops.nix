# The `deployment.*` options that NixOps declares, for networks written for it that our own command line evaluates. What
# `deployment.proxmox` does not cover has no effect there; it only must not be an error.
{ lib, ... }:

let
  inherit (lib) mkOption types;
  accepted = type: default: description: mkOption { inherit type default description; };
in
{
  options.deployment = {
    targetEnv = accepted types.str "proxmox" "The backend; machines of others are left alone.";
    targetHost = accepted (types.nullOr types.str) null "Not used: addresses are found.";
    targetPort = accepted types.int 22 "Not used: see `deployment.proxmox.ssh.port`.";
    targetUser = accepted (types.nullOr types.str) null "Who logs in, unless `deployment.proxmox.ssh.user` says another user.";
    sshOptions = accepted (types.listOf types.str) [ ] "Not used: see `deployment.proxmox.ssh.options`.";
    provisionSSHKey = accepted types.bool true "Not used.";
    privilegeEscalationCommand = accepted (types.listOf types.str) [ ] "Not used.";
    alwaysActivate = accepted types.bool true "Not used.";
    owners = accepted (types.listOf types.str) [ ] "Not used.";
    hasFastConnection = accepted types.bool false "Not used.";
    storeKeysOnMachine = accepted types.bool false "Not used.";
    autoLuks = accepted (types.attrsOf types.anything) { } "Not used.";
  };
  options.networking = {
    privateIPv4 = accepted (types.nullOr types.str) null "The address that NixOps found.";
    publicIPv4 = accepted (types.nullOr types.str) null "The address that NixOps found.";
  };
}
