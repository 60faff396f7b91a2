# Disks and NICs by slot, as the specification gives the slots out.
{ cfg, lib }:

let
  bySlot = prefixOf: entries:
    if builtins.isAttrs entries then lib.mapAttrs (slot: entry: entry // { inherit slot; }) entries
    else
      let
        asked = builtins.filter (slot: slot != null) (map (entry: entry.slot) entries);
        free = prefix: taken: lib.findFirst (slot: !(lib.elem slot taken)) (throw "too many disks or NICs on ${prefix}")
          (map (number: "${prefix}${toString number}") (lib.range 0 31));
        place = done: entry:
          let slot = if entry.slot != null then entry.slot else free (prefixOf entry) (asked ++ builtins.attrNames done);
          in done // { ${slot} = entry // { inherit slot; }; };
      in
      lib.foldl' place { } entries;
in
{
  disks = bySlot (disk: if disk.bus == null then "scsi" else disk.bus) cfg.disks;
  nics = bySlot (_: "net") cfg.network;

  numberOf = prefix: slot: lib.toInt (lib.removePrefix prefix slot);
}
