"""The scripts of a boot that is the only one, run by a real sh on a small tree that looks like a guest's root."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from typing_extensions import override

from nixops_proxmox.errors import ActivationFailed
from nixops_proxmox.model import Booted, OneBoot
from nixops_proxmox.nixeval.one_boot import GuestLoader
from tests.nixeval.test_activate import NIX_ENV, SmallGuest

LOADER = GuestLoader()
# As install-grub.pl writes it: the default, then all generations, the newest first.
WRITE_GRUB = """\
  header='if [ "${next_entry}" ]; then
  set default="${next_entry}"
  set next_entry=
  save_env next_entry
fi
function setup_gfx {
  insmod gfxterm
}'
  entry() {
    printf 'menuentry "%s" {\\nsearch --fs-uuid 1234\\n  linux /kernel init=%s/init quiet\\n}\\n\\n' "$1" "$2"
  }
  {
    echo "$header"
    entry "NixOS - Default" "$system"
    echo 'submenu "NixOS - All configurations" {'
    for link in $(ls -d PROFILE-*-link | sort -rV); do entry "NixOS - Configuration ($link)" "$(readlink "$link")"; done
    echo '}'
  } >ROOT/boot/grub/grub.cfg
"""
# As systemd-boot-builder.py and boot counting name them.
WRITE_SYSTEMD_BOOT = """\
  for link in PROFILE-*-link; do
    number=${link#PROFILE-} number=${number%-link}
    echo "options init=$(readlink "$link")/init quiet" >"ROOT/boot/loader/entries/nixos-generation-$number+3.conf"
    [ "$(readlink "$link")" != "$system" ] || echo "default nixos-generation-$number.conf" >ROOT/boot/loader/loader.conf
  done
"""
EDITENV = """\
#!/bin/sh
# As much of GRUB's own as is needed: FILE create | set NAME=VALUE | unset NAME | list.
case $2 in
  create) echo '# GRUB Environment Block' >"$1" ;;
  set) grep -v "^${3%%=*}=" "$1" >"$1.new"; echo "$3" >>"$1.new"; mv "$1.new" "$1" ;;
  unset) grep -v "^$3=" "$1" >"$1.new"; mv "$1.new" "$1" ;;
  list) grep -v '^#' "$1" ;;
esac
"""
BOOTCTL = """\
#!/bin/sh
case $1 in
  --print-boot-path) echo ROOT/boot ;;
  set-oneshot) if [ -n "$2" ]; then echo "$2" >VARIABLE; else rm -f VARIABLE; fi ;;
  *) exit 1 ;;
