# Makes the names of disk-links.rules in a system that runs: udev looks at new rules only when a disk changes.
for disk in /sys/block/sd*; do
  case $(cat "$disk/device/vendor" 2>/dev/null) in QEMU*) ;; *) continue ;; esac
  serial=$(tail -c +5 "$disk/device/vpd_pg80" 2>/dev/null | tr -cd 'A-Za-z0-9_.-')
  [ -n "$serial" ] || continue
  mkdir -p /dev/disk/by-id
  name=/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_$serial
  [ -e "$name" ] || ln -sfn "../../${disk##*/}" "$name"
  for part in "$disk/${disk##*/}"[0-9]*; do
    [ -e "$part/partition" ] || continue
    number=$(cat "$part/partition")
    [ -e "$name-part$number" ] || ln -sfn "../../${part##*/}" "$name-part$number"
  done
done
