"""What a DHCP server or a name server is told of one NIC."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Reservation:
    """`owner`: `DEPLOYMENT/MACHINE.SLOT`. `mac`: lower case. Addresses are without a prefix, and empty if there is
    none. `hostname`: with a domain or without one."""

    owner: str
    mac: str
    ipv4: str = ""
    ipv6: str = ""
    hostname: str = ""

    @property
    def label(self) -> str:
        """The host name without its domain."""
        return self.hostname.partition(".")[0]

    @property
    def key(self) -> str:
        """A name that no other NIC of the deployment has, for systems that want one."""
        return self.owner.rpartition("/")[2].removesuffix(".net0").replace(".", "-")

    def full_name(self, domain: str) -> str:
        """`domain`: of a name that has none."""
        return self.hostname if "." in self.hostname or not domain else f"{self.hostname}.{domain}"
