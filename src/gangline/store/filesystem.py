"""Which file system a folder is on, and whether locks and links can be relied on there.

Everything here stands on flock(2), which proves life, and on link(2), which decides who was first.
Over a network both are emulated, differently by each server and each mount option: a lock that two
machines, or even one, hold at the same time would let an issue run twice. File systems made for
other systems have no links at all. So the type of the mount is asked, before anything is written.

Nothing is tried out: a mount is read from the kernel's own table, which answers also while the
server behind it does not. What is not in the list is taken for fit.
"""

import os
import re

_UNFIT = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "9p", "afpfs", "afs", "ncpfs"),
        *("webdav", "davfs", "ftp", "acfs", "beegfs", "vboxsf", "vmhgfs", "prl_fs", "drvfs"),
        *("vfat", "msdos", "exfat", "fuse.exfat"),  # link(2) is refused
    }
)
# Behind these a program answers; most of those that reach over a network know no locks.
_UNFIT_FUSE = re.compile(
    r"(fuse|macfuse|osxfuse)\."
    r"(sshfs|rclone|s3fs|gcsfuse|goofys|mount-s3|davfs2?|curlftpfs|smbnetfs|google-drive-ocamlfuse"
    r"|encfs|vmhgfs-fuse|gvfsd-fuse|portal|afpfs|httpfs2?)\Z"
)
_OCTAL = re.compile(rb"\\([0-7]{3})")
_OF_MOUNT_PROGRAM = re.compile(r"^.+? on (/.*) \(([^,()]+)[^()]*\)$", re.MULTILINE)
_PROGRAM_SECONDS_MAX = 5.0


def unfit_for_locks(path: str) -> str | None:
    """The type of the file system that holds `path`, if locks or links cannot be relied on there.

    Args:
        path: Any path; what of it is not there yet would be made on the same file system.

    Returns:
        Such as `nfs4`; None where the file system is fit, or nobody can tell.
    """
    kind = file_system_type(path)
    return kind if kind is not None and is_unfit(kind) else None


def is_unfit(kind: str) -> bool:
    """Whether a file system of this type, as the kernel calls it, is unfit."""
    return kind in _UNFIT or _UNFIT_FUSE.match(kind) is not None


def file_system_type(path: str) -> str | None:
    """The type of the file system that holds `path`, as the kernel calls it; None if unknown."""
    path = os.path.realpath(path)
    if os.uname().sysname == "Linux":
        try:
            with open("/proc/self/mountinfo", "rb") as file:
                return type_from_mountinfo(file.read(), os.fsencode(path))
        except OSError:
            return None
    return type_from_mount_program(_mount_program(), path)


def type_from_mountinfo(text: bytes, path: bytes) -> str | None:
    """The type of the mount that a path is on, from /proc/self/mountinfo (proc_pid_mountinfo(5)).

    The path is walked as the kernel does: from the root mount into the first mount upon it that the
    path meets, and so on. The longest mount point alone would be wrong where one mount hides
    another below it.

    Args:
        text: `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG…] - TYPE SOURCE OPTIONS` a line; blanks
            in a point are octal escapes.
        path: Absolute, without symbolic links.
    """
    upon: dict[bytes, list[tuple[bytes, bytes, str]]] = {}  # by parent: id, point, type
    for line in text.split(b"\n"):
        head, separator, tail = line.partition(b" - ")
        fields = head.split(b" ")
        if not separator or len(fields) < 6:
            continue
        point = _OCTAL.sub(lambda match: bytes((int(match[1], 8) & 0xFF,)), fields[4])
        kind = tail.partition(b" ")[0].decode("ascii", "replace")
        if _is_within(path, point):
            upon.setdefault(fields[1], []).append((fields[0], point, kind))
    ids = {number for mounts in upon.values() for number, _, _ in mounts}
    met = [mount for parent in upon.keys() - ids for mount in upon[parent]]
    found = None
    while met:
        number, _, found = min(met, key=lambda mount: len(mount[1]))
        met = upon.pop(number, [])
    return found


def _is_within(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def type_from_mount_program(text: str, path: str) -> str | None:
    """The type of the mount that a path is on, from the output of `mount` of macOS and the BSDs.

    Args:
        text: `SOURCE on POINT (TYPE, OPTION, …)` a line.
        path: Absolute, without symbolic links.
    """
    within = [
        (len(match[1]), match[2].strip())
        for match in _OF_MOUNT_PROGRAM.finditer(text)
        if _is_within(os.fsencode(path), os.fsencode(match[1]))
    ]
    return max(within, key=lambda each: each[0])[1] if within else None


def _mount_program() -> str:
    import subprocess  # noqa: PLC0415 - not needed on Linux

    try:
        done = subprocess.run(
            ["mount"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROGRAM_SECONDS_MAX,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return os.fsdecode(done.stdout)
