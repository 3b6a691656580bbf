"""Names that no application can have, because every Debian has them, or this role.

What else a host has is found when it is looked at.
"""

from __future__ import annotations

# Its uv and its caches are in /usr/local/lib and /var/cache under this name.
OWN = "gunicorn_fastapi"

# With their rights, or with another's.
USERS_AND_GROUPS = """
    adm audio backup bin cdrom clock crontab daemon dialout dip disk fax floppy games input irc kmem kvm list lp mail
    man messagebus netdev news nobody nogroup operator plugdev polkitd proxy render root sasl sgx shadow src ssh sshd
    staff sudo sync sys systemd tape tty users utmp uucp video voice wheel
"""

# NAME.service, NAME.socket, NAME.slice, and what a drop-in of NAME.service.d would change.
UNITS = """
    basic bluetooth capsule console cron cryptdisks cryptsetup dbus default emergency exit final fstrim getty graphical
    halt hibernate hwclock init initrd integritysetup kexec kmod ldconfig machine machines network networking nss paths
    poweroff printer procps quotaon rc reboot remote rescue rpcbind rsyslog runlevel shutdown sigpwr sleep slices
    smartcard sockets sound suspend swap sysinit syslog system time timers udev umount user veritysetup
"""

# NAMEctl.
COMMANDS = """
    bus hostname journal locale login network sys system timedate varlink wd zram
"""

# In /opt, /var/lib, /var/cache, /run and /usr/local/lib.
DIRECTORIES = """
    adduser alternatives apt aptitude blkid credentials credstore dbus debconf dpkg initctl initramfs insserv ldconfig
    lock log logrotate man misc mount nologin pam polkit private python python3 runit shm sshd sudo systemd ucf udev
    user utmp wtmpdb
"""

TAKEN = frozenset(f"{OWN} {USERS_AND_GROUPS} {UNITS} {COMMANDS} {DIRECTORIES}".split())
