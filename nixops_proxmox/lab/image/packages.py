"""What the installer image is made of: Debian packages, what is left out of them, and the kernel modules kept.

Versions are whatever the suite has when the image is built; the names here are part of the image's content hash.
"""

SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
SECURITY_MIRROR = "http://deb.debian.org/debian-security"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# linux-image-cloud: LZ4 compressed, boots 3 s sooner under TCG than the XZ of linux-image-amd64. The suite's own has no
# ahci, by which a q35 shows its ide and sata drives, and refuses another flavour's; the next suite's has it.
KERNEL = "linux-image-cloud-amd64"
KERNEL_SUITE = "trixie"

PACKAGES = (
    f"{KERNEL}/{KERNEL_SUITE}",
    # a system
    "busybox-static",  # PID 1, udhcpc, acpid, httpd: systemd costs 10 s more to boot under TCG
    "bash",
    "coreutils",
    "util-linux",
    "mount",
    "sed",
    "grep",
    "gawk",
    "findutils",
    "tar",
    "gzip",
    "hostname",
    "procps",
    "kmod",
    "udev",  # /dev/disk/by-id
    "curl",
    "ca-certificates",
    "iproute2",
    "iputils-ping",
    "jq",  # network.json in 50 ms; Python takes a second to start without KVM
    # ways in
    "openssh-server",
    "openssh-client",
    "openssh-sftp-server",
    "qemu-guest-agent",
    # disks
    "gdisk",
    "fdisk",
    "parted",
    "e2fsprogs",
    "dosfstools",
    "btrfs-progs",
    "xfsprogs",
    "cryptsetup-bin",
    "lvm2",
    "mdadm",
    # keys of encrypted disks
    "clevis",
    "clevis-tpm2",
    "jose",
    "tang-common",
    "tpm2-tools",
    # Nix
    "nix-bin",
    "zstd",
    # boot loaders: on the image itself (isolinux, GRUB) and for what it installs (extlinux, systemd-boot)
    "isolinux",
    "syslinux-common",
    "extlinux",
    "grub-efi-amd64-bin",
    "systemd-boot",  # bootctl, too
    "efibootmgr",
)

# Dependencies that only matter to maintainer scripts, which are never run here.
LEFT_OUT = (
    "adduser",
    "cpio",
    "cracklib-runtime",
    "cron",
    "debconf",
    "dpkg",
    "file",
    "grub-common",
    "initramfs-tools",
    "initramfs-tools-core",
    "klibc-utils",
    "libklibc",
    "libluksmeta0",
    "libmagic-mgc",
    "libmagic1",
    "linux-base",
    "linux-image-cloud-amd64",
    "login",
    "luksmeta",
    "passwd",
    "perl",
    "perl-base",
    "sensible-utils",
    "ucf",
)
LEFT_OUT_PREFIXES = (
    "libpwquality",
    "libdbi-perl",
    "libperl",
    "perl-modules",
    "liblocale-gettext",
    "libpython3",
    "python3",
)

TRIMMED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/fonts",
    "usr/share/common-licenses",
    "usr/share/initramfs-tools",
    "usr/share/perl5",
    "usr/lib/syslinux/modules/efi32",
    "usr/lib/syslinux/modules/efi64",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/debug",
    "usr/lib/systemd/system",
    "usr/lib/grub",
    "usr/lib/udev/hwdb.d",
    "etc/cron.d",
    "etc/cron.daily",
    "etc/init.d",
    *(f"etc/rc{level}.d" for level in "0123456S"),
    "etc/runit",
    "etc/sv",
    "etc/ufw",
    "etc/dpkg",
    "etc/apt",
    "etc/skel",
    "etc/update-motd.d",
    "etc/security",
    "etc/pam.d",
    "etc/ca-certificates",
    "etc/default",
    "etc/systemd",
)

# Reading rules takes udev longer than applying them: those for disks are kept, and the one that loads drivers.
UDEV_RULES = (
    "50-udev-default.rules",
    "55-dm.rules",
    "56-lvm.rules",
    "60-block.rules",
    "60-cdrom_id.rules",
    "60-persistent-storage.rules",
    "60-persistent-storage-dm.rules",
    "63-md-raid-arrays.rules",
    "64-btrfs.rules",
    "64-btrfs-dm.rules",
    "69-lvm.rules",
    "80-drivers.rules",
    "95-dm-notify.rules",
)

# 31 MiB that Nix's libraries are linked with and never read. As zeros they take no room, on the CD and on every disk.
ZEROED = ("usr/lib/x86_64-linux-gnu/libicudata.so.*.*",)

# Loaded by the first stage, before any root file system is there.
BOOT_MODULES = (
    "virtio_pci",
    "virtio_scsi",
    "virtio_blk",
    "sd_mod",
    "sr_mod",
    "ata_piix",
    "ahci",
    "ata_generic",
    "loop",
    "isofs",
    "squashfs",
    "overlay",
    "ext4",
)
# In the larger archive of the first stage. Only systems load it whose root is not plain ext4 on a partition: the others
# boot as quickly as without it.
ROOT_MODULES = (
    "btrfs",
    "xfs",
    "dm_mod",
    "dm_crypt",
    "xts",
    "ecb",
    "essiv",
    "cbc",
    "sha256_generic",
    "aesni_intel",
    "md_mod",
    "raid0",
    "raid1",
    "raid10",
    "raid456",
)
# Programs in that archive, with the libraries that they are linked with.
ROOT_TOOLS = ("usr/sbin/lvm", "usr/sbin/cryptsetup", "usr/sbin/mdadm")
# In the running system.
SYSTEM_MODULES = (
    "virtio_net",
    "virtio_console",
    "virtio_rng",
    "virtio_balloon",
    "virtio_input",
    "evdev",
    "button",
    "vfat",
    "fat",
    "nls_cp437",
    "nls_ascii",
    "nls_iso8859-1",
    "nls_utf8",
    "efivarfs",
    "8021q",
    "bridge",
    "tun",
    "veth",
    "dm_snapshot",
    "dm_thin_pool",
    "dm_mirror",
    "nvme",
    "tpm_tis",
    "tpm_crb",
    "fuse",
    "qemu_fw_cfg",
    "e1000",
    "nf_tables",
)
