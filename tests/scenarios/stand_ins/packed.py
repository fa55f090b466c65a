# SPDX-License-Identifier: Apache-2.0
"""Give an ELF program the looks of one that an executable packer has made: packed.py IN OUT

No section headers, the packer's marks, and a bulk of compressed bytes. It runs as before.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib

LOADER_MARK = b"UPX!"
INFO = b"\n\0$Info: This file is packed with the UPX executable packer http://upx.sf.net $\n\0"
ID = b"$Id: UPX 4.24 Copyright (C) 1996-2024 the UPX Team. All Rights Reserved. $\n\0"
PT_NOTE, PT_NULL = 4, 0


def main() -> None:
    source, target = sys.argv[1:]
    with open(source, "rb") as file:
        image = bytearray(file.read())
    bulk = zlib.compress(bytes(image), 9)
    struct.pack_into("<Q", image, 40, 0)  # e_shoff
    struct.pack_into("<HHH", image, 58, 0, 0, 0)  # e_shentsize, e_shnum, e_shstrndx
    (start,) = struct.unpack_from("<Q", image, 32)
    size, count = struct.unpack_from("<HH", image, 54)
    for at in range(start, start + size * count, size):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", image, at)
        if kind == PT_NOTE and length >= 12:  # the mark stands where UPX leaves it: soon after the headers
            struct.pack_into("<I", image, at, PT_NULL)
            image[offset : offset + 12] = b"\xd2\x0f\x0d\x16" + LOADER_MARK + b"\x50\x09\x0d\x16"
            break
    with open(target, "wb") as file:
        file.write(image + INFO + ID + bulk + LOADER_MARK + bytes(28) + LOADER_MARK)
    os.chmod(target, 0o755)


if __name__ == "__main__":
    main()
