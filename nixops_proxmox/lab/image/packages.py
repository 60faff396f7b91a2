"""What the installer image is made of: Debian packages, what is left out of them, and the kernel modules kept.

Versions are whatever the suite has when the image is built; the names here are part of the image's content hash.
"""

SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
SECURITY_MIRROR = "http://deb.debian.org/debian-security"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# linux-image-cloud: LZ4 compressed, boots 3 s sooner under TCG than the XZ of linux-image-amd64. It has no ahci.
KERNEL = "linux-image-cloud-amd64"

PACKAGES = (
    KERNEL,
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
    "python3-minimal",
    "libpython3-stdlib",
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
    # Nix
    "nix-bin",
    "zstd",
    # boot loaders: on the image itself (isolinux, GRUB) and for what it installs (extlinux, systemd-boot)
    "isolinux",
    "syslinux-common",
    "extlinux",
    "grub-efi-amd64-bin",
    "systemd-boot-efi",
    "efibootmgr",
)

# Dependencies that only matter to maintainer scripts, which are never run here.
LEFT_OUT = (
    "adduser",
    "cpio",
    "cron",
    "debconf",
    "dpkg",
    "grub-common",
    "initramfs-tools",
    "initramfs-tools-core",
    "klibc-utils",
    "libklibc",
    "libpython3.11",
    "linux-base",
    "linux-image-cloud-amd64",
    "login",
    "passwd",
    "perl",
    "perl-base",
    "sensible-utils",
    "ucf",
)
LEFT_OUT_PREFIXES = ("libdbi-perl", "libperl", "perl-modules", "liblocale-gettext")

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
    "usr/share/python3/debpython",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/debug",
    "usr/lib/systemd/system",
    "usr/lib/grub",
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
    "etc/python3.11",
    "etc/default",
    "etc/systemd",
)

# Loaded by the first stage, before any root file system is there.
BOOT_MODULES = (
    "virtio_pci",
    "virtio_scsi",
    "virtio_blk",
    "sd_mod",
    "sr_mod",
    "ata_piix",
    "ata_generic",
    "loop",
    "isofs",
    "squashfs",
    "overlay",
    "ext4",
)
# In the first stage, loaded when the root file system asks for them.
ROOT_MODULES = ("btrfs", "xfs", "dm_mod")
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
    "dm_crypt",
    "dm_mod",
    "dm_snapshot",
    "dm_thin_pool",
    "dm_mirror",
    "xts",
    "ecb",
    "essiv",
    "cbc",
    "sha256_generic",
    "aesni_intel",
    "raid1",
    "raid0",
    "nvme",
    "tpm_tis",
    "tpm_crb",
    "fuse",
    "qemu_fw_cfg",
    "e1000",
    "nf_tables",
)