esac
"""
FINDMNT = '#!/bin/sh\ncase "$*" in *FSTYPE*) echo "${FSTYPE-ext4}" ;; *) echo "${SOURCE-/dev/sda2}" ;; esac\n'
SYSTEMCTL = '#!/bin/sh\nfor unit in ${DOWN-}; do echo "$unit loaded failed failed"; done\n'


@dataclass
class Bootable(SmallGuest):
    @override
    def start(self, script: str) -> "subprocess.Popen[bytes]":
        return super().start(re.sub(r"(?<![\w.}/])/(?=boot|efi|sys/|proc/)", f"{self.root}/", script))

    def install(self, name: str, menu: str) -> str:
        """A system whose `boot` writes this menu, with itself as the default."""
        system = self.root / "nix/store" / name
        (system / "bin").mkdir(parents=True)
        text = f'#!/bin/sh\nsystem={system}\n[ "$1" = boot ] || exit 9\n{self.moved(menu)}'
        (system / "bin/switch-to-configuration").write_text(text)
        (system / "bin/switch-to-configuration").chmod(0o755)
        return str(system)

    def moved(self, text: str) -> str:
        text = text.replace("PROFILE", str(self.profile)).replace("VARIABLE", str(self.variable))
        return text.replace("ROOT", str(self.root))

    @property
    def variable(self) -> Path:
        name = "LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
        return self.root / "sys/firmware/efi/efivars" / name

    def boots(self) -> tuple[str, str]:
        """What the boot loader would boot next, and what after that."""
        if (self.root / "boot/loader/loader.conf").exists():
            return self._entry(self.variable), self._default()
        entries = re.findall(r"init=(\S+)/init", (self.root / "boot/grub/grub.cfg").read_text())
        block = self.root / "boot/grub/grubenv"
        once = re.search(r"^next_entry=1>(\d+)$", block.read_text(), re.MULTILINE) if block.exists() else None
        return entries[1 + int(once[1])] if once else entries[0], entries[0]

    def _entry(self, variable: Path) -> str:
        if not variable.exists():
            return self._default()
        return self._init(variable.read_text().strip())

    def _default(self) -> str:
        return self._init((self.root / "boot/loader/loader.conf").read_text().split()[1])

    def _init(self, name: str) -> str:
        file = self.root / "boot/loader/entries" / name.replace(".conf", "+3.conf")
        found = re.search(r"init=(\S+)/init", file.read_text())
        assert found is not None
        return found[1]


def make_guest(root: Path, kind: str) -> Bootable:
    """It runs `one`, its first generation, which is the default of its boot loader."""
    for directory in ("bin", "run", "nix/var/nix/profiles", "nix/store", "proc/sys/kernel/random"):
        (root / directory).mkdir(parents=True)
    guest = Bootable(root)
    programs = {"nix-env": NIX_ENV, "findmnt": FINDMNT, "systemctl": SYSTEMCTL, "nix-store": "#!/bin/sh\nexit 1\n"}
    if kind == "GRUB":
        (root / "boot/grub").mkdir(parents=True)
        programs |= {"grub-editenv": EDITENV, "bootctl": "#!/bin/sh\nexit 1\n"}
    else:
        (root / "boot/loader/entries").mkdir(parents=True)
        guest.variable.parent.mkdir(parents=True)
        programs |= {"bootctl": guest.moved(BOOTCTL)}
    for name, text in programs.items():
        (root / "bin" / name).write_text(text)
        (root / "bin" / name).chmod(0o755)
    one = guest.install("one", menu_of(kind))
    guest.profile.with_name("system-1-link").symlink_to(one)
    guest.profile.symlink_to("system-1-link")
    boot(guest, one)
    subprocess.run([f"{one}/bin/switch-to-configuration", "boot"], check=True)
    return guest


def boot(guest: Bootable, system: str) -> None:
    for link in ("current-system", "booted-system"):
        (guest.root / "run" / link).unlink(missing_ok=True)
        (guest.root / "run" / link).symlink_to(system)
    number = len(list(guest.root.glob("boot-*"))) + 1
    (guest.root / f"boot-{number}").touch()
    (guest.root / "proc/sys/kernel/random/boot_id").write_text(f"boot-{number}\n")


def menu_of(kind: str) -> str:
    return WRITE_GRUB if kind == "GRUB" else WRITE_SYSTEMD_BOOT


@pytest.fixture(params=["GRUB", "systemd-boot"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def guest(tmp_path: Path, kind: str) -> Bootable:
    return make_guest(tmp_path, kind)


def test_the_next_boot_takes_it_and_the_one_after_takes_the_system_before(guest: Bootable, kind: str) -> None:
    one, two = str(guest.root / "nix/store/one"), guest.install("two", menu_of(kind))
    for _ in range(2):  # a run that was killed does it again
        staged = LOADER.stage(two, guest)
        assert (staged.loader, staged.why) == (kind, "") and staged.generation >= 2
        assert guest.boots() == (two, one)
        assert os.path.realpath(guest.profile) == one


def test_systemd_boot_is_told_nothing_where_the_firmware_forgets_it(guest: Bootable, kind: str) -> None:
    one, two = str(guest.root / "nix/store/one"), guest.install("two", menu_of(kind))
    staged = LOADER.stage(two, guest, forgets=True)
    if kind == "GRUB":
        assert guest.boots() == (two, one)
    else:
        assert "has no EFI disk" in staged.why and not guest.profile.with_name("system-2-link").is_symlink()
        assert guest.boots() == (one, one)


def test_what_is_taken_back_is_not_booted(guest: Bootable, kind: str) -> None:
    one, two = str(guest.root / "nix/store/one"), guest.install("two", menu_of(kind))
    LOADER.stage(two, guest)
    for _ in range(2):
        LOADER.unstage(guest)
        assert guest.boots() == (one, one)


def test_what_is_kept_is_the_default_and_the_current_generation(guest: Bootable, kind: str) -> None:
    two = guest.install("two", menu_of(kind))
    staged = LOADER.stage(two, guest)
    with pytest.raises(ActivationFailed, match="it was not booted"):
        LOADER.keep(two, guest)
    boot(guest, two)
    assert LOADER.booted(guest) == Booted("boot-2", two)
    for _ in range(2):
        assert LOADER.keep(two, guest) == staged.generation
    LOADER.unstage(guest)
    assert guest.boots() == (two, two) and os.path.realpath(guest.profile) == two


def test_units_that_are_down_before_and_after_are_told(tmp_path: Path) -> None:
    guest = make_guest(tmp_path, "GRUB")
    guest.environment = {"DOWN": "old.service bad;name"}
    staged = LOADER.stage(guest.install("two", WRITE_GRUB), guest)
    assert (staged.failed, LOADER.booted(guest).failed) == (("old.service",), ("old.service",))


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"FSTYPE": "zfs"}, "GRUB cannot write to ROOT/boot/grub: its file system is zfs"),
        ({"SOURCE": "/dev/mapper/vg-root"}, "GRUB cannot write to ROOT/boot/grub: it is on LVM, RAID or an encrypted"),
    ],
)
def test_a_grub_that_could_not_clear_the_entry_gets_none(tmp_path: Path, environment: dict[str, str], why: str) -> None:
    guest = make_guest(tmp_path, "GRUB")
    guest.environment = environment
    two = guest.install("two", WRITE_GRUB)
    staged = LOADER.stage(two, guest)
    assert staged.why.startswith(why.replace("ROOT", str(tmp_path))) and staged.generation == 0
    assert not guest.profile.with_name("system-2-link").exists()


def spoil(guest: Bootable, how: str) -> None:
    grub = guest.root / "boot/grub"
    match how:
        case "menu":
            (grub / "grub.cfg").write_text("menuentry {\n}\n")
        case "loader":
            (grub / "grub.cfg").unlink()
        case "generation":
            guest.profile.with_name("system-1-link").unlink()
        case "system":
            (guest.root / "run/current-system").unlink()


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("menu", "its GRUB configuration takes no entry for one boot"),
        ("loader", "it has neither systemd-boot nor GRUB"),
        ("generation", "the system that runs is no generation, so no boot loader can go back to it"),
        ("system", "it runs no system to go back to"),
    ],
)
def test_why_there_is_no_such_boot_is_told_and_nothing_is_done(tmp_path: Path, how: str, why: str) -> None:
    guest = make_guest(tmp_path, "GRUB")
    two = guest.install("two", WRITE_GRUB)
    spoil(guest, how)
    assert LOADER.stage(two, guest) == OneBoot(why=why)
    assert not guest.profile.with_name("system-2-link").exists()


def test_a_boot_loader_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    guest = make_guest(tmp_path, "GRUB")
    (guest.root / "nix/store/one/bin/switch-to-configuration").write_text("#!/bin/sh\necho no space left\nexit 1\n")
    with pytest.raises(ActivationFailed, match="no space left"):
        LOADER.stage(guest.install("two", WRITE_GRUB), guest)
    with pytest.raises(ActivationFailed, match="not in the store of the guest"):
        LOADER.stage("/nix/store/missing", guest)
