# Disks and NICs by slot, as the specification gives the slots out.
{ cfg, lib }:

let
  # The entries in their order, each with its slot.
  placed = prefixOf: entries:
    if builtins.isAttrs entries then map (slot: entries.${slot} // { inherit slot; }) (builtins.attrNames entries)
    else
      let
        asked = builtins.filter (slot: slot != null) (map (entry: entry.slot) entries);
        free = prefix: taken: lib.findFirst (slot: !(lib.elem slot taken)) (throw "too many disks or NICs on ${prefix}")
          (map (number: "${prefix}${toString number}") (lib.range 0 31));
        place = done: entry:
          let slot = if entry.slot != null then entry.slot else free (prefixOf entry) (asked ++ map (one: one.slot) done);
          in done ++ [ (entry // { inherit slot; }) ];
      in
      lib.foldl' place [ ] entries;
  bySlot = prefixOf: entries:
    builtins.listToAttrs (map (entry: { name = entry.slot; value = entry; }) (placed prefixOf entries));
  busOf = disk: if disk.bus == null then "scsi" else disk.bus;
in
{
  disks = bySlot busOf cfg.disks;
  # All but the first, which has the root.
  dataDisks = let inOrder = placed busOf cfg.disks; in if inOrder == [ ] then [ ] else builtins.tail inOrder;
  nics = bySlot (_: "net") cfg.network;

  numberOf = prefix: slot: lib.toInt (lib.removePrefix prefix slot);
}
