"""Which file systems are fit for locks and links, from what the kernel's mount table says."""

import os

import pytest

from gangline.store.filesystem import (
    file_system_type,
    is_unfit,
    type_from_mount_program,
    type_from_mountinfo,
    unfit_for_locks,
)

MOUNTINFO = rb"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
30 27 0:40 / /data rw,relatime shared:12 - nfs4 server:/export/data rw,vers=4.2
31 30 0:41 / /data/me/fast rw,nosuid shared:3 master:1 - xfs /dev/vdb rw
32 27 0:42 / /mnt/with\040blank\011tab\134 rw - cifs //server/share rw
33 27 0:43 /sub /mnt/host rw,relatime - 9p hostshare rw,trans=virtio
34 27 0:44 / /mnt/remote rw - fuse.sshfs me@server:/ rw,user_id=0
35 27 0:45 / /database rw - btrfs /dev/vdc rw
36 27 0:46 / /net rw - autofs systemd-1 rw
37 36 0:47 / /net rw - nfs server:/net rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (b"/", "ext4"),
        (b"/srv/project/.workspace", "ext4"),
        (b"/data", "nfs4"),
        (b"/data/you/project", "nfs4"),
        (b"/data/me/fast/project", "xfs"),
        (b"/data/me/faster", "nfs4"),  # a prefix of letters is not a folder
        (b"/database/project", "btrfs"),
        (b"/mnt/with blank\ttab\\/project", "cifs"),
        (b"/mnt/with", "ext4"),
        (b"/mnt/host/project", "9p"),
        (b"/mnt/remote/project", "fuse.sshfs"),
        (b"/net/project", "nfs"),  # mounted upon what asks for it
    ],
)
def test_type_is_that_of_the_mount_the_path_walks_into(path, kind):
    assert type_from_mountinfo(MOUNTINFO, path) == kind


def test_mount_that_is_hidden_by_a_later_one_does_not_count():
    hidden = MOUNTINFO + b"40 27 0:50 / /data rw - nfs4 other:/data rw\n"
    covered = hidden.replace(b"40 27", b"40 30")  # upon /data: hides /data/me/fast as well
    assert type_from_mountinfo(covered, b"/data/me/fast/project") == "nfs4"


def test_table_without_a_root_is_told_as_far_as_it_goes():
    assert type_from_mountinfo(b"31 30 0:41 / /jail rw - xfs /dev/vdb rw\n", b"/jail/a") == "xfs"
    assert type_from_mountinfo(b"31 30 0:41 / /jail rw - xfs /dev/vdb rw\n", b"/other") is None


@pytest.mark.parametrize("text", [b"", b"\n", b"nonsense", b"1 2 3 - ", b"\xff\xfe - \xff\n"])
def test_table_that_is_not_understood_is_unknown(text):
    assert type_from_mountinfo(text, b"/srv") is None


MOUNT_PROGRAM = """\
/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
devfs on /dev (devfs, local, nobrowse)
/dev/disk3s5 on /System/Volumes/Data (apfs, local, journaled, nobrowse)
//me@server/share on /Volumes/share (old) (smbfs, nodev, nosuid, mounted by me)
server:/export on /Volumes/export (nfs)
me@server on data:/ on /Volumes/on (macfuse.sshfs, nodev)
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "apfs"),
        ("/dev/null", "devfs"),
        ("/Volumes/share (old)/project", "smbfs"),
        ("/Volumes/export/project", "nfs"),
        ("/Volumes/exports", "apfs"),
    ],
)
def test_type_is_read_from_the_mount_program(path, kind):
    assert type_from_mount_program(MOUNT_PROGRAM, path) == kind


def test_mount_program_that_says_nothing_leaves_it_unknown():
    assert type_from_mount_program("", "/") is None


@pytest.mark.parametrize(
    "kind",
    ["nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afpfs", "webdav", "vfat", "exfat",
     "fuse.sshfs", "macfuse.sshfs", "fuse.rclone", "fuse.davfs2"],
)  # fmt: skip
def test_network_and_linkless_file_systems_are_unfit(kind):
    assert is_unfit(kind)


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "apfs", "fuse.mergerfs", "fuseblk"]
)
def test_local_file_systems_are_fit(kind):
    assert not is_unfit(kind)


@pytest.mark.skipif(not os.path.exists("/proc/self/mountinfo"), reason="asks Linux")
def test_real_table_names_the_file_systems_of_this_machine(tmp_path):
    assert file_system_type("/proc/self") == "proc"
    assert unfit_for_locks("/proc/self") is None
    missing = tmp_path / "not" / "there" / "yet"
    assert file_system_type(str(missing)) == file_system_type(str(tmp_path)) is not None


def test_symbolic_link_is_followed_to_where_it_leads(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("/proc")
    if os.path.exists("/proc/self/mountinfo"):
        assert file_system_type(str(link / "self")) == "proc"
    else:
        assert file_system_type(str(link)) == file_system_type("/")
