"""Metadata, entry points, and the Nix files as package data. Tool settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

LAB = [
    "aiohttp>=3.9",  # the lab's API server: PVE puts its messages into the HTTP reason phrase, which aiohttp can set
    "asyncssh>=2.14",  # the simulated guests' SSH servers: thousands of them on one event loop
    "qemu.qmp>=0.0.3",  # QEMU's own monitor client: drives real guests
]
SITE = [  # pinned: the theme's script is looked at for what it would fetch from elsewhere
    "mkdocs==1.6.1",
    "mkdocs-material==9.8.2",
    "pymdown-extensions==13.1.2",
]
RECORD = ["termtosvg-ng==1.4.1"]  # draws recordings of the terminal

setup(
    name="nixops-proxmox",
    version="0.2.0",
    description="Describe NixOS machines in Nix, get them installed and reachable on Proxmox VE",
    long_description=Path("README.md").read_text(encoding="utf-8") if Path("README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="LGPL-3.0-or-later",
    python_requires=">=3.11",
    packages=[*find_packages(include=["nixops_proxmox", "nixops_proxmox.*"]), "nixops_proxmox.nix"],
    package_dir={"nixops_proxmox.nix": "nix"},
    package_data={
        "nixops_proxmox": ["py.typed"],
        "nixops_proxmox.nix": ["*.nix", "**/*.nix", "*.json", "*.rules", "**/*.sh"],
        "nixops_proxmox.lab": ["guestfs/bin/*", "image/overlay/**/*"],  # what goes into guests
    },
    data_files=[  # where man and the shells look
        ("share/man/man1", ["man/nixops-proxmox.1"]),
        ("share/bash-completion/completions", ["share/completions/nixops-proxmox"]),
        ("share/zsh/site-functions", ["share/completions/_nixops-proxmox"]),
        ("share/fish/vendor_completions.d", ["share/completions/nixops-proxmox.fish"]),
    ],
    install_requires=[
        "proxmoxer>=2.2.0",  # the ecosystem's PVE client
        "requests>=2.31",  # the HTTP APIs of routers; we mount our own trust on it
        "urllib3>=2.0",  # proxmoxer's transport: connections with our own trust
        "requests-toolbelt>=1.0",  # the body of an upload, read as it is sent
        "paramiko>=3.4",  # SSH with host-key control in our hands
        "PyNaCl>=1.5",  # host keys as recipients of age; paramiko has it, too
        "cryptography>=42",  # keys, certificates
        "pydantic>=2.6",  # parsing at the door, with messages that name the place
        "SQLAlchemy>=2.0.25",  # SQLite and PostgreSQL by one path
        "typing-extensions>=4.10",  # `override`, which Python has from 3.12 on
        "rich>=13.7",  # progress and tables on a terminal
        "pluggy>=1.3",  # NixOps 2's plugin hooks
        "typeguard>=4.1",  # NixOps 2 validates its options with it
        "websocket-client>=1.7",  # PVE's terminals are websockets; it takes a connection that we have verified
        "platformdirs>=4.0",  # the user's folders
        "pyotp>=2.9",  # the second factor of a login
        "tomlkit>=0.13",  # profiles are written into the user's file, with comments and order kept
        "ruamel.yaml>=0.18",  # lists of MAC addresses that people keep as YAML: which line says what
        "jsonpatch>=1.48",  # NixOps 4 sends changes of its state as patches
        "jsonpointer>=2.4",  # paths in them
        "shtab>=1.7",  # shell completion from the argument parser
    ],
    extras_require={
        "lab": LAB,
        "postgres": ["psycopg[binary]>=3.1.18"],  # a team's shared state
        "site": SITE,
        "record": [*LAB, *RECORD],
        "dev": [
            *LAB,
            *SITE,
            "psycopg[binary]>=3.1.18",
            "pytest>=8.0",
            "pytest-xdist>=3.5",
            "pytest-timeout>=2.2",
            "pytest-rerunfailures>=14.0",  # CI tries a test on real processes again before it calls it failed
            "hypothesis>=6.98",
            "mypy>=1.10",
            "ruff>=0.6",
            "import-linter>=2.1",
            "jsonschema>=4.21",
            "setuptools>=70.1",  # the packaging test builds a wheel
            "prometheus-pve-exporter>=3.4",  # two clients that nobody here wrote, run against the lab
            "ansible-core>=2.17",
            "fakepve>=0.5",  # a PVE server that nobody here wrote, run in a process of its own
            "types-jsonschema>=4.21",
            "types-requests>=2.31",
            "types-paramiko>=3.4",
        ],
    },
    entry_points={
        "console_scripts": [
            "nixops-proxmox = nixops_proxmox.__main__:start",
            "nixops4-resources-proxmox = nixops_proxmox.nixops4.provider:main",
        ],
        "nixops": ["proxmox = nixops_proxmox.nixops2.plugin"],
    },
)
