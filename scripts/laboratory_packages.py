"""The parts of the lab's laboratory: 34 MiB of Debian's packages, of which 80 MiB are kept."""

from debian_parts import LIBRARIES, Part

# keepalived can tell SNMP what it does, so it is linked with that, and with what that is linked with. Real guests lack
# most of these libraries.
SNMP = ("libsnmp40", "libsensors5", "libpci3", "libperl5.36", "libwrap0", "libnsl2", "libtirpc3", "libssl3")
NETLINK = ("libnl-3-200", "libnl-genl-3-200", "libmnl0", "libnftnl11")
NAMES = (
    "libnetfilter-conntrack3",
    "libnfnetlink0",
    "libidn2-0",
    "libunistring2",
    "libhogweed6",
    "libnettle8",
    "libgmp10",
)

PARTS = {
    "keepalived": Part(
        ("keepalived", *NETLINK, *SNMP, "libglib2.0-0"),
        ("usr/sbin/keepalived", f"{LIBRARIES}/*.so.*", "lib/x86_64-linux-gnu/*.so.*"),
    ),
    "haproxy": Part(
        ("haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1", "libssl3"),
        ("usr/sbin/haproxy", f"{LIBRARIES}/*.so.*"),
    ),
    "dnsmasq": Part(
        ("dnsmasq-base", *NAMES, *NETLINK, "libdbus-1-3", "libnftables1", "libxtables12", "libjansson4", "liblua5.4-0"),
        ("usr/sbin/dnsmasq", f"{LIBRARIES}/*.so.*", "lib/x86_64-linux-gnu/*.so.*"),
    ),
    "prometheus": Part(("prometheus",), ("usr/bin/prometheus",)),
}
